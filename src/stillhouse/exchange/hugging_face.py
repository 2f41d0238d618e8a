"""Hugging Face datasets: a folder that `datasets.load_from_disk` reads. Needs the package `datasets`, which is not ours."""

from pathlib import Path

from stillhouse.errors import UserError
from stillhouse.exchange import manifest
from stillhouse.sets import DistilledSet


def write(distilled: DistilledSet, path: Path) -> None:
    """One row for each example: image (d,), target (c,) and, of classes, label; the description is the manifest with the shape.

    Images are as the set has them, flat, in its space. Raises UserError without the package, where `path` exists, and for a set
    whose space holds matrices: they would not fit a description.
    """
    if path.exists():
        raise UserError(f"{path}: exists already. Remove it or choose another.")
    if manifest.space_tensors(distilled.space):
        kind = distilled.space["kind"]
        raise UserError(f"{distilled.name}: its space ({kind}) holds matrices. Export it as npz, tensors or folder.")
    try:
        import datasets  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        raise UserError(
            "--format hugging_face: the package 'datasets' is not installed. Run 'pip install datasets', or choose npz."
        ) from None

    parts = {"image": distilled.inputs.flatten(1), "target": distilled.targets}
    features = {
        name: datasets.Sequence(datasets.Value(str(part.dtype).removeprefix("torch."))) for name, part in parts.items()
    }
    columns = {name: part.tolist() for name, part in parts.items()}
    if not distilled.outputs:
        features["label"] = datasets.ClassLabel(names=list(distilled.classes))
        columns["label"] = distilled.labels.tolist()
    text = manifest.describe(distilled, distilled.space, shape=list(distilled.inputs.shape[1:]))
    info = datasets.DatasetInfo(description=text, features=datasets.Features(features))
    datasets.Dataset.from_dict(columns, features=info.features, info=info).save_to_disk(str(path))
