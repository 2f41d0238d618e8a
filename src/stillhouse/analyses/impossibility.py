"""Where exact distillation is impossible, measured: how near fewer points come than a theorem asks for. Izzo, Zou (2023),
Theorems 2 and 4, and what they leave open: how many points an approximation needs. docs/theory/impossibility.md.

One regression set, its first output; sets are of some hundred examples, and computed on a CPU. What is said of a distilled set
is said by two solvers, ours and scikit-learn's.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression

from stillhouse import linalg
from stillhouse.data import whitening
from stillhouse.data.whitening import Standardised
from stillhouse.errors import UserError
from stillhouse.kernels import rbf
from stillhouse.models.ridge import Grid
from stillhouse.run import Run
from stillhouse.sets import RealSet, pixels
from stillhouse.theory import kernel_sections, logistic_path, nearest_sections
from stillhouse.theory.kernel_sections import Projection, Sum
from stillhouse.theory.logistic_path import Search, Weighted
from stillhouse.theory.nearest_sections import Target

Row = dict[str, object]

_DRAWN = 10  # times as many examples as are needed: among them distinct inputs are looked for
_IN_UNION = 4  # penalties at which one point is judged together with other data: the grid's, evenly spaced
_ROUNDING = 1e-12  # distance of sums of the quadratic kernel that are the same
_TOLERANCE = 1e-14  # of scikit-learn's logistic regression: rounding ends it before


@dataclass(frozen=True)
class Logistic:
    """The logistic part. Labels: whether the target is above its median. No intercept."""

    examples: Annotated[
        tuple[int, ...],
        Field(min_length=1, description="numbers of examples; sets of equal weights for the first alone"),
    ] = (8, 32, 128)
    dimensions: Annotated[tuple[int, ...], Field(min_length=1, description="directions of the inputs")] = (1, 2)
    points: Annotated[int, Field(ge=1, description="largest set searched for, where there are more examples")] = 7
    restarts: Annotated[int, Field(ge=1, description="random subsets that a search starts from")] = 2
    steps: Annotated[int, Field(ge=1, description="evaluations of the path in one search")] = 60
    penalties: Annotated[Grid, Field(description="exponents of the penalties, beside a mean loss")] = field(
        default_factory=lambda: Grid(-4.0, 1.0, 0.25)
    )


@dataclass(frozen=True)
class Params:
    """Sizes and settings. Defaults: ours; the paper has no experiment."""

    space: whitening.SpaceSettings = field(default_factory=Standardised)
    length: Annotated[
        float, Field(gt=0, description="of the kernel exp(-r^2 / 2 length^2), over the median distance of examples")
    ] = 1.0
    ridge: Annotated[float, Field(gt=0, description="beside a mean loss: n times it is added to the Gram matrix")] = (
        1e-3
    )
    examples: Annotated[
        int, Field(ge=2, description="examples for which sets of every smaller size are searched for, on all features")
    ] = 40
    subsets: Annotated[int, Field(ge=1, description="random subsets of each size, of which the best is told")] = 100
    restarts: Annotated[
        int, Field(ge=0, description="random subsets that a search starts from, beside the greedy one")
    ] = 2
    steps: Annotated[int, Field(ge=0, description="Gauss-Newton steps of one search")] = 60
    sizes: Annotated[
        tuple[int, ...],
        Field(
            min_length=1, description="numbers of examples for which the smallest set within epsilon is searched for"
        ),
    ] = (50, 100, 200, 400)
    dimensions: Annotated[
        tuple[int, ...],
        Field(min_length=1, description="directions of the inputs there; all features where there are no more"),
    ] = (2, 4, 8)
    epsilons: Annotated[tuple[float, ...], Field(min_length=1, description="relative distances")] = (0.3, 0.1, 0.03)
    logistic: Annotated[Logistic, Field(description="the path of logistic regression")] = field(
        default_factory=Logistic
    )


@dataclass(frozen=True, eq=False)
class Pool:
    """Examples in random order, no input twice: rows (p, d), standardised targets (p,); rows of the test set (t, d)."""

    rows: torch.Tensor
    targets: torch.Tensor
    test: torch.Tensor

    def along(self, count: int) -> Pool:
        """The same in `count` directions, those of partial least squares; all features where there are no more.

        An orthonormal basis of X^T y, (X^T X) X^T y, ...
        """
        if count >= self.rows.shape[1]:
            return self
        found = torch.zeros(self.rows.shape[1], 0, dtype=torch.float64)
        step = self.rows.T @ self.targets
        for _ in range(count):
            for _ in range(2):  # again, for rounding
                step = step - found @ (found.T @ step)
            found = torch.cat([found, (step / step.norm())[:, None]], 1)
            step = self.rows.T @ (self.rows @ found[:, -1])
        return Pool(self.rows @ found, self.targets, self.test @ found)

    def first(self, count: int) -> Pool:
        """The first examples: of two sizes, the smaller is a part of the larger."""
        return Pool(self.rows[:count], self.targets[:count], self.test)


@dataclass(frozen=True, eq=False)
class Gaussian:
    """The kernel exp(-rate |x - y|^2)."""

    rate: float
    kernel: kernel_sections.Kernel

    @classmethod
    def of(cls, rows: torch.Tensor, length: float) -> Gaussian:
        """rate = 1 / (2 (length median |x_i - x_j|)^2)."""
        rate = 1 / (2 * (length * float(torch.pdist(rows).median())) ** 2)
        dim = rows.shape[1]
        return cls(rate, rbf.build(rbf.Params(gamma=rate * dim), (dim,), 0))

    def teacher(self, pool: Pool, ridge: float) -> Target:
        """Kernel ridge regression on all of the pool's examples."""
        return Target(kernel_sections.fit(self.kernel, pool.rows, pool.targets, ridge), self.rate)

    def again(self, known: Sum, ridge: float) -> Any:
        """scikit-learn's KernelRidge, fitted to labels of the known sum's points."""
        model = KernelRidge(alpha=ridge, kernel="rbf", gamma=self.rate)
        return model.fit(known.points.numpy(), known.labels(ridge).numpy())

    def distance_again(self, target: Sum, near: Sum, ridge: float) -> float:
        """Of what scikit-learn learns from the points of `near` and their labels."""
        learned = torch.from_numpy(self.again(near, ridge).dual_coef_)
        return kernel_sections.distance(target, Sum(self.kernel, near.points, learned))


