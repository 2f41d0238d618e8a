"""What exact distillation gives away of its data, and what noise hides: attacks on ridge regression on pixels.

Five tables: membership inference, the accuracy that is left, reconstruction of a missing record, the privacy of one row of D as
measured, and of several rows together. theory/privacy.py has the mechanisms, evaluation/attacks.py the attacks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field

from stillhouse import linalg, spaces
from stillhouse.evaluation import attacks
from stillhouse.evaluation.attacks import Reconstruction, Release
from stillhouse.run import Run
from stillhouse.sets import RealSet, Split, pixels
from stillhouse.theory import points, privacy

_CHUNK = 4096  # examples whose features are held at once
_FALSE_POSITIVE_RATE = 0.01
_OTHERS = 100  # examples beside the one that is replaced, in the data that reach the bound
_PICTURED = 1.0  # epsilon of the pictures

Row = dict[str, object]


@dataclass(frozen=True)
class Params:
    """Sizes and privacy parameters. Defaults take some minutes for 784 pixels on one core."""

    epsilons: Annotated[tuple[float, ...], Field(description="tried for every mechanism")] = (0.1, 1.0, 10.0, 100.0)
    delta: Annotated[float, Field(gt=0, lt=1, description="of (epsilon, delta)-privacy, of every mechanism")] = 1e-5
    adjacency: Annotated[privacy.Adjacency, Field(description="of the mechanisms under attack")] = "remove"
    norm: Annotated[float, Field(gt=0, description="longer images are scaled down to it")] = 1.0
    ridge: Annotated[float, Field(gt=0, description="lambda of the attacked models")] = 1.0
    per_class: Annotated[int, Field(ge=2, description="distilled examples per class in the attacked sets")] = 2
    pool: Annotated[int, Field(ge=2, description="examples of which each shadow training set has about half")] = 2000
    attacked: Annotated[int, Field(ge=1, description="examples of the pool whose membership is guessed")] = 1000
    shadows: Annotated[int, Field(ge=4, description="training sets from which the attacker learns")] = 64
    victims: Annotated[int, Field(ge=2, description="training sets that are attacked")] = 16
    records: Annotated[int, Field(ge=1, description="records reconstructed, classes in turn")] = 10
    row_epsilons: Annotated[
        tuple[float, ...], Field(description="promised for one row; the paper's theorem speaks of those below 1")
    ] = (0.1, 0.5, 0.99)
    composed: Annotated[
        int, Field(ge=2, description="distilled examples per class of the set whose rows are released together")
    ] = 10


@dataclass(frozen=True, eq=False)
class Whole:
    """F^T F (p, p) and F^T Y (p, c) of all training examples, and the classes' sizes (c,)."""

    gram: torch.Tensor
    cross: torch.Tensor
    sizes: torch.Tensor


@dataclass(frozen=True)
class Mechanism:
    """How a set is released: exact, rows or statistics, and its epsilon (inf for exact)."""

    name: str
    epsilon: float

    def __str__(self) -> str:
        return self.name if math.isinf(self.epsilon) else f"{self.name}, epsilon {self.epsilon:g}"


def analyse(real: RealSet, params: Params, run: Run) -> Iterator[Row]:
    """The rows of the five tables; `table` names them. Epsilon is inf where there is no guarantee."""
    yield from membership(real, params, run)
    whole = sums(real, params, run)
    yield from reconstruction(real, whole, params, run)
    yield from row_guarantee(real, whole, params, run)
    yield from composition(whole, params)


def pictures(real: RealSet, params: Params, run: Run) -> dict[str, torch.Tensor]:
    """Records and what the informed adversary makes of them, (records, *shape) by label, each divided by its largest value."""
    whole, chosen = sums(real, params, run), records(real, params, run)
    shown = {"original": pixels(real.train.inputs[chosen]).to(torch.float64).flatten(1)}
    tried = (Mechanism("exact", math.inf), Mechanism("rows", _PICTURED), Mechanism("statistics", _PICTURED))
    for mechanism in tried:
        weights = released(mechanism, whole, params, run)
        found = reconstructions(real, whole, chosen, mechanism, weights, params, run)
        shown[str(mechanism)] = torch.stack([each.features.cpu() for each in found])
    return {
        label: (flat / flat.abs().amax(1, keepdim=True)).reshape(-1, *real.shape).float()
        for label, flat in shown.items()
    }


# --- The attacked releases --------------------------------------------------------------------------------------------------


def mechanisms(params: Params) -> tuple[Mechanism, ...]:
    """Without noise, and both mechanisms at every epsilon."""
    noisy = (Mechanism(name, epsilon) for name in ("rows", "statistics") for epsilon in params.epsilons)
    return (Mechanism("exact", math.inf), *noisy)


