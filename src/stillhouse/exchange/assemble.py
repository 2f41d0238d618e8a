"""A distilled set from what stands in a file and what is declared of it, both checked against the real set."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch

from stillhouse import provenance, spaces
from stillhouse.errors import UserError
from stillhouse.exchange.declared import Declared, in_space
from stillhouse.exchange.found import Found
from stillhouse.exchange.image_folder import folder_name
from stillhouse.sets import DistilledSet, RealSet, pixels

_log = logging.getLogger(__name__)
_SUM = 1e-3  # how far rows of one convention may sum from what tells it


def assemble(found: Found, real: RealSet, declared: Declared, format: str) -> DistilledSet:
    """The set, with a recipe that says what file it is from and what was declared of it.

    Inputs keep their precision; targets are float64 in the one-hot convention, columns in `real`'s order of classes. Raises
    UserError for what is missing, does not fit `real`, is NaN, or contradicts a declaration.
    """
    manifest = found.manifest or {}
    if real.regression or manifest.get("outputs"):
        raise UserError(f"{real.name}: sets of values are not imported, only sets of classes.")
    made_by = manifest.get("recipe", {})
    method = made_by.get("method") if declared.method is None else {"kind": declared.method}
    if not method:
        raise UserError("--method: what made the set? The file does not say. Give a name, such as --method dsa.")
    images = _images(found, real)
    targets = _targets(found, real, declared)
    space, images, fitted = _space(found, images, declared, real)
    known_as = made_by.get("experiment") if declared.method is None else None
    imported = {
        "format": format,
        "files": dict(found.files),
        "source": declared.source,
        "space": space,
        **found.notes,
        **({"made_by": made_by} if made_by else {}),
    }
    recipe = {
        "dataset": real.name,
        "experiment": declared.experiment or known_as or method["kind"],
        "method": method,
        "per_class": len(images) // real.n_classes,
        "seed": _first(declared.seed, made_by.get("seed"), found.seed),
        "budget": _first(declared.budget, made_by.get("budget"), 1.0),
        "data": real.identity,
        "versions": provenance.versions(),
        "imported": imported,
    }
    distilled = DistilledSet(
        images, targets, real.classes, space=fitted, model=manifest.get("model"), schedule=manifest.get("schedule", {}),
        recipe=recipe,
    )  # fmt: skip
    _warn_of_pixels(distilled)
    return distilled


def _first(*given: Any) -> Any:
    return next(each for each in given if each is not None)


def _images(found: Found, real: RealSet) -> torch.Tensor:
    """Images (m, *shape), floating; bytes become pixels."""
    shape = tuple(found.images.shape[1:])
    if shape != real.shape:
        hint = "Their axes may be in another order: see --format." if sorted(shape) == sorted(real.shape) else ""
        raise UserError(
            f"images of shape {shape}, but {real.name} has {real.shape}. {hint or 'Give the data set it was made for.'}"
        )
    if len(found.images) != len(found.labels) or not len(found.images):
        raise UserError(
            f"{len(found.images)} images with {len(found.labels)} labels. The file is damaged: get it again."
        )
    _check_finite("images", found.images)
    if len(found.images) % real.n_classes:
        raise UserError(
            f"{len(found.images)} images are not as many for each of {real.name}'s {real.n_classes} classes. "
            "Give the data set it was made for."
        )
    if found.images.dtype == torch.uint8:
        return pixels(found.images)
    if not found.images.is_floating_point():
        raise UserError(f"images of {found.images.dtype}, expected floats or bytes. Save them so.")
    return found.images if found.images.dtype == torch.float64 else found.images.to(torch.float32)


def _targets(found: Found, real: RealSet, declared: Declared) -> torch.Tensor:
    """Target rows (m, c), float64, one-hot convention, columns in the order of `real`'s classes."""
    order = _order(found, real, declared)
    if found.labels.ndim == 1:
        labels = _hard(found.labels, real)
        return spaces.one_hot(labels, real.n_classes)[:, order]
    if found.labels.ndim != 2 or found.labels.shape[1] != real.n_classes:
        raise UserError(
            f"labels of shape {tuple(found.labels.shape)}, but {real.name} has {real.n_classes} classes. "
            "Give the data set it was made for."
        )
    _check_finite("labels", found.labels)
    rows = found.labels.to(torch.float64)
    convention = declared.labels or ("centred" if found.centred else "one_hot")
    _check_convention(rows, convention)
    return (rows + 1 / real.n_classes if convention == "centred" else rows)[:, order]


