"""Getting the official files of a data set.

A file downloaded before is used again. Otherwise these sources are tried in turn:

1. the folder or URL in the environment variable STILLHOUSE_MIRROR, which holds `<data set>/<official file>`;
2. the repository's own copy, `data/embedded/<data set>/`;
3. the official address and public mirrors.

Files of a folder are read where they lie. A public address must give the published checksum. A copy in a mirror may be
packed otherwise than the official file, so there the fingerprint of the decoded data decides (`identity`).
"""

import hashlib
import logging
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
import urllib3
from tqdm import tqdm

from stillhouse.errors import UserError

MIRROR = "STILLHOUSE_MIRROR"
EMBEDDED = Path("data/embedded")
_TIMEOUT = (5, 30)  # seconds: to connect, and between two pieces of data
_ATTEMPTS = 5  # per address; each goes on where the one before was cut off
_PIECE = 1 << 20  # bytes

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RemoteFile:
    """One official file of a data set.

    name      the official file name
    folder    the data set's folder in a mirror
    urls      official address first, then public mirrors
    checksum  as published, "md5:..." or "sha256:..."; empty if none is
    exact     the checksum is the only proof of the data, so copies in mirrors must match it too
    """

    name: str
    folder: str
    urls: tuple[str, ...]
    checksum: str = ""
    exact: bool = False

    @property
    def wanted(self) -> str:
        """Where the file stands in a mirror."""
        return f"{self.folder}/{self.name}"


def remote_files(
    folder: str, addresses: Sequence[str], checksums: Mapping[str, str], exact: bool = False
) -> tuple[RemoteFile, ...]:
    """The files of a data set from their checksums by name; each of `addresses` (ending in '/') holds them all."""
    return tuple(
        RemoteFile(name, folder, tuple(address + name for address in addresses), checksum, exact)
        for name, checksum in checksums.items()
    )


def obtain_all(files: Sequence[RemoteFile], downloads: Path) -> list[Path]:
    """Local paths of all `files`, in order. Raises UserError naming all of them when one cannot be had."""
    return [obtain(file, downloads, wanted=files) for file in files]


def obtain(file: RemoteFile, downloads: Path, wanted: Sequence[RemoteFile] = ()) -> Path:
    """A local path of `file`: a copy already here, or one downloaded into `downloads/<folder>/`.

    Raises UserError, telling what was tried and what to do, when no source has it, a copy that must be exact is not,
    or the disk is full. The advice names the files `wanted`, or this one.
    """
    destination = downloads / file.folder / file.name
    if destination.is_file():
        return _verified(destination, file.checksum if file.exact else "")
    problems = []
    for source in _sources(file):
        try:
            checksum = file.checksum if file.exact or source in file.urls else ""
            if isinstance(source, str):
                return _download(source, destination, checksum)
            if source.is_file():
                return _verified(source, checksum)
            problems.append(f"{source}: no such file")
        except _UnavailableError as problem:
            problems.append(f"{urlsplit(str(source)).netloc}: {problem}")
    names = ", ".join(f.wanted for f in wanted or [file])
    raise UserError(
        f"{file.wanted}: no source has it ({'; '.join(problems)}). "
        f"Connect to the network, or set {MIRROR} to a folder or URL that holds {names}."
    )


def matches(file: RemoteFile, path: Path) -> bool:
    """Whether `path` has the published checksum of `file`, bit for bit the official file."""
    return bool(file.checksum) and _digest(path, file.checksum) == file.checksum


def unusable(path: Path, what: str) -> UserError:
    """The error for a file that is here but is not what it should be."""
    return UserError(f"{path}: {what}. Delete it or replace it with the official file, and run again.")


class _UnavailableError(Exception):
    """One source does not have the file; the next may."""


