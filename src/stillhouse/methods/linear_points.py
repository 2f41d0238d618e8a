"""As few points as the features have rank, from which linear regression learns what all examples teach it, for every ridge and
every other regulariser that does not look at the data.

Izzo, Zou (2023), Theorem 3, in the feature space of a ridge model: F_S^T F_S = F^T F and F_S^T Y_S = F^T Y. One pass over the
data sums both. Fewer points keep the longest of them; docs/theory/linear.md has what this costs, and why no points cost less.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from stillhouse import linalg, settings
from stillhouse.errors import NumericalError, UserError
from stillhouse.linalg import RidgePath
from stillhouse.models import ridge
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet
from stillhouse.theory import linear_points
from stillhouse.theory.linear_points import Examples

TASKS = ("classification", "regression")
BATCH = ("per_class", "seed")
# Targets are solved: the largest target of a point need not be that of a class.
SOFT_LABELS = True

# Exact means: the weights learned with any ridge of the grid differ by no more than this, relatively, in float64.
_EXACT = 1e-8
# Moments of the stored points may differ from those of the data by no more than this, relatively: rounding makes 1e-15 to 1e-13.
_SAME_MOMENTS = 1e-10
# A measured error may be above the one that theory gives by this, relatively.
_SLACK = 1e-6

_CARRY_ALL = (
    "Izzo, Zou (2023), Theorem 3: the same F^T F and F^T Y, so the same minimisers for every regulariser that does not depend on "
    "the data, alone and united with other data"
)
_CARRY_MOST = (
    "the longest points of Izzo, Zou (2023), Theorem 3: for ridge |theta - a|^2 and the worst a, no others of this number come "
    "nearer"
)


@dataclass(frozen=True)
class Params:
    """Which ridge regression."""

    model: Annotated[
        ridge.Params,
        settings.plugin("models", only="ridge"),
        Field(description="whose features and training part the points stand for: a name under models"),
    ]


def distill(real: RealSet, per_class: int, params: Params, run: Run) -> DistilledSet:
    """m points, m = per_class for a regression set and per_class x classes else, with real-valued targets.

    They carry everything if m is at least the rank r of the features: as they are for m = r, mixed at random for more. They ask
    for no ridge, so that a model chooses among the ridges of its grid as it does with all examples. Raises UserError for a
    feature map of bounded features.
    """
    embedding = ridge.embed(params.model, real, run.seed)
    sums = ridge.accumulate(real, params.model, run).moments
    solutions = RidgePath.of_moments(sums.gram, sums.cross)
    whole = linear_points.from_moments(solutions, sums.count)
    made = linear_points.resized(whole, real.size(per_class), run.generator("mixing"))
    if embedding.map.reach(made.inputs) != 1:
        raise UserError(
            f"model: the features of {settings.kind_of(params.model.features)} are bounded, and those of points for all ridges "
            "are not. Choose a map onto all of R^p, or the method krr_exact."
        )
    distilled = DistilledSet.of(
        real,
        inputs=embedding.map.inverse(made.inputs).reshape(-1, *real.shape).cpu(),
        targets=made.targets.cpu(),
        space=embedding.space.settings(),
        model={**settings.dump(params.model), "seed": run.seed},
    )
    found = Examples(ridge.set_features(distilled, embedding).to(run.device), made.targets)
    certificate = _certify(found, whole, sums, solutions, params.model.ridge.values())
    return dataclasses.replace(distilled, certificate=certificate)


def _certify(
    found: Examples, whole: Examples, sums: linalg.Moments, solutions: RidgePath, ridges: list[float]
) -> dict[str, Any]:
    """Errors of the stored points' moments and, for each ridge, of the weights learned from them: as they are, and in the range
    of the data.

    Outside of that range weights of all examples are rounding errors over the ridge, which the points do not copy. `exact` says
    that no weights within differ by more than 1e-8. Raises NumericalError where the moments of r points or more are not those of
    the data, or fewer points do worse than docs/theory/linear.md proves.
    """
    rank, size = len(whole), len(found)
    tail, enough = whole[size:], size >= rank
    ranged = solutions.vectors[:, len(solutions.values) - solutions.rank() :]
    students = RidgePath.by_singular_values(found.inputs, found.targets)
    errors, everywhere, predicted = [], [], []
    for each in ridges:
        wanted = solutions.weights(each)
        difference, scale = students.weights(each) - wanted, float(wanted.norm())
        errors.append(float((ranged.T @ difference).norm()) / scale)
        everywhere.append(float(difference.norm()) / scale)
        predicted.append(linear_points.ridge_gap(tail, each) / scale)
    gram = linalg.relative_error(found.inputs.T @ found.inputs, sums.gram)
    cross = linalg.relative_error(found.inputs.T @ found.targets, sums.cross)
    lengths = whole.inputs.norm(dim=1)
    certificate = {
        "statement": _CARRY_ALL if enough else _CARRY_MOST,
        "points": size,
        "rank": rank,
        "condition": float(lengths[0] / lengths[-1]),
        "error_gram": gram,
        "error_cross": cross,
        "ridges": ridges,
        "errors": errors,
        "errors_everywhere": everywhere,
        "errors_predicted": predicted,
        "least_deviation": [linear_points.least_deviation(tail, each) for each in ridges],
        "slope": 0.0 if enough else linear_points.slope(whole, size),
        "error_images": max(errors),
        "tolerance": _EXACT,
        "exact": enough and max(errors) < _EXACT,
    }
    if enough:
        right = max(gram, cross) < _SAME_MOMENTS
    else:
        right = all(error <= gap * (1 + _SLACK) + _EXACT for error, gap in zip(errors, predicted, strict=True))
    if not right:
        worst = max(error - gap for error, gap in zip(errors, predicted, strict=True))
        raise NumericalError(
            f"the points do not give back what the data teach: {size} points, rank {rank}, condition "
            f"{certificate['condition']:.2e}, error_gram {gram:.2e}, error_cross {cross:.2e}, error of the weights {worst:.2e} "
            "above the predicted one"
        )
    return certificate