def analyse(real: RealSet, params: Params, run: Run) -> Iterator[Row]:
    """Rows of five parts, named by `part`; see the functions that make them. Distances are relative."""
    if not real.regression:
        raise UserError(f"{real.name}: targets are classes, this analysis is for values. Choose a regression set.")
    pool = examples(real, params, run)
    yield from gaussian(pool, params, run)
    yield from contrast(pool, params)
    yield from epsilon(pool, params, run)
    yield from logistic(pool, params.logistic, run)


def examples(real: RealSet, params: Params, run: Run) -> Pool:
    """As many as the parts ask for, or as there are with distinct inputs."""
    needed = max(params.examples, *params.sizes, *(2 * count for count in params.logistic.examples))
    space = whitening.fit(params.space, real)
    order = torch.randperm(len(real.train), generator=run.generator("examples"))[: _DRAWN * needed]
    rows = space.forward(pixels(real.train.inputs[order]).to(torch.float64)).flatten(1)
    kept = _distinct(rows)[:needed]
    targets = real.target_rows(real.train.targets[order[kept]])[:, 0]
    return Pool(rows[kept], targets, space.forward(pixels(real.test.inputs).to(torch.float64)).flatten(1))


def gaussian(pool: Pool, params: Params, run: Run) -> Iterator[Row]:
    """Theorem 2: a row for every m up to n, on all features.

    subset, greedy, found  distances: the best random subset, the greedy one, the best set found with points anywhere
    bound         proven: no set of m points is nearer
    found_scikit  of what scikit-learn's KernelRidge learns from the set
    resolution    what rounding may make of a distance of 0
    test          root mean square of f - g on the test inputs over that of f, both by scikit-learn
    condition, condition_found  of the Gram matrices of the examples and of the set
    smallest_coefficient  least over largest |c_i|: above 0, as the theorem asks
    """
    size = min(params.examples, len(pool.rows))
    ridge, chosen = params.ridge * size, Gaussian.of(pool.rows, params.length)
    target = chosen.teacher(pool.first(size), ridge)
    gram, coefficients = target.sum.gram, target.sum.coefficients
    generator = run.generator("subsets")
    order, greedy = kernel_sections.greedy(gram, coefficients, size)
    starts = [order, *(_order(size, generator) for _ in range(params.restarts))]
    bounds = kernel_sections.lower_bounds(gram, coefficients)
    wanted = chosen.again(target.sum, ridge).predict(pool.test.numpy())
    shared: Row = {
        "part": "gaussian", "n": size, "d": pool.rows.shape[1], "ridge": ridge, "length": (2 * chosen.rate) ** -0.5,
        "norm": math.sqrt(target.sum.square), "condition": linalg.condition(gram),
        "smallest_coefficient": float(coefficients.abs().min() / coefficients.abs().max()),
    }  # fmt: skip
    found = [*nearest_sections.nearest(target, starts, params.steps), target.sum.points]
    for count, points in run.progress(enumerate(found, 1), size, "sizes"):
        near = Projection.of(target.sum, points).sum
        subsets = torch.tensor([_order(size, generator)[:count] for _ in range(params.subsets)])
        missed = chosen.again(near, ridge).predict(pool.test.numpy()) - wanted
        yield {
            **shared,
            "m": count,
            "subset": float(kernel_sections.subset_distances(gram, coefficients, subsets).min()),
            "greedy": float(greedy[min(count, len(order)) - 1]),
            "found": kernel_sections.distance(target.sum, near),
            "bound": float(bounds[count]),
            "found_scikit": chosen.distance_again(target.sum, near, ridge),
            "resolution": kernel_sections.resolution(target.sum, near),
            "test": float(np.linalg.norm(missed) / np.linalg.norm(wanted)),
            "condition_found": linalg.condition(near.gram),
        }


