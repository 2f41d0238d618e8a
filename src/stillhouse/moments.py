"""Sufficient statistics of a model that is fitted in closed form: moments, and what identifies them.

Ridge regression needs of the real set no more than G = F^T F and C = F^T Y, which are sums over examples. So one pass can be
shared by many jobs, new examples can be added without the old ones, and examples can be taken out again.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from stillhouse import artifact, spaces
from stillhouse.errors import UserError
from stillhouse.linalg import Moments

_KIND = "moments"


@dataclass(frozen=True)
class Part:
    """What was summed by one job: the examples `start` to `stop` of those that the model fits of one real set.

    data    name, fingerprint and order of the real set
    fitted  how many of its examples the model fits
    recipe  code, versions and device of the job
    """

    data: Mapping[str, Any]
    fitted: int
    start: int
    stop: int
    recipe: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.start} to {self.stop} of the {self.fitted} fitted examples of {self.data['name']}"


@dataclass(frozen=True, eq=False)
class Statistics:
    """Moments of one model's features, and what they are moments of.

    moments  the sums
    model    the model's settings, as JSON values
    seed     of its feature map and of its validation split
    space    what it sees of an image, with fitted values
    shape    of one example
    columns  names of the target columns: classes or outputs
    parts    what was summed
    """

    moments: Moments
    model: Mapping[str, Any]
    seed: int
    space: Mapping[str, Any]
    shape: tuple[int, ...]
    columns: tuple[str, ...]
    parts: tuple[Part, ...]

    def save(self, path: Path | str) -> None:
        """Write as one file: G as its upper triangle, C. Equal statistics give equal bytes."""
        fitted = {k: v for k, v in self.space.items() if isinstance(v, torch.Tensor)}
        header = {
            "model": self.model,
            "seed": self.seed,
            "space": {k: v for k, v in self.space.items() if k not in fitted},
            "shape": self.shape,
            "columns": self.columns,
            "count": self.moments.count,
            "parts": [dataclasses.asdict(part) for part in self.parts],
        }
        tensors = {"gram": self.moments.packed(), "cross": self.moments.cross}
        artifact.write(Path(path), _KIND, tensors | {f"space.{k}": v for k, v in fitted.items()}, header)

    @classmethod
    def load(cls, path: Path | str) -> Statistics:
        """Read from a file. Raises UserError saying what is wrong with it."""
        tensors, header = artifact.read(Path(path), _KIND)
        fitted = {k.removeprefix("space."): v for k, v in tensors.items() if k.startswith("space.")}
        return cls(
            moments=Moments.unpacked(tensors["gram"], tensors["cross"], header["count"]),
            model=header["model"],
            seed=header["seed"],
            space={**header["space"], **fitted},
            shape=tuple(header["shape"]),
            columns=tuple(header["columns"]),
            parts=_parts(header),
        )

    def absorb(self, other: Statistics) -> Statistics:
        """With the examples of `other` added, of the same real set or of another one.

        Raises UserError where the two are not of one model, or where an example would count twice. That two real sets share no
        example cannot be seen from their moments.
        """
        _same_model(self, other)
        _disjoint((*self.parts, *other.parts))
        return dataclasses.replace(self, moments=self.moments + other.moments, parts=(*self.parts, *other.parts))

    def remove(self, other: Statistics) -> Statistics:
        """Without the examples of `other`, as if they had never been there, up to rounding (see `Moments.__sub__`).

        Raises UserError where some of them are not among those that were summed.
        """
        _same_model(self, other)
        left = self.parts
        for gone in other.parts:
            before, left = left, tuple(rest for part in left for rest in _cut(part, gone))
            if _total(before) - _total(left) != gone.stop - gone.start:
                raise UserError(f"examples {gone} are not all among those that were summed; none is removed.")
        return dataclasses.replace(self, moments=self.moments - other.moments, parts=left)


def shard(count: int, number: int, shards: int) -> tuple[int, int]:
    """Start and stop of the `number`-th, from 1, of `shards` contiguous slices of `count` examples."""
    return count * (number - 1) // shards, count * number // shards


def merged(statistics: Iterable[Statistics]) -> Statistics:
    """The moments of disjoint slices of one real set as those of all of them.

    Raises UserError where they are not of one model and one real set, or where slices overlap.
    """
    return functools.reduce(_merge, statistics)


def load_merged(paths: Sequence[Path]) -> Statistics:
    """What `merged` makes of files, read one after the other; the bytes do not depend on their order."""
    ordered = sorted(paths, key=lambda path: [(part.start, part.stop) for part in _parts(artifact.header(path))])
    found = Statistics.load(ordered[0])
    for path in ordered[1:]:
        try:
            found = _merge(found, Statistics.load(path))
        except UserError as problem:
            raise UserError(f"{path}: {problem}") from None
    return found


def missing(parts: Iterable[Part]) -> Part | None:
    """The first gap that disjoint parts leave in a real set of which they hold something, or None."""
    for same in _by_data(parts):
        stops = [0, *(part.stop for part in same)]
        starts = [*(part.start for part in same), same[0].fitted]
        for stop, start in zip(stops, starts, strict=True):
            if stop < start:
                return dataclasses.replace(same[0], start=stop, stop=start)
    return None


def _merge(one: Statistics, other: Statistics) -> Statistics:
    _same_model(one, other)
    data = one.parts[0].data
    for part in other.parts:
        if part.data != data:
            raise UserError(
                f"moments that do not belong together: of {_named(data)} and of {_named(part.data)}. "
                "Merge those of one data set; absorb those of another."
            )
    return one.absorb(other)


def _same_model(one: Statistics, other: Statistics) -> None:
    """One model, seed, fitted space, shape and order of classes: else what is added up has no common meaning."""
    for name in ("model", "seed", "shape", "columns"):
        if getattr(one, name) != getattr(other, name):
            difference = _difference(getattr(one, name), getattr(other, name), name)
            raise UserError(f"moments that do not belong together: {difference}. Accumulate them with the same {name}.")
    if not spaces.same(one.space, other.space):
        raise UserError(
            "moments that do not belong together: their spaces were fitted on different images. "
            "Give the space constants, or accumulate the new examples onto the old moments."
        )


def _difference(one: Any, other: Any, place: str) -> str:
    """Where two JSON values differ first: 'model.ridge.first -3.0 and -6.0'."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in sorted({*one, *other}):
            if one.get(key) != other.get(key):
                return _difference(one.get(key), other.get(key), f"{place}.{key}")
    return f"{place} {one} and {other}"