def release(mechanism: Mechanism, params: Params, sizes: torch.Tensor, run: Run) -> Release:
    """From the sums of a data set to the weights that least squares learns from its distilled set.

    `sizes` (c,) are public upper bounds on the classes' sizes. Images of a linear model are its features: nothing is lost in
    between.
    """
    generator = run.generator(str(mechanism))
    targets = _targets(len(sizes), params.per_class, run)

    def normal(rows: int, columns: int) -> torch.Tensor:
        return torch.randn(rows, columns, generator=generator, dtype=torch.float64).to(run.device)

    def made(gram: torch.Tensor, cross: torch.Tensor) -> torch.Tensor:
        features, classes = cross.shape
        if mechanism.name == "statistics":
            scale = privacy.statistics_noise(mechanism.epsilon, params.delta, params.adjacency)
            noise = normal(features, features + classes)
            weights = privacy.private_weights(gram, cross, params.ridge, params.norm, scale, noise)
        else:
            weights = _weights(gram, cross, params)
        if mechanism.name == "rows":
            spread = privacy.row_noise(targets, _domain(params, sizes), mechanism.epsilon, params.delta)
        else:
            spread = float(weights.std())
        backward = points.admissible(weights, targets, spread * normal(features, len(targets)))
        return attacks.recovered(points.points(backward), targets)

    return made


def sums(real: RealSet, params: Params, run: Run) -> Whole:
    """Over all training examples, in one pass."""
    total = linalg.Moments(real.dim, real.n_classes, run.device)
    for rows, targets in _chunks(real, params, run):
        total.add(rows, targets)
    return Whole(total.gram, total.cross, torch.bincount(real.train.targets, minlength=real.n_classes))


def _weights(gram: torch.Tensor, cross: torch.Tensor, params: Params) -> torch.Tensor:
    return linalg.solve_positive(_regularised(gram, params.ridge), cross)


def _regularised(gram: torch.Tensor, ridge: float) -> torch.Tensor:
    return gram + ridge * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)


def _domain(params: Params, sizes: torch.Tensor) -> privacy.Domain:
    return privacy.Domain(params.norm, params.ridge, sizes.to(torch.float64), params.adjacency)


def _targets(classes: int, per_class: int, run: Run) -> torch.Tensor:
    return torch.eye(classes, dtype=torch.float64, device=run.device).repeat(per_class, 1)


def _features(split: Split, index: torch.Tensor, params: Params, run: Run) -> torch.Tensor:
    """Clipped images as rows, (b, d) float64."""
    return privacy.clipped(pixels(split.inputs[index]).flatten(1).to(run.device), params.norm)


def _accuracy(real: RealSet, weights: torch.Tensor, params: Params, run: Run) -> float:
    """Percent of the test set. Clipping changes no choice of a linear model."""
    scores = _features(real.test, torch.arange(len(real.test)), params, run) @ weights
    return 100 * float((scores.argmax(1).cpu() == real.test.targets).double().mean())


def _one_hot(real: RealSet, index: torch.Tensor, run: Run) -> torch.Tensor:
    return spaces.one_hot(real.train.targets[index], real.n_classes).to(run.device)


def _chunks(real: RealSet, params: Params, run: Run) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for start in range(0, len(real.train), _CHUNK):
        index = torch.arange(start, min(start + _CHUNK, len(real.train)))
        yield _features(real.train, index, params, run), _one_hot(real, index, run)


# --- Tables -----------------------------------------------------------------------------------------------------------------


def membership(real: RealSet, params: Params, run: Run) -> Iterator[Row]:
    """Likelihood-ratio membership inference against every mechanism, and the test accuracy of the attacked models (percent).

    For `statistics`, the most that any attack can reach stands beside: adjacency `remove` bounds it.
    """
    generator = run.generator("membership")
    pool = torch.randperm(len(real.train), generator=generator)[: params.pool].sort().values
    pool = pool[torch.randperm(len(pool), generator=generator)]
    rows, targets = _features(real.train, pool, params, run), _one_hot(real, pool, run)
    members = attacks.memberships(params.shadows + params.victims, len(pool), generator)
    sizes = targets.sum(0)
    tried = {str(each): each for each in mechanisms(params)}
    releases = {name: release(each, params, sizes, run) for name, each in tried.items()}
    attacked = slice(0, params.attacked)
    scores = {name: torch.zeros(len(members), len(rows[attacked]), dtype=torch.float64) for name in tried}
    accuracies = dict.fromkeys(tried, 0.0)
    for index, name, weights in attacks.trainings(rows, targets, members, releases):
        scores[name][index] = attacks.own_scores(weights, rows[attacked], targets[attacked]).cpu()
        if index >= params.shadows:
            accuracies[name] += _accuracy(real, weights, params, run) / params.victims
    known, guessed = members[: params.shadows, attacked], members[params.shadows :, attacked]
    for name, mechanism in tried.items():
        shadow, victim = scores[name][: params.shadows], scores[name][params.shadows :]
        curve = attacks.roc(attacks.likelihood_ratios(shadow, known, victim), guessed, _FALSE_POSITIVE_RATE)
        yield {
            "table": "membership",
            "mechanism": mechanism.name,
            "epsilon": mechanism.epsilon,
            "delta": params.delta,
            "adjacency": params.adjacency,
            "auc": curve.auc,
            "tpr_at_1_percent_fpr": curve.tpr,
            **_most(mechanism, params),
            "accuracy": accuracies[name],
            "examples": len(pool) // 2,
        }


