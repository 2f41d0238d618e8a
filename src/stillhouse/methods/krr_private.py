"""Exact distillation for ridge regression with Gaussian noise for differential privacy: what is private, and what is not.

`statistics` adds noise to F^T F and F^T Y and distils the weights W~ that follow from them: images and targets together are
(epsilon, delta)-private. `rows` is Theorem 6.2 of Chen, Huang, Weng (2024): the noise is the free part of D = W Y_S^+ + Z P, and
covers each column of D alone. Its set gives W back exactly, without noise, to whoever has or guesses the one-hot targets.
theory/privacy.py has the proofs' constants.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from stillhouse import linalg, settings
from stillhouse.data.whitening import Pixels, Standardised
from stillhouse.features import FeatureMap
from stillhouse.models import ridge
from stillhouse.models.ridge import Params as RidgeModel
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet
from stillhouse.theory import points, privacy

BATCH = ("per_class", "seed")

# Spread of Z over that of the entries of W~ Y_S^+ where Z serves no privacy, as in krr_exact.
_SPREAD = 0.1

Normal = Callable[[int, int], torch.Tensor]


@dataclass(frozen=True)
class Params:
    """Settings. The ridge is a constant: choosing it on validation data would look at the data once more."""

    model: Annotated[
        RidgeModel,
        settings.plugin("models", only="ridge"),
        Field(
            description="the ridge regression it is for: a name under models; of its settings the features and the space"
        ),
    ]
    mechanism: Annotated[
        Literal["statistics", "rows"],
        Field(description="statistics: the whole set is private; rows: Theorem 6.2, each column of D alone"),
    ] = "statistics"
    epsilon: Annotated[float, Field(gt=0, description="privacy parameter; smaller is more private")] = 1.0
    delta: Annotated[float, Field(gt=0, lt=1, description="privacy parameter, well below one over the examples")] = 1e-5
    adjacency: Annotated[
        privacy.Adjacency,
        Field(description="what privacy hides: that one example is there (remove), or what it is (replace)"),
    ] = "remove"
    norm: Annotated[
        float,
        Field(
            gt=0,
            description="B: longer feature vectors are scaled down to it. At 1 nearly every image has norm 1, which changes no "
            "linear classifier's choice",
        ),
    ] = 1.0
    ridge: Annotated[
        float,
        Field(gt=0, description="lambda, on the sum over clipped examples; rows: noise is proportional to 1 / lambda"),
    ] = 1.0
    noise: Annotated[
        Literal["seeded", "secret"],
        Field(
            description="seeded: reproducible, for study; whoever reads the seed in the file takes the noise off. secret: from "
            "the operating system, different each time, for a set to be given away"
        ),
    ] = "seeded"


@dataclass(frozen=True)
class Clipped:
    """A feature map followed by clipping, for real examples only."""

    map: FeatureMap
    norm: float

    @property
    def dim(self) -> int:
        """p."""
        return self.map.dim

    @property
    def onto(self) -> bool:
        """As without clipping: what has an inverse is the map itself."""
        return self.map.onto

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """(b, d) -> (b, p), float64, of norm at most `norm`."""
        return privacy.clipped(self.map(inputs), self.norm)

    def reach(self, features: torch.Tensor) -> float:
        """That of the map."""
        return self.map.reach(features)

    def inverse(self, features: torch.Tensor) -> torch.Tensor:
        """That of the map."""
        return self.map.inverse(features)


def distill(real: RealSet, per_class: int, params: Params, run: Run) -> DistilledSet:
    """Make m = per_class x classes images and one-hot targets, from which least squares learns the private weights (`statistics`)
    or the ridge weights themselves (`rows`).

    Raises NumericalError for `rows` where a column of D would get no noise, as for one image per class.
    """
    embedding = ridge.embed(params.model, real, run.seed)
    clipping = ridge.Embedding(embedding.space, Clipped(embedding.map, params.norm))
    sums = ridge.moments(real, clipping, torch.arange(len(real.train)), run)
    targets = torch.eye(real.n_classes, dtype=torch.float64, device=run.device).repeat(per_class, 1)
    if params.mechanism == "statistics":
        weights, backward, proof = _from_statistics(sums, targets, params, run)
    else:
        sizes = torch.bincount(real.train.targets, minlength=real.n_classes)
        weights, backward, proof = _from_rows(sums, targets, domain(params, sizes), params, run)
    features = points.points(backward)
    reach = embedding.map.reach(features)
    distilled = DistilledSet(
        inputs=embedding.map.inverse(features / reach).reshape(-1, *real.shape).cpu(),
        targets=(targets / reach).cpu(),
        classes=real.classes,
        space=embedding.space.settings(),
        model={**settings.dump(params.model), "seed": run.seed},
        schedule={"ridge": 0.0},
    )
    recovered = ridge.solve(ridge.set_features(distilled, embedding), distilled.targets, 0.0)
    certificate = {
        **_promise(params),
        **proof,
        "examples": len(targets),
        "error_images": linalg.relative_error(recovered, weights.cpu()),
    }
    return dataclasses.replace(distilled, certificate=certificate)


def domain(params: Params, class_sizes: torch.Tensor) -> privacy.Domain:
    """The data sets that `rows` speaks of: those with at most one example more in every class than this one has."""
    return privacy.Domain(params.norm, params.ridge, class_sizes.to(torch.float64) + 1, params.adjacency)


def _from_statistics(
    sums: linalg.Moments, targets: torch.Tensor, params: Params, run: Run
) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    scale = privacy.statistics_noise(params.epsilon, params.delta, params.adjacency)
    features, classes = sums.cross.shape
    noise = _normal(params, run)(features, features + classes).to(run.device)
    weights = privacy.private_weights(sums.gram, sums.cross, params.ridge, params.norm, scale, noise)
    # Z hides nothing here; it only makes the images of a class differ.
    free = torch.randn(features, len(targets), generator=run.generator("free part"), dtype=torch.float64)
    free = free.to(run.device) * (_SPREAD * float(weights.std()) * classes / len(targets))
    proof = {
        "sensitivity": privacy.statistics_sensitivity(params.adjacency),
        "sensitivity_of": "(F^T F / B^2, F^T Y / B), Frobenius norm",
        "sigma": scale,
        "ridge_noise": privacy.noise_ridge(features, params.norm, scale),
    }
    return weights, points.admissible(weights, targets, free), proof


def _from_rows(
    sums: linalg.Moments, targets: torch.Tensor, public: privacy.Domain, params: Params, run: Run
) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    sigma = privacy.row_noise(targets, public, params.epsilon, params.delta)
    gram = sums.gram
    gram.diagonal().add_(params.ridge)
    weights = linalg.solve_positive(gram, sums.cross)
    free = sigma * _normal(params, run)(len(weights), len(targets)).to(run.device)
    proof = {
        "sensitivity": float(privacy.row_sensitivities(targets, public).max()),
        "sensitivity_of": "a column of W Y_S^+, Euclidean norm",
        "sigma": sigma,
        "class_sizes": public.class_sizes.tolist(),
    }
    return weights, points.admissible(weights, targets, free), proof


def _promise(params: Params) -> dict[str, Any]:
    """What is guaranteed, of which release, on which assumptions; and whether this very file has the guarantee.

    It holds nothing that is computed from the data: a certificate is given away with its set.
    """
    joint = params.mechanism == "statistics"
    assumptions = ["the noise is secret", "the space and the feature map do not depend on the data"]
    assumptions += ["noise is Gaussian: the rounding of floating-point numbers is not counted"]
    if not joint:
        assumptions += ["the sizes of the classes are public, up to one example each"]
    missing = []
    if not joint:
        missing += ["its images hold every column of D, and D Y_S = W without noise: whoever has or guesses Y_S has W"]
    if params.noise == "seeded":
        missing += ["its noise follows from the seed, which the file tells"]
    if not _independent_of_data(params.model.space):
        missing += ["its space is fitted on the data and stored in it"]
    return {
        "statement": "Gaussian mechanism on F^T F and F^T Y; the rest is post-processing"
        if joint
        else "Chen, Huang, Weng (2024), Theorem 6.2, with the sensitivity of theory/privacy.py",
        "mechanism": params.mechanism,
        "guarantee": "joint" if joint else "each row of D alone",
        "release": "images and targets together, without the recipe (it holds a hash of the data)"
        if joint
        else "one row of the paper's D, by itself",
        "epsilon": params.epsilon,
        "delta": params.delta,
        "adjacency": params.adjacency,
        "norm": params.norm,
        "ridge": params.ridge,
        "assumptions": assumptions,
        "this_file_is_private": not missing,
        "why_not": missing,
    }


def _independent_of_data(space: object) -> bool:
    given = isinstance(space, Standardised) and space.mean is not None and space.std is not None
    return given or isinstance(space, Pixels)


def _normal(params: Params, run: Run) -> Normal:
    """Where the noise comes from: a function from a shape to standard normal numbers in float64."""
    if params.noise == "secret":
        return _secret_normal
    generator = run.generator("privacy noise")
    return lambda rows, columns: torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def _secret_normal(rows: int, columns: int) -> torch.Tensor:
    """(rows, columns) by inverting the normal distribution at 52 bits of the operating system's secure randomness each."""
    bits = torch.frombuffer(bytearray(secrets.token_bytes(8 * rows * columns)), dtype=torch.int64) >> 12
    uniform = (bits.to(torch.float64) + (2.0**51 + 0.5)) / 2.0**52
    normal: torch.Tensor = torch.special.ndtri(uniform).reshape(rows, columns)
    return normal