def _named(data: Mapping[str, Any]) -> str:
    return f"{data['name']} ({data['fingerprint'][:8]}, order {data['order'][:8]})"


def _parts(header: Mapping[str, Any]) -> tuple[Part, ...]:
    return tuple(Part(**part) for part in header.get("parts", ()))


def _total(parts: Iterable[Part]) -> int:
    return sum(part.stop - part.start for part in parts)


def _by_data(parts: Iterable[Part]) -> list[list[Part]]:
    """Parts of the same real set together, each list in order."""
    groups: dict[tuple[str, str], list[Part]] = {}
    for part in sorted(parts, key=lambda part: (part.start, part.stop)):
        groups.setdefault((part.data["fingerprint"], part.data["order"]), []).append(part)
    return list(groups.values())


def _disjoint(parts: Iterable[Part]) -> None:
    for same in _by_data(parts):
        for before, after in itertools.pairwise(same):
            if after.start < before.stop:
                raise UserError(
                    f"moments that do not belong together: examples {after.start} to {min(before.stop, after.stop)} of "
                    f"{after.data['name']} would count twice. Leave one of them out."
                )


def _cut(part: Part, gone: Part) -> Iterator[Part]:
    """What is left of `part` without the examples of `gone`: none, one or two parts."""
    if part.data != gone.data:
        yield part
        return
    for start, stop in ((part.start, min(part.stop, gone.start)), (max(part.start, gone.stop), part.stop)):
        if start < stop:
            yield dataclasses.replace(part, start=start, stop=stop)