def _most(mechanism: Mechanism, params: Params) -> Row:
    """What no attack can exceed on average: the trade-off of two Gaussians one sensitivity for `remove` apart."""
    if mechanism.name != "statistics":
        return {"auc_at_most": 1.0, "tpr_at_most": 1.0}
    scale = privacy.statistics_noise(mechanism.epsilon, params.delta, params.adjacency)
    shift = privacy.statistics_sensitivity("remove") / scale
    return {
        "auc_at_most": privacy.largest_area(shift),
        "tpr_at_most": privacy.largest_power(_FALSE_POSITIVE_RATE, shift),
    }


def records(real: RealSet, params: Params, run: Run) -> torch.Tensor:
    """Positions of the training examples to reconstruct: drawn at random, classes in turn."""
    generator = run.generator("records")
    rounds = -(-params.records // real.n_classes)
    drawn = [
        here[torch.randperm(len(here), generator=generator)[:rounds]]
        for here in (real.positions(label) for label in range(real.n_classes))
    ]
    return torch.stack([here[turn % len(here)] for turn in range(rounds) for here in drawn])[: params.records]


def released(mechanism: Mechanism, whole: Whole, params: Params, run: Run) -> torch.Tensor:
    """The weights (p, c) that least squares learns from one distilled set of the whole training set."""
    return release(mechanism, params, whole.sizes + 1, run)(whole.gram, whole.cross)


def reconstructions(
    real: RealSet,
    whole: Whole,
    chosen: torch.Tensor,
    mechanism: Mechanism,
    weights: torch.Tensor,
    params: Params,
    run: Run,
) -> list[Reconstruction]:
    """What the adversary who knows all other records makes of each of the `chosen` ones, from the same released weights."""
    rows, targets = _features(real.train, chosen, params, run), _one_hot(real, chosen, run)
    ridge = params.ridge + _noise_ridge(mechanism, params, real.dim)
    return [
        attacks.reconstruct(
            whole.gram - torch.outer(row, row), whole.cross - torch.outer(row, target), ridge, weights, params.norm
        )
        for row, target in zip(rows, targets, strict=True)
    ]


def _noise_ridge(mechanism: Mechanism, params: Params, features: int) -> float:
    if mechanism.name != "statistics":
        return 0.0
    scale = privacy.statistics_noise(mechanism.epsilon, params.delta, params.adjacency)
    return privacy.noise_ridge(features, params.norm, scale)


def reconstruction(real: RealSet, whole: Whole, params: Params, run: Run) -> Iterator[Row]:
    """How far each reconstructed record is from the true one and the class found, and, in a table of its own, the test accuracy
    (percent) of the model that was attacked.
    """
    chosen = records(real, params, run)
    rows = _features(real.train, chosen, params, run)
    for mechanism in mechanisms(params):
        weights = released(mechanism, whole, params, run)
        common: Row = {
            "mechanism": mechanism.name,
            "epsilon": mechanism.epsilon,
            "delta": params.delta,
            "adjacency": params.adjacency,
            "examples": len(real.train),
        }
        yield {"table": "accuracy", **common, "accuracy": _accuracy(real, weights, params, run)}
        found = reconstructions(real, whole, chosen, mechanism, weights, params, run)
        for position, row, each in zip(chosen.tolist(), rows, found, strict=True):
            yield {
                "table": "reconstruction",
                **common,
                "record": position,
                "class": int(real.train.targets[position]),
                "class_found": each.label,
                "relative_error": linalg.relative_error(each.features, row),
            }


def row_guarantee(real: RealSet, whole: Whole, params: Params, run: Run) -> Iterator[Row]:
    """Promised and measured epsilon of one column of D, for the derived and the printed constant: the worst record of the real
    data, and data that come close to the bound.
    """
    targets = _targets(real.n_classes, params.per_class, run)
    measured = _worst_of_data(real, whole, targets, params, run)
    sizes = whole.sizes.to(targets) + 1
    yield from _promises(real.name, targets, measured, dict.fromkeys(measured, (params.ridge,) * 2), sizes, params)
    yield from tight_guarantee(params)


def tight_guarantee(params: Params) -> Iterator[Row]:
    """The same for made-up data that meet every assumption of Theorem 6.2 and come close to its bound: one feature."""
    rows, labels, targets, other = privacy.tight_case(_OTHERS)
    gram = rows.T @ rows
    weights = linalg.solve_positive(gram, rows.T @ labels)
    shifts = {
        "remove": attacks.worst_removal(gram, weights, rows[:1], labels[:1], targets),
        "replace": attacks.worst_replacement(gram, weights, (rows[0], labels[0]), other[None], labels[:1], targets),
    }
    # The proof for `replace` goes by way of the common n - 1 examples; the printed bound knows only sets of n.
    smallest = {"remove": (_OTHERS, _OTHERS), "replace": (_OTHERS, _OTHERS + 1)}
    yield from _promises(
        f"one feature, {_OTHERS + 1} examples",
        targets,
        {adjacency: float(shift.max()) for adjacency, shift in shifts.items()},
        {adjacency: (float(derived), float(printed)) for adjacency, (derived, printed) in smallest.items()},
        labels.sum(0),
        params,
        norm=1.0,
    )


def _promises(
    data: str,
    targets: torch.Tensor,
    shifts: Mapping[str, float],
    smallest: Mapping[str, tuple[float, ...]],
    sizes: torch.Tensor,
    params: Params,
    norm: float | None = None,
) -> Iterator[Row]:
    for adjacency in ("remove", "replace"):
        for constant, least in zip(("derived", "printed"), smallest[adjacency], strict=True):
            domain = privacy.Domain(norm or params.norm, least, sizes, adjacency)
            noise = privacy.row_noise if constant == "derived" else privacy.printed_row_noise
            for epsilon in params.row_epsilons:
                sigma = noise(targets, domain, epsilon, params.delta)
                found = privacy.smallest_epsilon(params.delta, shifts[adjacency] / sigma)
                yield {
                    "table": "row guarantee",
                    "data": data,
                    "constant": constant,
                    "adjacency": adjacency,
                    "epsilon": epsilon,
                    "delta": params.delta,
                    "measured_epsilon": found,
                    "measured_delta": privacy.gaussian_delta(epsilon, shifts[adjacency] / sigma),
                    "sigma": sigma,
                    "kept": found <= epsilon * (1 + 1e-9),
                }


def _worst_of_data(
    real: RealSet, whole: Whole, set_targets: torch.Tensor, params: Params, run: Run
) -> dict[str, float]:
    """Over all training examples: the one that is missed most, and the one that makes most difference in its place."""
    gram = _regularised(whole.gram, params.ridge)
    weights = linalg.solve_positive(gram, whole.cross)
    removed = torch.cat(
        [
            attacks.worst_removal(gram, weights, rows, targets, set_targets)
            for rows, targets in _chunks(real, params, run)
        ]
    )
    worst = removed.argmax().cpu()[None]
    record = (_features(real.train, worst, params, run)[0], _one_hot(real, worst, run)[0])
    replaced = max(
        float(attacks.worst_replacement(gram, weights, record, rows, targets, set_targets).max())
        for rows, targets in _chunks(real, params, run)
    )
    return {"remove": float(removed.max()), "replace": replaced}


def composition(whole: Whole, params: Params) -> Iterator[Row]:
    """The epsilon of the first r columns of D together, where each alone has the promised one; classes take turns.

    For r = 1, for whole rounds of the classes, and for one column more than m - c, where W begins to show.
    """
    classes, total = len(whole.sizes), len(whole.sizes) * params.composed
    targets = torch.eye(classes, dtype=torch.float64).repeat(params.composed, 1)
    domain = _domain(params, whole.sizes.cpu() + 1)
    counts = sorted({1, *range(classes, total + 1, classes), total - classes + 1})
    shifts = {count: privacy.joint_shift(torch.arange(count), targets, domain, 1.0) for count in counts}
    for promised in params.epsilons:
        sigma = privacy.row_noise(targets, domain, promised, params.delta)
        for count, shift in shifts.items():
            yield {
                "table": "composition",
                "mechanism": "rows",
                "adjacency": params.adjacency,
                "delta": params.delta,
                "promised_epsilon": promised,
                "rows": count,
                "of": total,
                "epsilon": privacy.smallest_epsilon(params.delta, shift / sigma),
                # Up to c columns are of different classes and have independent noise; beyond, adding epsilons up is wrong.
                "basic_epsilon": privacy.basic_epsilon(torch.arange(count), targets, domain, sigma, params.delta)
                if count <= classes
                else None,
            }
