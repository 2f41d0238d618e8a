"""What proves that a data set is the right data: its decoded arrays, whatever file they came in.

The fingerprint is the same for every order of the examples, so a re-ordered copy is the same data set; the order has a
hash of its own. Both are built from one digest per example, over its label or values and its pixels.
"""

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path

import torch

from stillhouse.errors import UserError
from stillhouse.sets import RealSet, Split

Counts = tuple[tuple[int, ...], tuple[int, ...]]
"""Examples per class, in the order of the classes: of the training split, of the test split."""

_ADVICE = "Delete the files or replace them with the official ones, and run again."

_log = logging.getLogger(__name__)


def identified(
    name: str, train: Split, test: Split, classes: tuple[str, ...], outputs: tuple[str, ...] = ()
) -> RealSet:
    """The real set of two splits, with the fingerprint and the order hash of their content.

    A regression set has no classes and names its `outputs`. Raises UserError when values are NaN or infinite.
    """
    for split in (train, test):
        _refuse_not_finite(name, split.inputs)
        _refuse_not_finite(name, split.targets)
    fingerprint, order = hashes({"train": train, "test": test})
    return RealSet(name, train, test, classes, fingerprint, order, outputs)


def check(real: RealSet, counts: Counts, fingerprint: str | None, order: str | None, where: Path) -> RealSet:
    """`real` itself, if it is the official data; a copy in another order is accepted, and this is logged.

    `where` is the folder its files were read from. `fingerprint` or `order` None: not known, not checked.
    Raises UserError saying what differs.
    """
    _check_counts(real, "training", real.train.targets, counts[0], where)
    _check_counts(real, "test", real.test.targets, counts[1], where)
    if fingerprint is not None and real.fingerprint != fingerprint:
        raise UserError(
            f"{real.name}: images or labels in {where} differ from the official ones (fingerprint "
            f"{real.fingerprint[:12]}, expected {fingerprint[:12]}). {_ADVICE}"
        )
    if order is not None and real.order != order:
        warn_of_order(real, "in another order")
    return real


def check_table(name: str, rows: Split, count: int, fingerprint: str, order: str, where: Path) -> None:
    """Raise UserError, saying what differs, unless `rows`, read from the file `where`, are the official table in its order.

    The whole table is checked, however it is then split, so that one fingerprint serves every split. Another order is
    refused: splits of a table are lists of positions, and would hold other rows.
    """
    if len(rows) != count:
        raise UserError(f"{name}: {len(rows)} rows in {where}, officially {count}. {_ADVICE}")
    found = hashes({"all": rows})
    for what, have, want in zip(("values", "order"), found, (fingerprint, order), strict=True):
        if have != want:
            differ = "values differ from the official ones" if what == "values" else "rows are in another order"
            raise UserError(f"{name}: in {where} {differ} ({what} {have[:12]}, expected {want[:12]}). {_ADVICE}")


def warn_of_order(real: RealSet, how: str) -> None:
    """Log that this copy holds the official examples, and `how` they are ordered."""
    advice = "Lists of positions made for the official files may not apply"
    _log.warning("%s: the official examples, %s. %s. Order recorded: %s.", real.name, how, advice, real.order[:12])


def example_digests(split: Split) -> list[bytes]:
    """One blake2b digest per example: its label or each of its values as 8 bytes, little-endian, then its pixels."""
    targets, pixels = _bytes(split.targets), _bytes(split.inputs)
    wide, size = (len(content) // max(len(split), 1) for content in (targets, pixels))
    rows = []
    for i in range(len(split)):
        digest = hashlib.blake2b(targets[wide * i : wide * (i + 1)], digest_size=32)
        digest.update(pixels[size * i : size * (i + 1)])
        rows.append(digest.digest())
    return rows


def _bytes(tensor: torch.Tensor) -> memoryview:
    return tensor.contiguous().view(torch.uint8).numpy().data.cast("B")


def hashes(splits: dict[str, Split]) -> tuple[str, str]:
    """The fingerprint and the order hash of splits by their names."""
    like = next(iter(splits.values()))
    digests = {name: example_digests(split) for name, split in splits.items()}
    return _combined({name: sorted(rows) for name, rows in digests.items()}, like), _combined(digests, like)


def _combined(digests: dict[str, list[bytes]], like: Split) -> str:
    """sha256 over the digests of all splits, with the shape and type of the examples."""
    total = hashlib.sha256(f"{like.inputs.dtype} {tuple(like.inputs.shape[1:])}".encode())
    if like.targets.ndim > 1:
        total.update(f" {like.targets.dtype} {tuple(like.targets.shape[1:])}".encode())
    for split, rows in digests.items():
        total.update(f" {split} {len(rows)} ".encode())
        total.update(b"".join(rows))
    return total.hexdigest()


def _refuse_not_finite(name: str, values: torch.Tensor) -> None:
    if values.is_floating_point() and (bad := int((~torch.isfinite(values)).sum())):
        raise UserError(f"{name}: {bad} of {values.numel()} values are NaN or infinite. {_ADVICE}")


def _check_counts(real: RealSet, split: str, targets: torch.Tensor, expected: Iterable[int], where: Path) -> None:
    label = int(targets.max()) if len(targets) else 0
    if label >= real.n_classes:
        raise UserError(f"{real.name}: {split} label {label} in {where}, of {real.n_classes} classes. {_ADVICE}")
    found = torch.bincount(targets, minlength=real.n_classes).tolist()
    for name, have, want in zip(real.classes, found, expected, strict=True):
        if have != want:
            what = f"{have} {split} examples of class '{name}' in {where}, officially {want}"
            raise UserError(f"{real.name}: {what}. {_ADVICE}")