def contrast(pool: Pool, params: Params) -> Iterator[Row]:
    """Kernels of finitely many features on the same examples: the linear one needs one point for one output, the quadratic one
    no more than d + 1, whatever n is; less where inputs depend on each other.

    m             points that are needed, up to rounding
    bound         proven: what one point less leaves at least
    found_scikit  root mean square of f - g on the test inputs over that of f, both by scikit-learn's KernelRidge
    """
    size = min(params.examples, len(pool.rows))
    rows, targets, ridge = pool.rows[:size], pool.targets[:size], params.ridge * size

    def by_linear(coefficients: torch.Tensor) -> tuple[Sum, float]:
        one = Sum(lambda x, y: x @ y.T, (coefficients @ rows)[None], torch.ones(1, dtype=torch.float64))
        return one, 1.0

    def by_quadratic(coefficients: torch.Tensor) -> tuple[Sum, float]:
        every = [kernel_sections.quadratic(rows, coefficients, count) for count in range(rows.shape[1] + 2)]
        needed = next(count for count, best in enumerate(every) if best.distance < _ROUNDING)
        best = every[needed]
        return Sum(lambda x, y: (1 + x @ y.T) ** 2, best.points, best.coefficients), every[needed - 1].distance

    for name, made, settings in (
        ("linear", by_linear, {"kernel": "linear"}),
        ("quadratic", by_quadratic, {"kernel": "poly", "degree": 2, "gamma": 1.0, "coef0": 1.0}),
    ):
        whole = KernelRidge(alpha=ridge, **settings).fit(rows.numpy(), targets.numpy())
        few, bound = made(torch.from_numpy(whole.dual_coef_))
        small = KernelRidge(alpha=ridge, **settings).fit(few.points.numpy(), few.labels(ridge).numpy())
        wanted, learned = (model.predict(pool.test.numpy()) for model in (whole, small))
        yield {
            "part": "contrast", "kernel": name, "n": size, "d": rows.shape[1], "ridge": ridge, "m": len(few.points),
            "bound": bound, "found_scikit": float(np.linalg.norm(learned - wanted) / np.linalg.norm(wanted)),
        }  # fmt: skip