def _sources(file: RemoteFile) -> Iterator[str | Path]:
    """Addresses (str) and local copies (Path) in the order in which they are tried."""
    mirror = os.environ.get(MIRROR, "")
    if mirror.startswith(("http://", "https://")):
        yield f"{mirror.rstrip('/')}/{file.wanted}"
    elif mirror:
        if not Path(mirror).is_dir():
            raise UserError(f"{MIRROR}: no folder '{mirror}'. Set it to a folder or URL that holds {file.wanted}.")
        yield Path(mirror, file.wanted)
    if (EMBEDDED / file.wanted).is_file():
        yield EMBEDDED / file.wanted
    yield from file.urls


def _verified(path: Path, checksum: str) -> Path:
    """`path` itself, if it has `checksum` (empty: none is asked for). Raises UserError otherwise."""
    if checksum and (found := _digest(path, checksum)) != checksum:
        raise unusable(path, f"{found}, published is {checksum}")
    return path


def _digest(path: Path, like: str) -> str:
    """The digest of a file, written as `like` is: "algorithm:hex"."""
    algorithm = like.partition(":")[0]
    with path.open("rb") as stream:
        return f"{algorithm}:{hashlib.file_digest(stream, algorithm).hexdigest()}"


def _download(url: str, destination: Path, checksum: str) -> Path:
    """`destination`, downloaded from `url`, checked against `checksum` (if any), then moved into place in one step.

    Raises _UnavailableError when this address cannot give the file, UserError when it cannot be written.
    """
    # Named for its address, so that pieces of two sources never meet in one file.
    part = destination.with_name(f".{destination.name}.{zlib.crc32(url.encode()):08x}.part")
    _log.info("downloading %s", url)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        if not checksum:
            part.unlink(missing_ok=True)  # what an earlier run left could not be told from a newer version
        _receive_all(url, part)
        if checksum and (found := _digest(part, checksum)) != checksum:
            part.unlink()
            raise _UnavailableError(f"{found}, published is {checksum}")
        part.chmod(0o644)
        part.replace(destination)
    except OSError as problem:
        advice = "Free some space or choose another folder."
        raise UserError(f"{destination}: cannot write: {problem.strerror or problem}. {advice}") from problem
    return destination


def _receive_all(url: str, part: Path) -> None:
    """Fetch `url` into `part`, going on after an interruption for as long as each attempt brings something new."""
    for attempt in range(1, _ATTEMPTS + 1):
        before = _size(part)
        try:
            return _receive(url, part)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as problem:
            if attempt == _ATTEMPTS or _size(part) <= before:
                raise _UnavailableError(_reason(problem)) from problem
            _log.info("%s: %s, trying again", url, _reason(problem))


def _receive(url: str, part: Path) -> None:
    """Fetch what `part` still lacks of `url`, or all of it from a server that cannot give a piece."""
    have = _size(part)
    # The file as it is: a server's own compression would change the bytes of a .gz.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if have and response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # nothing is lacking; the checksum tells whether it is right
        response.raise_for_status()
        start = have if response.status_code == requests.codes.partial_content else 0
        name = url.rpartition("/")[2]
        total = start + int(response.headers.get("Content-Length", 0)) or None
        with (
            part.open("ab" if start else "wb") as out,
            tqdm(desc=name, total=total, initial=start, unit="B", unit_scale=True, disable=None) as bar,
        ):
            for piece in response.raw.stream(_PIECE, decode_content=False):
                out.write(piece)
                bar.update(len(piece))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(problem: Exception) -> str:
    """A few words for what the network libraries say in many."""
    if isinstance(problem, requests.HTTPError) and problem.response is not None:
        return f"HTTP {problem.response.status_code}"
    if isinstance(problem, requests.Timeout | urllib3.exceptions.TimeoutError):
        return "no answer in time"
    if isinstance(problem, requests.ConnectionError):
        return "no connection"
    if isinstance(problem, urllib3.exceptions.HTTPError):
        return "connection lost"
    return type(problem).__name__