def _hard(labels: torch.Tensor, real: RealSet) -> torch.Tensor:
    """Class labels (m,) int64, as many of each class."""
    whole = labels.to(torch.int64)
    if not bool((whole == labels).all()):
        raise UserError(
            "labels that are no whole numbers. A row for each image is read as soft labels, one number is not."
        )
    low, high = int(whole.min()), int(whole.max())
    if low < 0 or high >= real.n_classes:
        raise UserError(
            f"labels {low} to {high}, but {real.name} has {real.n_classes} classes, from 0. "
            "Give the data set it was made for."
        )
    counts = torch.bincount(whole, minlength=real.n_classes)
    if not bool((counts == counts[0]).all()):
        few = int(counts.argmin())
        raise UserError(
            f"{int(counts[few])} images with label {few} of {real.n_classes} classes, {int(counts.max())} with label "
            f"{int(counts.argmax())}. Only sets with as many images of each class are imported."
        )
    return whole


def _order(found: Found, real: RealSet, declared: Declared) -> list[int]:
    """For each class of `real`, its column in the file."""
    named: Sequence[str] | None = (
        declared.classes or (found.manifest or {}).get("classes") or found.notes.get("folders")
    )
    if named is None:
        return list(range(real.n_classes))
    folders = not declared.classes and "folders" in found.notes
    wanted = [folder_name(name) if folders else name for name in real.classes]
    if sorted(named) != sorted(wanted):
        odd = min(set(named) ^ set(wanted), default=str(len(named)))
        where = "the file" if odd in named else real.name
        raise UserError(
            f"class '{odd}' is only in {where}: {len(named)} classes, {real.name} has {real.n_classes}. Name them as "
            f"'{', '.join(wanted[:3])}, ...' are, or give the data set it was made for."
        )
    return [list(named).index(name) for name in wanted]


def _check_convention(rows: torch.Tensor, convention: str) -> None:
    """Rows may have any sum once they were learned; where all sums are those of the other convention, it is the other."""
    sums = rows.sum(1)
    for other, total in (("one_hot", 1.0), ("centred", 0.0)):
        if other != convention and bool(((sums - total).abs() < _SUM).all()):
            raise UserError(f"--labels {convention}: every row of labels sums to {total:g}. Say --labels {other}.")


def _space(
    found: Found, images: torch.Tensor, declared: Declared, real: RealSet
) -> tuple[Any, torch.Tensor, dict[str, Any]]:
    """What the images' space was said to be, the images, and the space that they are now in."""
    bytes_ = found.images.dtype == torch.uint8
    if found.manifest is not None and declared.space is not None:
        raise UserError("--space: the file's manifest says it. Leave it out.")
    if found.manifest is not None:
        fitted = dict(found.manifest["space"])
        return fitted["kind"], images, fitted
    if declared.space is None and not bytes_:
        raise UserError(
            "--space: in which space do the images live? The file does not say. Give pixels, dc, standardised, zca or "
            """'{"kind": ..., ...}' with constants."""
        )
    raw = declared.space if declared.space is not None else "pixels"
    if bytes_ and raw != "pixels":
        raise UserError(f"--space {raw}: images of 8 bits are pixels. Leave it out.")
    return (raw, *in_space(images, raw, real))


def _check_finite(what: str, values: torch.Tensor) -> None:
    bad = int((~torch.isfinite(values)).sum())
    if bad:
        raise UserError(f"{bad} of {values.numel()} values of {what} are NaN or infinite. Get the file again.")


def _warn_of_pixels(distilled: DistilledSet) -> None:
    """Distilled images are not clipped, but most of one lies within black and white if the space is the right one."""
    pictures = distilled.pictures()
    outside = float(((pictures < 0) | (pictures > 1)).to(torch.float64).mean())
    _log.log(
        logging.WARNING if outside > 0.5 else logging.INFO,
        "%s: %.0f %% of the values lie outside black and white once its space (%s) is undone%s",
        distilled.name, 100 * outside, distilled.space["kind"], "; is it the right one?" if outside > 0.5 else "",
    )  # fmt: skip