def epsilon(pool: Pool, params: Params, run: Run) -> Iterator[Row]:
    """The smallest set within epsilon, for more and more examples; the kernel is the same for all of them.

    loss  mean: the ridge grows with n, as for a mean loss; sum: it stays that of the first size
    m_bound, m_found, m_greedy  proven to be needed; found with points anywhere; greedy among the examples
    m_components  kernel principal components of the examples that hold f within epsilon
    effective_dimension  tr K (K + ridge I)^-1
    """
    sizes = sorted({min(size, len(pool.rows)) for size in params.sizes})
    whole = pool.first(sizes[-1])
    pools = {each.rows.shape[1]: each for each in map(whole.along, params.dimensions)}
    cases = [(dim, loss, size) for dim in pools for loss in ("mean", "sum") for size in sizes]
    for dim, loss, size in run.progress(cases, len(cases), "sizes, within epsilon"):
        if loss == "sum" and size == sizes[0]:  # the same as the mean's
            continue
        ridge = params.ridge * (size if loss == "mean" else sizes[0])
        chosen = Gaussian.of(pools[dim].rows, params.length)
        target = chosen.teacher(pools[dim].first(size), ridge)
        yield from _within(chosen, target, ridge, {"part": "epsilon", "n": size, "d": dim, "loss": loss}, params)


def _within(chosen: Gaussian, target: Target, ridge: float, shared: Row, params: Params) -> Iterator[Row]:
    gram, coefficients = target.sum.gram, target.sum.coefficients
    order, greedy = kernel_sections.greedy(gram, coefficients, len(gram))
    bounds = kernel_sections.lower_bounds(gram, coefficients)
    components = kernel_sections.component_distances(gram, coefficients)
    for value in params.epsilons:
        start = target.sum.points[order[: int((greedy > value).sum()) + 1]]
        least = max(1, int((bounds > value).sum()))
        points = nearest_sections.fewest(target, value, least, start, params.steps)
        near = Projection.of(target.sum, points).sum
        yield {
            **shared,
            "ridge": ridge,
            "length": (2 * chosen.rate) ** -0.5,
            "norm": math.sqrt(target.sum.square),
            "effective_dimension": kernel_sections.effective_dimension(gram, ridge),
            "epsilon": value,
            "m_bound": least,
            "m_found": len(points),
            "m_greedy": len(start),
            "m_components": int((components > value).sum()),
            "found": kernel_sections.distance(target.sum, near),
            "found_scikit": chosen.distance_again(target.sum, near, ridge),
        }


def logistic(pool: Pool, params: Logistic, run: Run) -> Iterator[Row]:
    """Theorem 4: rows of `path` and of `union`, for every number of examples and of directions.

    path, path_scikit  largest distance over all penalties: of the best set found, by our solver and by scikit-learn's
    subset  that of the best random subset, with weights 1/m
    """
    penalties = torch.tensor(params.penalties.values(), dtype=torch.float64)
    median = pool.targets.median()
    cases = [
        (dim, place, size)
        for dim in params.dimensions
        for place, size in enumerate(params.examples)
        if size <= len(pool.rows)
    ]
    for dim, place, size in run.progress(cases, len(cases), "logistic paths"):
        seen, generator = pool.along(dim), run.generator(f"logistic {dim} {size}")
        labelled = Weighted.equal(seen.rows, (seen.targets > median).to(torch.float64))
        real, others = labelled.part(0, size), labelled.part(size, 2 * size)
        wanted = logistic_path.path(real, penalties)
        shared: Row = {"n": size, "d": seen.rows.shape[1]}
        for free in (True, False) if place == 0 else (True,):
            search = Search(real, penalties, wanted, free, params.steps)
            named = {**shared, "weights": "free" if free else "equal"}
            made = list(_followed(search, params, generator))
            yield from ({"part": "path", **named, **numbers} for _, numbers in made)
            if free and len(others.points):
                yield from _in_union(search, [data for data, _ in made], others, named)


