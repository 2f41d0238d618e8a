"""Every statement of Chen, Huang, Weng (2024), measured: where it holds, how exactly, and what happens where it says that
it must fail.

A claim is one row: statement, condition, the largest relative error of the weights where it should hold, the smallest where it
should not, and a verdict that follows from these numbers. Real data wherever the statement speaks of data; the networks of
Theorems 5.2 and 5.3 are wider than their inputs, so they see a few random projections of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
from pydantic import Field

from stillhouse import features as maps
from stillhouse import linalg, spaces
from stillhouse.analyses import krr_privacy
from stillhouse.errors import NumericalError, UserError
from stillhouse.features import convolution, identity, leaky_relu, random_fourier, random_network
from stillhouse.models import ridge
from stillhouse.run import Run, stream
from stillhouse.sets import RealSet, pixels
from stillhouse.theory import deep, kip_loss, labels, points, trainable_layer

# Exact means below this, relatively, in float64; a failure that the theory predicts is far above it.
_EXACT, _FAR = 1e-8, 1e-3

HOLDS, CORRECTED, VACUOUS, FAILS = "holds", "holds with correction", "vacuous", "FAILS"


@dataclass(frozen=True)
class Params:
    """Sizes."""

    examples: Annotated[int, Field(ge=10, description="training examples used, from the first")] = 1500
    ridge: Annotated[float, Field(gt=0, description="of the teacher")] = 1.0
    inputs: Annotated[int, Field(ge=2, description="d of the networks that are wider than their inputs")] = 6
    width: Annotated[int, Field(ge=3, description="p of those networks, above d")] = 10
    classes: Annotated[int, Field(ge=2, description="c of those networks, below d: the first classes")] = 3


@dataclass(frozen=True)
class Claim:
    """One statement and what was measured.

    error  the largest where the statement should hold
    miss   the smallest where it says that it cannot, or nan where it says nothing
    """

    group: str
    claim: str
    statement: str
    condition: str
    error: float
    miss: float
    verdict: str
    finding: str
    test: str


@dataclass(frozen=True, eq=False)
class Case:
    """Real features F (n, p), one-hot targets Y (n, c), the teacher's weights W (p, c), and what is drawn."""

    rows: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    ridge: float
    run: Run

    @property
    def classes(self) -> int:
        """c."""
        return self.targets.shape[1]

    def normal(self, *shape: int, purpose: str) -> torch.Tensor:
        """Gaussian noise of one purpose, float64."""
        return torch.randn(*shape, generator=self.run.generator(purpose), dtype=torch.float64)

    def one_hot(self, count: int) -> torch.Tensor:
        """Targets (count, c): classes take turns."""
        return torch.eye(self.classes, dtype=torch.float64).repeat(-(-count // self.classes), 1)[:count]

    def free(self, count: int, scale: float = 1.0) -> torch.Tensor:
        """Z (p, count), with the spread of the weights' entries."""
        return self.normal(len(self.weights), count, purpose=f"free {count}") * (scale * float(self.weights.std()))

    def error(self, learned: torch.Tensor) -> float:
        """Relative distance of weights (p, c) to the teacher's."""
        return linalg.relative_error(learned, self.weights)


def analyse(real: RealSet, params: Params, run: Run) -> Iterator[dict[str, object]]:
    """One row per claim, in the paper's order."""
    case = _case(real, params, run)
    for claim in (
        *_points(case),
        *_labels(case),
        *_maps(real, case),
        *_networks(params, case),
        *_losses(case),
        *_privacy(),
    ):
        yield vars(claim)


def _case(real: RealSet, params: Params, run: Run) -> Case:
    chosen = pixels(real.train.inputs[: params.examples]).to(torch.float64).flatten(1)
    rows = (chosen - chosen.mean()) / chosen.std()
    targets = spaces.one_hot(real.train.targets[: params.examples], real.n_classes)
    return Case(rows, targets, ridge.solve(rows, targets, params.ridge), params.ridge, run)


def _verdict(error: float, miss: float = math.nan, otherwise: str = HOLDS) -> str:
    """`otherwise` where the numbers say what the statement says."""
    return otherwise if error < _EXACT and not miss <= _FAR else FAILS


# --- Section 4 and appendix C: points ---------------------------------------------------------------------------------------


def _points(case: Case) -> Iterator[Claim]:
    tests = "tests/theory/test_points.py"
    sizes = (case.classes, case.classes + 1, 3 * case.classes)
    yield _too_few(case, tests)
    built = [_learned(case, m, 0.0, "+") for m in sizes]
    yield Claim(
        "points", "Theorem 4.1.2", "λ_S = 0: X_S = D⁺ gives W_S = W", "m ≥ c, rank Y_S = c; any Z",
        max(built), math.nan, _verdict(max(built)), f"m = {', '.join(map(str, sizes))}", tests,
    )  # fmt: skip
    yield _ridge(case, sizes, tests)
    yield _limit(case, tests)
    yield _rank(case, tests)
    yield _nearest(case, tests)
    yield _full_rank_form(case, tests)
    yield _two_sided_form(case, tests)
    yield _path(case, tests)


def _learned(case: Case, count: int, part: float, signs: points.Signs, scale: float = 1.0) -> float:
    """Error of ridge regression on `count` points for lambda_S = part of its bound."""
    targets = case.one_hot(count)
    backward = points.admissible(case.weights, targets, case.free(count, scale))
    strength = part * points.ridge_bound(backward)
    found = points.points(backward, strength, signs)
    return case.error(linalg.ridge_pseudo_inverse(found, strength) @ targets)


def _too_few(case: Case, test: str) -> Claim:
    # W_S = D Y_S has rank m at most; no matrix of that rank is nearer than the truncated SVD.
    values = torch.linalg.svdvals(case.weights)
    floor = float(values[-1] / values.norm())
    refused = _refuses(
        lambda: points.admissible(case.weights, case.one_hot(case.classes - 1), case.free(case.classes - 1))
    )
    return Claim(
        "points", "Theorem 4.1, m < c", "fewer examples than classes cannot give W_S = W", "rank W = c",
        math.nan, floor, HOLDS if refused and floor > _FAR else FAILS, "no rank c − 1 matrix is nearer to W (Eckart–Young)", test,
    )  # fmt: skip


def _ridge(case: Case, sizes: tuple[int, ...], test: str) -> Claim:
    errors = [_learned(case, m, part, sign) for m in sizes for part in (0.1, 0.9, 1.0) for sign in ("+", "-")]
    count = sizes[-1]
    mixed = torch.arange(min(count, len(case.weights))) % 2 * 2 - 1
    backward = points.admissible(case.weights, case.one_hot(count), case.free(count))
    errors.append(_learned(case, count, 0.5, mixed[: linalg.rank(backward)]))
    refused = _refuses(lambda: points.points(backward, 1.01 * points.ridge_bound(backward)))
    return Claim(
        "points", "Theorem 4.1.1", "λ_S > 0: σᵢ = (1 ± √(1 − 4 λ_S σ'ᵢ²)) / 2σ'ᵢ gives W_S = W",
        "λ_S ≤ 1 / 4σ'₁²; either sign for each i",
        max(errors), math.nan, _verdict(max(errors)) if refused else FAILS,
        "both roots, mixed signs, up to the bound itself; 1 % above it there is no root", test,
    )  # fmt: skip


def _limit(case: Case, test: str) -> Claim:
    count = 3 * case.classes
    targets = case.one_hot(count)
    limit = points.ridge_limit(case.weights, targets)
    draws = iter(range(10_000))
    backward = points.resample(
        case.weights, targets, 0.99 * limit,
        lambda: case.normal(len(case.weights), count, purpose=f"draw {next(draws)}") * float(case.weights.std()),
    )  # fmt: skip
    found = points.points(backward, 0.99 * limit)
    error = case.error(linalg.ridge_pseudo_inverse(found, 0.99 * limit) @ targets)
    refused = _refuses(lambda: points.resample(case.weights, targets, 1.01 * limit, lambda: case.free(count)))
    return Claim(
        "points", "section 4.1, resampling", "draw Z again until λ_S ≤ 1 / 4σ'₁²", "λ_S < 1 / 4σ₁(W Y_S⁺)²",
        error, math.nan, _verdict(error, otherwise=CORRECTED) if refused else FAILS,
        "ours: above this limit no Z helps, below it Z must be small; drawing at one size does not help", test,
    )  # fmt: skip


def _rank(case: Case, test: str) -> Claim:
    count = min(3 * case.classes, len(case.weights) - case.classes)
    free = case.free(count)
    general = points.in_general_position(case.weights, free)
    backward = points.admissible(case.weights, case.one_hot(count), free)
    missing = float(count - linalg.rank(backward))
    degenerate = points.admissible(case.weights, case.one_hot(count), torch.zeros_like(free))
    lost = float(count - linalg.rank(degenerate))
    return Claim(
        "points", "Proposition 4.1", "X_S has full rank", "rank W = c; range W and range Z meet in 0; m + c ≤ d",
        missing, lost, HOLDS if general and missing == 0 and lost > 0 else FAILS,
        f"ranks missing: {missing:.0f}; for Z = 0: {lost:.0f}", test,
    )  # fmt: skip


def _nearest(case: Case, test: str) -> Claim:
    count = 2 * case.classes
    start = case.rows[:count]
    targets, wanted = start @ case.weights, linalg.pseudo_inverse(start).value
    found = points.nearest(case.weights, targets, wanted)
    gap = abs(float((found - wanted).norm()) / points.nearest_distance(case.weights, targets, wanted) - 1)
    others = min(
        float((points.admissible(case.weights, targets, wanted + case.free(count, 10.0**-i)) - wanted).norm())
        for i in range(4)
    )
    farther = others >= float((found - wanted).norm())
    error = max(gap, case.error(linalg.pseudo_inverse(points.points(found)).value @ targets))
    moved = linalg.relative_error(points.points(found), start)
    return Claim(
        "points", "Corollary 4.1.1", "the admissible D nearest to X̂_S⁺, in closed form", "m ≥ c, rank Y_S = c",
        error, math.nan, _verdict(error) if farther else FAILS,
        f"nearest in pseudo-inverses; the images themselves move by {moved:.2g} (relative)", test,
    )  # fmt: skip


def _full_rank_form(case: Case, test: str) -> Claim:
    p, error = len(case.weights), 0.0
    for count in (p, p + 5):
        wanted = points.full_rank_form(case.weights, case.one_hot(count), case.normal(count, p, purpose="C.1"))
        error = max(error, case.error(linalg.pseudo_inverse(wanted).value @ case.one_hot(count)))
    few = 2 * case.classes
    exact = points.points(points.admissible(case.weights, case.one_hot(few), case.free(few)))
    error = max(error, linalg.relative_error(exact @ case.weights, case.one_hot(few)))  # of this form: F W = Y
    wanted = points.full_rank_form(case.weights, case.one_hot(few), case.normal(few, p, purpose="C.1"))
    miss = case.error(linalg.pseudo_inverse(wanted).value @ case.one_hot(few))
    return Claim(
        "points", "Theorem C.1", "X_S = W⁺Y_S + (I − W⁺W) Z' of full rank", "necessary for m ≤ d, sufficient for m ≥ d",
        error, miss, _verdict(error, miss), f"m = {p}, {p + 5}: exact; m = {few}: not sufficient", test,
    )  # fmt: skip


def _two_sided_form(case: Case, test: str) -> Claim:
    p, error = len(case.weights), 0.0
    for count in (case.classes, 2 * case.classes, p + 5):
        targets = case.one_hot(count)
        wanted = points.two_sided_form(case.weights, targets, case.normal(count, p, purpose="C.2"))
        error = max(error, case.error(linalg.pseudo_inverse(wanted).value @ targets))
    return Claim(
        "points", "Theorem C.2", "X_S = W⁺Y_S + (I − W⁺W) Z' (I − Y_S⁺Y_S)",
        "m ≥ c, rank Y_S = c; the formula also needs rank W = c",
        error, math.nan, _verdict(error), "", test,
    )  # fmt: skip


def _path(case: Case, test: str) -> Claim:
    solutions = linalg.RidgePath.of_moments(case.rows.T @ case.rows, case.rows.T @ case.targets)
    ridges = [10.0**exponent for exponent in range(-3, 6)]
    targets = case.one_hot(case.classes)
    found = points.path(solutions, ridges, targets, torch.zeros(len(case.weights), case.classes, dtype=torch.float64))
    errors = [
        linalg.relative_error(linalg.pseudo_inverse(each).value @ targets, solutions.weights(strength))
        for strength, each in found
    ]
    few, few_targets = points.points_of_path(solutions)
    errors += [
        linalg.relative_error(ridge.solve(few, few_targets, strength), solutions.weights(strength))
        for strength in ridges
    ]
    return Claim(
        "points", "beyond the paper", "the whole regularisation path from one eigendecomposition",
        "c points per λ, or rank F points for all λ at once",
        max(errors), math.nan, _verdict(max(errors)), f"{len(ridges)} ridges; {len(few)} points carry all of them", test,
    )  # fmt: skip


def _refuses(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except (NumericalError, UserError):
        return True
    return False


# --- Section 4: labels ------------------------------------------------------------------------------------------------------


def _labels(case: Case) -> Iterator[Claim]:
    test, p = "tests/theory/test_labels.py", len(case.weights)
    few = case.rows[: 2 * case.classes]
    found = labels.labels(case.weights, few)
    learned = torch.linalg.lstsq(few, found, driver="gelsd").solution
    predicted = labels.residual(case.weights, few) / float(case.weights.norm())
    gap = abs(case.error(learned) / predicted - 1)
    yield Claim(
        "labels", "Theorem 4.2, m < d", "Y_S = W X_S is the least-squares choice; ‖W_S − W‖ = ‖W (X_S X_S⁺ − I)‖", "any X_S",
        gap, predicted, _verdict(gap, predicted), f"{len(few)} images leave {predicted:.2g} of W; predicted to {gap:.0e}", test,
    )  # fmt: skip
    many = case.normal(p + 3, p, purpose="label images")
    errors = [
        case.error(linalg.ridge_pseudo_inverse(many, strength) @ labels.labels(case.weights, many, strength))
        for strength in (0.0, 1.0)
    ]
    yield Claim(
        "labels", "Theorem 4.2, m ≥ d", "Y_S = W X_λS gives W_S = W", "rank X_S = d", max(errors), math.nan,
        _verdict(max(errors)), "λ_S = 0 and 1. The proof prints X_λS once where it means X_λS⁺", test,
    )  # fmt: skip


# --- Section 5: feature maps ------------------------------------------------------------------------------------------------

# Modules, and not names of plugins: the hash of the source does not see what is loaded by name.


def _examples(real: RealSet) -> Iterator[tuple[str, str, object]]:
    """Examples 5.1 to 5.4: name, what it is, settings of the map."""
    channels, halved = real.shape[0], (int(0.75 * real.dim), int(0.5 * real.dim))
    convolutional = partial(convolution.Params, shape=real.shape)
    yield "Example 5.1", "identity", identity.Params()
    yield "Example 5.2", "FCNN, 1 layer", random_network.Params(depth=1)
    yield "Example 5.2", "FCNN, 3 layers", random_network.Params(depth=3)
    yield "Example 5.2", "FCNN that narrows", random_network.Params(widths=halved)
    yield "Example 5.3", "CNN, 2 × 2 filter", convolutional(channels=channels)
    yield "Example 5.3", "CNN, 4 channels, stride 2", convolutional(channels=4 * channels, stride=2)
    yield "Example 5.4", "random Fourier features", random_fourier.Params()


def _maps(real: RealSet, case: Case) -> Iterator[Claim]:
    test = "tests/theory/test_deep.py"
    for name, what, params in _examples(real):
        phi = _built(real, params, case.run)
        error = _through(phi, case)
        yield Claim(
            "feature maps", f"Theorem 5.1, {name}", f"c points suffice for KRR with {what}", "φ onto",
            error, math.nan, _verdict(error) if phi.onto else FAILS, f"p = {phi.dim}, d = {real.dim}", test,
        )  # fmt: skip
    phi = _built(real, convolution.Params(channels=6 * real.shape[0], shape=real.shape), case.run)
    refused = _refuses(lambda: phi.inverse(torch.ones(1, phi.dim, dtype=torch.float64))) and not phi.onto
    rows = phi(case.rows)
    weights = ridge.solve(rows, case.targets, case.ridge)
    wide = case.normal(phi.dim + 3, real.dim, purpose="images for labels")
    chosen_images = phi(wide)
    error = linalg.relative_error(linalg.pseudo_inverse(chosen_images).value @ (chosen_images @ weights), weights)
    few = phi(case.rows[: 2 * case.classes])
    miss = labels.residual(weights, few) / float(weights.norm())
    yield Claim(
        "feature maps", "section 5, not onto", "solve labels for given images instead: m ≥ p labels give W_S = W",
        "rank φ(X_S) = p",
        error, miss, _verdict(error, miss) if refused else FAILS,
        f"CNN with p = {phi.dim} > d = {real.dim}: its matrix equation has no solution", test,
    )  # fmt: skip


def _built(real: RealSet, params: object, run: Run) -> maps.FeatureMap:
    return maps.build(params, real.dim, stream(run.seed, "feature map"))


def _through(phi: maps.FeatureMap, case: Case) -> float:
    """Error of c points made for features phi(X), after a round trip through phi^-1."""
    rows = phi(case.rows.clone())
    weights = ridge.solve(rows, case.targets, case.ridge)
    targets = case.one_hot(case.classes)
    wanted = points.points(
        points.admissible(weights, targets, torch.zeros(len(weights), case.classes, dtype=torch.float64))
    )
    reach = phi.reach(wanted)
    found = phi(phi.inverse(wanted / reach))
    return linalg.relative_error(linalg.pseudo_inverse(found).value @ (targets / reach), weights)


# --- Section 5 and appendix D: networks -------------------------------------------------------------------------------------

_SLOPE = 0.5  # kinks of 0.1 catch the search anywhere


def _networks(params: Params, case: Case) -> Iterator[Claim]:
    test = "tests/theory/test_deep.py"
    d, p, c = params.inputs, params.width, params.classes
    chosen = case.targets[:, :c].sum(1) > 0
    inputs = case.rows[chosen] @ case.normal(case.rows.shape[1], d, purpose="projection") / case.rows.shape[1] ** 0.5
    targets = case.targets[chosen][:, :c]
    layers = [case.normal(d, p, purpose="layer 1") / d**0.5, case.normal(p, p, purpose="layer 2") / p**0.5]
    yield _one_point(layers, inputs, targets, case, test)
    yield from _deep_linear(layers, inputs, targets, case, test)
    yield _extra_layer(case)


def _one_point(layers: list[torch.Tensor], inputs: torch.Tensor, targets: torch.Tensor, case: Case, test: str) -> Claim:
    phi, c = random_network.RandomNetwork(layers, _SLOPE), targets.shape[1]
    weights = ridge.solve(phi(inputs.clone()), targets, 0.0)
    few = torch.eye(c, dtype=torch.float64)
    outside = deep.one_point_residual(layers, partial(leaky_relu.undo, slope=_SLOPE), weights, few)
    starts = [case.normal(c, len(layers[0]), purpose=f"search {i}") for i in range(3)]
    missed = min(deep.optimised_inputs(phi, weights, few, start).error for start in starts)
    many = phi(case.normal(phi.dim + 2, len(layers[0]), purpose="label points"))
    error = linalg.relative_error(linalg.pseudo_inverse(many).value @ (many @ weights), weights)
    return Claim(
        "networks", "Theorem 5.2", "a nonlinear network wider than its inputs: one point per class is not enough",
        "d < d₁ = … = d_L = p, λ_S = 0", error, missed, _verdict(error, missed) if outside > _FAR else FAILS,
        f"distance to what the first layer can make {outside:.2g}; the best of 3 searches misses W by {missed:.2g}; "
        "m ≥ p labels are exact", test,
    )  # fmt: skip


def _deep_linear(
    layers: list[torch.Tensor], inputs: torch.Tensor, targets: torch.Tensor, case: Case, test: str
) -> Iterator[Claim]:
    (d, p), c = layers[0].shape, targets.shape[1]
    matrix = deep.product(layers)
    weights = ridge.solve(inputs @ matrix, targets, case.ridge)
    arbitrary = case.normal(p, c, purpose="arbitrary weights")
    few = torch.eye(c, dtype=torch.float64)
    outside = deep.deep_linear_residual(layers, arbitrary, few)
    found = deep.deep_linear_inputs(layers, weights, few, case.normal(d, c, purpose="deep linear"))
    error = linalg.relative_error(linalg.pseudo_inverse(found @ matrix).value @ few, weights)
    yield Claim(
        "networks", "Theorem 5.3 (1)", "a deep linear network: one point per class is not enough, unless W⁺Y_S ∈ range ∏W⁽ˡ⁾",
        "d < d₁ = … = d_L = p, λ_S = 0", error, outside, _verdict(error, outside, CORRECTED),
        "the exception holds for every W that was trained on the network's features: c points suffice (our construction)", test,
    )  # fmt: skip
    printed = deep.printed_condition(layers, weights, "all layers")
    other = deep.printed_condition(layers, weights, "layers after the first")
    more = torch.eye(c, dtype=torch.float64).repeat(2, 1)[: c + 1]
    made = deep.printed_construction(
        layers, weights, more, case.normal(c + 1, p, purpose="printed"), "layers after the first"
    )
    wrong = linalg.relative_error(linalg.pseudo_inverse(made @ matrix).value @ more, weights)
    vacuous = printed.deficit == p - d and other.holds and wrong > _FAR
    yield Claim(
        "networks", "Theorem 5.3 (2)", "m > c points suffice where H and the last p × p block of V_H have full rank",
        "H = [∏W⁽ˡ⁾ (W⁽¹⁾)⁺, W⁺W − I], as printed", math.nan, wrong, VACUOUS if vacuous else FAILS,
        f"the block always lacks p − d = {printed.deficit} ranks; with the product over l ≥ 2 it has full rank, "
        f"and the construction misses W by {wrong:.2g}", test,
    )  # fmt: skip
    left = deep.out_of_reach(layers, arbitrary)
    count = p + 2
    built = deep.deep_linear_inputs(
        layers, arbitrary, case.normal(count, c, purpose="targets"), case.normal(d, count, purpose="z")
    )
    reached = linalg.relative_error(
        linalg.pseudo_inverse(built @ matrix).value @ case.normal(count, c, purpose="targets"), arbitrary
    )
    yield Claim(
        "networks", "beyond the paper", "a deep linear network: no number of points gives back a W outside range ∏W⁽ˡ⁾",
        "the part of W outside is always left, and no more", abs(reached / left - 1), left,
        _verdict(abs(reached / left - 1), left),
        f"{left:.2g} of an arbitrary W is left by {count} points", test,
    )  # fmt: skip


def _extra_layer(case: Case) -> Claim:
    count = case.classes + 2
    targets = case.one_hot(count)
    errors = []
    for scale in (0.1, 1.0, 10.0):
        found = trainable_layer.scaled_points(case.weights, targets, case.free(count), scale)
        layer = trainable_layer.given_layer(found, case.ridge, scale)
        errors.append(case.error(layer @ ridge.solve(found @ layer, targets, case.ridge)))
    penalty = 0.5 * trainable_layer.penalty_limit(case.weights, targets)
    both = trainable_layer.trained_points(
        case.weights, targets, case.normal(count, len(case.weights), purpose="D.1"), penalty
    )
    # W is a minimum of |F B - Y|^2 + 2 mu |B|_*: the gradient of the first term is -2 mu U V^T on W's own spaces.
    left, _, right = torch.linalg.svd(case.weights, full_matrices=False)
    slope = both.T @ (both @ case.weights - targets)
    errors.append(float((slope + penalty * left @ right).norm() / (penalty * math.sqrt(case.classes))))
    return Claim(
        "networks", "Theorem D.1", "one more trainable layer A: (c'/(c' + 1)) φ(X_S)⁺ = D for some c' > 0 suffices",
        "c ≤ m < p, λ_S > 0", max(errors), math.nan, _verdict(max(errors), otherwise=CORRECTED),
        "with A as the proof chooses it; where A is trained too, other points do it, below a limit (ours)",
        "tests/theory/test_trainable_layer.py",
    )  # fmt: skip


# --- Section 6 --------------------------------------------------------------------------------------------------------------


def _losses(case: Case) -> Iterator[Claim]:
    test = "tests/theory/test_kip_loss.py"
    few, few_targets = case.rows[: case.classes], case.targets[: case.classes]
    exact = linalg.pseudo_inverse(few).value @ few_targets
    interpolated = kip_loss.loss(few, few_targets, exact) / float(few_targets.square().sum())
    least = linalg.pseudo_inverse(case.rows).value @ case.targets
    other = least + case.normal(*least.shape, purpose="other weights") * (0.1 * float(least.std()))
    excess = kip_loss.excess(case.rows, least, other)
    difference = kip_loss.loss(case.rows, case.targets, other) - kip_loss.loss(case.rows, case.targets, least)
    error = max(interpolated, abs(difference / excess - 1))
    relative = excess / kip_loss.loss(case.rows, case.targets, least)
    yield Claim(
        "losses", "Theorem 6.1", "the exact points minimise KIP's loss; for n ≥ p only weights W do", "φ(X) of full rank, λ = 0",
        error, relative, _verdict(error, relative), "L(W_S) − L(W) = ‖φ(X)(W_S − W)‖², to rounding", test,
    )  # fmt: skip
    some = case.rows[: 3 * case.classes]
    labels_of = case.targets[: 3 * case.classes]
    weights = linalg.ridge_pseudo_inverse(some, case.ridge) @ labels_of
    free = case.normal(len(weights), len(some), purpose="other data") * 1e-3
    changed = kip_loss.other_features(some, labels_of, free, case.ridge)
    again = linalg.relative_error(linalg.ridge_pseudo_inverse(changed, case.ridge) @ labels_of, weights)
    moved = linalg.relative_error(changed, some)
    yield Claim(
        "privacy", "Proposition 6.1", "W can be rebuilt from φ(X_S); infinitely many φ(X) give W", "n > c, rank Y = c",
        again, moved, _verdict(again, moved), f"other data, {moved:.2g} away, give the same W", test,
    )  # fmt: skip


def _privacy() -> Iterator[Claim]:
    test = "tests/theory/test_privacy.py"
    promised = 0.9
    rows = list(krr_privacy.tight_guarantee(krr_privacy.Params(row_epsilons=(promised,))))
    found = {(str(row["constant"]), str(row["adjacency"])): float(str(row["measured_epsilon"])) for row in rows}
    over = found["printed", "replace"] / promised - 1
    kept = all(value <= promised * (1 + 1e-9) for key, value in found.items() if key != ("printed", "replace"))
    yield Claim(
        "privacy", "Theorem 6.2", "σ ≥ 2 √ln(1.25/δ) B ‖[Y_S⁺]ᵢ Y‖ / (σ₀² ε ‖[I − Y_S⁺Y_S]ᵢ‖) makes each row (ε, δ)-private",
        "λ = 0, ‖xᵢ‖ ≤ B, σ_min > σ₀, m > c, Y_S unknown", math.nan, over,
        CORRECTED if kept and over > _FAR else FAILS,
        f"ε = {promised} promised, on data made to come near the bound: as printed {found['printed', 'remove']:.3f} for one "
        f"removed, but {found['printed', 'replace']:.3f} for one replaced; derived constant {found['derived', 'replace']:.3f}. "
        "It speaks of single rows of D: X_S with Y_S gives W away whatever the noise", test,
    )  # fmt: skip
