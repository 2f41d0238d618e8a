"""Do the points of linear regression carry every regulariser and every union? Solved on the data and on the points, by solvers
that are not ours.

Izzo, Zou (2023), Theorem 3; what is measured and why it must hold: docs/theory/linear.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from stillhouse.data import whitening
from stillhouse.data.whitening import Standardised
from stillhouse.errors import did_you_mean
from stillhouse.evaluation import affine
from stillhouse.evaluation.penalised import LOOSE, REGULARISERS, TIGHT, Regulariser
from stillhouse.run import Run
from stillhouse.sets import RealSet, Split
from stillhouse.spaces import Space
from stillhouse.theory import linear_points
from stillhouse.theory.linear_points import Examples

AS_IT_IS = "as it is"
# Coefficients below this are zero, relative to the largest.
_ZERO = 1e-12
# Regularisers whose coefficients are followed, and the shares at which they are.
_FOLLOWED = ("lasso", "ridge")
_SHARES = [10 ** (exponent / 6) for exponent in range(-18, 1)]


@dataclass(frozen=True)
class Params:
    """What is solved, and how often."""

    space: whitening.SpaceSettings = field(default_factory=Standardised)
    regularisers: Annotated[
        tuple[str, ...],
        Field(min_length=1, description=f"of {', '.join(REGULARISERS)}; those too costly for a set are left out"),
    ] = tuple(REGULARISERS)
    strengths: Annotated[
        tuple[Annotated[float, Field(gt=0)], ...],
        Field(min_length=1, description="in units of where the regulariser starts to matter as much as the data"),
    ] = (0.003, 0.03, 0.3)
    examples: Annotated[
        int | None, Field(ge=2, description="training examples used, from the first; all if absent")
    ] = None
    draws: Annotated[int, Field(ge=1, description="random subsets of as many examples as there are points")] = 3
    curves: Annotated[int, Field(ge=1, description="coefficients whose path is kept, the largest")] = 6

    def __post_init__(self) -> None:
        for name in self.regularisers:
            if name not in REGULARISERS:
                raise ValueError(f"unknown regulariser '{name}'. {did_you_mean(name, REGULARISERS)}")


def analyse(real: RealSet, params: Params, run: Run) -> Iterator[dict[str, object]]:
    """Rows of two tables. Errors are |theta_S - theta| / |theta| of what is learned from points and from data.

    `table` errors, one row per case, regulariser and strength:
    case               as it is, or made from the data: not centred, with dependent columns, with fewer rows than columns
    unique             whether theta is the only minimiser: errors mean nothing else
    error, error_max   in Frobenius norm, and the largest entry of the difference over the largest of theta
    objective_gap      |F(theta_S) / F(theta) - 1|, F the objective on the data
    zeros_agree        whether the same coefficients are zero
    score_*            of the data, of the points, of random subsets of the same size, each example counted n / m times
    error_random       of those subsets
    error_union_rest   half of the data distilled, united with the other half
    error_union_other  all of it distilled, united with other data: half of the inputs, moved by 1, their targets exchanged
    `table` path, one row per followed regulariser, strength and coefficient of the first output: `data`, `points`, `random`.
    """
    space = whitening.fit(params.space, real)
    used = slice(0, params.examples)
    whole = affine.examples(real, Split(real.train.inputs[used], real.train.targets[used]), space)
    cases = dict(_cases(whole, run))
    for case, examples in run.progress(cases.items(), len(cases), "cases"):
        for row in _errors(real, case, examples, space, params, run):
            yield {"table": "errors", "case": case, **row}
    for row in _paths(whole, params, run):
        yield {"table": "path", **row}


def _cases(whole: Examples, run: Run) -> Iterator[tuple[str, Examples]]:
    yield AS_IT_IS, whole
    moved = torch.cat([whole.inputs[:, :1], whole.inputs[:, 1:] + 1], 1)
    yield "not centred", Examples(moved, whole.targets + 1)
    again = torch.cat([whole.inputs[:, 1:2], whole.inputs[:, 1:2] + whole.inputs[:, -1:]], 1)
    yield "dependent columns", Examples(torch.cat([whole.inputs, again], 1), whole.targets)
    few = max(2, whole.inputs.shape[1] // 2)
    yield "fewer rows than columns", whole[_drawn(len(whole), few, run, "few rows")]


def _drawn(total: int, count: int, run: Run, purpose: str) -> torch.Tensor:
    return torch.randperm(total, generator=run.generator(purpose))[:count]


def _errors(
    real: RealSet, case: str, data: Examples, space: Space, params: Params, run: Run
) -> Iterator[dict[str, object]]:
    points = linear_points.reduced(data).points
    full = len(points) == data.inputs.shape[1]
    plain = case == AS_IT_IS
    more = _Beside.of(real, data, points, space, params, run) if plain else None
    size = {"examples": len(data), "columns": data.inputs.shape[1], "points": len(points)}
    for name in params.regularisers:
        one = REGULARISERS[name]
        if not one.applies(len(data), data.inputs.shape[1], data.targets.shape[1]):
            continue
        for share in params.strengths:
            strength = share * one.unit(*_arrays(data))
            theta, found = (_solved(one, each, strength) for each in (data, points))
            values = [one.objective(*_arrays(data), strength, each.numpy()) for each in (theta, found)]
            yield {
                **size, "regulariser": name, "formula": one.formula, "solver": one.solver,
                "unique": full or one.unique, "share": share, "strength": strength,
                "error": _error(found, theta), "error_max": _error(found, theta, float("inf")),
                "objective_gap": abs(values[1] / values[0] - 1), "zeros": int(_zero(theta).sum()),
                "zeros_agree": bool((_zero(theta) == _zero(found)).all()),
                **(more.row(one, strength, theta, found) if more is not None else {}),
            }  # fmt: skip


@dataclass(frozen=True)
class _Beside:
    """What the points are set beside: test examples, random subsets, and unions, each of points and of data."""

    real: RealSet
    test: Examples
    subsets: list[Examples]
    rest: Examples
    other: tuple[Examples, Examples]

    @classmethod
    def of(cls, real: RealSet, data: Examples, points: Examples, space: Space, params: Params, run: Run) -> _Beside:
        half = _drawn(len(data), len(data), run, "halves")
        first, second = data[half[: len(half) // 2]], data[half[len(half) // 2 :]]
        moved = torch.cat([first.inputs[:, :1], first.inputs[:, 1:] + 1], 1)
        strange = Examples(moved, first.targets[_drawn(len(first), len(first), run, "exchanged targets")])
        return cls(
            real,
            affine.examples(real, real.test, space),
            [random_subset(data, len(points), run, draw) for draw in range(params.draws)],
            linear_points.reduced(first).points + second,
            (data + strange, points + strange),
        )

    def row(self, one: Regulariser, strength: float, theta: torch.Tensor, found: torch.Tensor) -> dict[str, object]:
        random = [_solved(one, each, strength, LOOSE) for each in self.subsets]
        scores = np.array([self._score(each) for each in random])
        with_other, points_with_other = (_solved(one, each, strength) for each in self.other)
        return {
            "metric": affine.metric(self.real),
            "score_data": self._score(theta),
            "score_points": self._score(found),
            "score_random": float(scores.mean()),
            "score_random_std": float(scores.std(ddof=1)) if len(scores) > 1 else 0.0,
            "error_random": float(np.mean([_error(each, theta) for each in random])),
            "error_union_rest": _error(_solved(one, self.rest, strength), theta),
            "error_union_other": _error(points_with_other, with_other),
        }

    def _score(self, theta: torch.Tensor) -> float:
        return affine.score(self.real, self.test.inputs @ theta, self.real.test.targets)


def random_subset(data: Examples, count: int, run: Run, draw: int = 0) -> Examples:
    """`count` random examples, each counted so often that they weigh as much as all."""
    chosen = _drawn(len(data), count, run, f"random subset {draw}")
    return data[chosen].counted(len(data) / len(chosen))


def _paths(whole: Examples, params: Params, run: Run) -> Iterator[dict[str, object]]:
    data = Examples(whole.inputs, whole.targets[:, :1])
    points = linear_points.reduced(data).points
    sources = {"data": data, "points": points, "random": random_subset(data, len(points), run)}
    for name in _FOLLOWED:
        one = REGULARISERS[name]
        unit = one.unit(*_arrays(data))
        sizes = _solved(one, points, _SHARES[0] * unit)[1:, 0].abs()  # the intercept is not followed
        chosen = 1 + sizes.argsort(descending=True)[: params.curves]
        for share in _SHARES:
            found = {
                source: _solved(one, each, share * unit, LOOSE if source == "random" else TIGHT)[:, 0]
                for source, each in sources.items()
            }
            for column in chosen.tolist():
                values = {source: float(theta[column]) for source, theta in found.items()}
                yield {"regulariser": name, "share": share, "strength": share * unit, "column": column, **values}


def _solved(one: Regulariser, examples: Examples, strength: float, tolerance: float = TIGHT) -> torch.Tensor:
    return torch.from_numpy(one.solve(*_arrays(examples), strength, tolerance))


def _arrays(examples: Examples) -> tuple[Any, Any]:
    return examples.inputs.numpy(), examples.targets.numpy()


def _error(found: torch.Tensor, wanted: torch.Tensor, norm: float = 2) -> float:
    """|found - wanted| / |wanted| of all entries; where nothing is wanted, |found|."""
    size = float(torch.linalg.vector_norm(wanted, norm))
    return float(torch.linalg.vector_norm(found - wanted, norm)) / (size if size > 0 else 1.0)


def _zero(theta: torch.Tensor) -> torch.Tensor:
    """Coefficients that are zero but for rounding."""
    return theta.abs() <= _ZERO * theta.abs().max()