def _followed(search: Search, params: Logistic, generator: torch.Generator) -> Iterator[tuple[Weighted, Row]]:
    """The best set of every size up to `points`, and all examples."""
    size, before, again = len(search.real.points), None, _path_again(search.real, search.penalties)
    for count in [*range(1, min(params.points + 1, size)), size]:
        orders = [_order(size, generator) for _ in range(params.restarts)]
        before = search.real if count == size else search.best(count, orders, before)
        yield (
            before,
            {
                "m": count,
                "path": search.distance(before),
                "path_scikit": float(logistic_path.distances(_path_again(before, search.penalties), again).max()),
                "subset": min(search.distance(search.subset(order[:count])) for order in orders),
            },
        )


def _in_union(search: Search, made: Sequence[Weighted], others: Weighted, named: Row) -> Iterator[Row]:
    """What sets are worth together with as many other examples, and with the same of opposite labels.

    set       one point: made for one penalty, `penalty`, and judged there; path: made for all, judged at the worst
    alone     distance without other data, over |theta| of the real examples alone, as all distances here
    union, union_scikit  that together with the other data, where a set stands for n examples, by both solvers
    ignored   that of the other data without a set
    """
    opposite, size = Weighted(others.points, 1 - others.labels, others.weights), len(search.real.points)
    every = max(1, len(search.penalties) // _IN_UNION)
    sets = [("path", data, slice(None)) for data in made]
    for place in range(0, len(search.penalties), every):
        one = logistic_path.one_point(search.wanted[place], float(search.penalties[place]))
        sets.append(("one point", one, slice(place, place + 1)))
    for other, those in (("same labels", others), ("opposite labels", opposite)):
        whole = search.real.joined(those, size)
        wanted, again = logistic_path.path(whole, search.penalties), _path_again(whole, search.penalties)
        apart = logistic_path.path(those, search.penalties)
        for kind, data, places in sets:
            penalties, unit, joined = search.penalties[places], search.wanted[places], data.joined(those, size)
            numbers = {
                "alone": logistic_path.distances(logistic_path.path(data, penalties), unit),
                "union": logistic_path.distances(logistic_path.path(joined, penalties), wanted[places], unit),
                "union_scikit": logistic_path.distances(_path_again(joined, penalties), again[places], unit),
                "ignored": logistic_path.distances(apart[places], wanted[places], unit),
            }
            yield {
                "part": "union", **named, "set": kind, "m": len(data.points), "others": other,
                "penalty": float(penalties[0]) if kind == "one point" else None,
                **{name: float(value.max()) for name, value in numbers.items()},
            }  # fmt: skip


def _path_again(data: Weighted, penalties: torch.Tensor) -> torch.Tensor:
    """theta (P, d) by scikit-learn: every point twice, as a member of each class, with the weight that its label gives it."""
    rows = np.concatenate([data.points, data.points])
    classes = np.repeat([1, 0], len(data.points))
    weights = np.concatenate([data.weights * data.labels, data.weights * (1 - data.labels)])
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rounding ends every fit before the tolerance does
        for penalty in penalties.tolist():
            model = LogisticRegression(
                C=1 / (2 * penalty), fit_intercept=False, solver="newton-cholesky", tol=_TOLERANCE, max_iter=1000
            )
            found.append(model.fit(rows, classes, sample_weight=weights).coef_[0])
    return torch.from_numpy(np.stack(found))


def _order(size: int, generator: torch.Generator) -> list[int]:
    return [int(place) for place in torch.randperm(size, generator=generator)]


def _distinct(rows: torch.Tensor) -> torch.Tensor:
    """Positions of the first of each of the distinct rows, ascending."""
    _, first = np.unique(rows.numpy(), axis=0, return_index=True)
    return torch.from_numpy(np.sort(first))
