"""What the tests of data sets share: a web server on this machine, the repository's root, small archives."""

import io
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stillhouse.data import fetch

_MIRROR = os.environ.get(fetch.MIRROR, "")  # the tester's own; tests see it only through `official`


@pytest.fixture(autouse=True)
def no_sources_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the mirror or the embedded copies of the machine it runs on, unless it asks for them."""
    monkeypatch.delenv(fetch.MIRROR, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).resolve().parents[2]


@pytest.fixture
def official(monkeypatch: pytest.MonkeyPatch) -> Callable[[tuple[fetch.RemoteFile, ...]], None]:
    """Makes the tester's mirror visible when it is a folder that holds the files; skips the test otherwise."""

    def need(files: tuple[fetch.RemoteFile, ...]) -> None:
        if not _MIRROR or not all(Path(_MIRROR, file.wanted).is_file() for file in files):
            pytest.skip(f"needs {', '.join(file.wanted for file in files)} in the folder {fetch.MIRROR}")
        monkeypatch.setenv(fetch.MIRROR, str(Path(_MIRROR).resolve()))

    return need


@dataclass
class Site:
    """A web server's files, what it was asked for, and how it misbehaves."""

    address: str
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)  # (path, Range header)
    cuts: dict[str, list[int]] = field(default_factory=dict)  # path: bytes after which each answer breaks off
    ranges: bool = True


@pytest.fixture
def site() -> Iterator[Site]:
    """A real HTTP server on the loopback interface."""
    made: Site

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.lstrip("/")
            wanted = self.headers.get("Range", "")
            made.asked.append((path, wanted))
            if path not in made.files:
                return self.send_error(404)
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and made.ranges else 0
            if start and start >= len(made.files[path]):
                return self.send_error(416)
            content = made.files[path][start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            cuts = made.cuts.get(path, [])
            self.wfile.write(content[: cuts.pop(0)] if cuts else content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Site(f"http://127.0.0.1:{server.server_address[1]}/")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def archive() -> Callable[[Path, dict[str, bytes | tarfile.TarInfo]], Path]:
    """Writes a .tar.gz of files (bytes) and links or the like (TarInfo) under the given member names."""

    def write(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w:gz", compresslevel=1) as tar:
            for name, content in members.items():
                info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
                if isinstance(content, bytes):
                    info.size = len(content)
                tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
        return path

    return write
