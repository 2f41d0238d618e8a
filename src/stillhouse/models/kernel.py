"""Kernel ridge regression with a kernel function: no feature map is written down.

    f(x) = k(x, X_S) a + 1/c,   (K_SS + ridge I) a = Y_S - 1/c,   ridge = `ridge` x mean diagonal entry of K_SS

Nguyen, Chen, Lee (2021), section 3: targets are one-hot minus 1/c. On a whole real set the n x n system is out of reach;
there the solution is sought in the span of k(., centres) for some random training images (Nystroem), on all examples:

    minimise |K_nM a - Y|^2 + ridge a^T K_MM a,   which needs K_Mn K_nM (M, M) and K_Mn Y (M, c) alone
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol

import torch
from pydantic import Field

from stillhouse import kernels, linalg, settings, spaces
from stillhouse.data import whitening
from stillhouse.data.whitening import Pixels
from stillhouse.kernels import Kernel, tiles
from stillhouse.models import ridge
from stillhouse.models.ridge import Grid
from stillhouse.run import Run, stream
from stillhouse.sets import DistilledSet, RealSet, pixels
from stillhouse.spaces import Space
from stillhouse.teacher import Teacher

# Scores of distilled sets are compared, example by example, with those of this model trained on the whole real set.
COMPARED = True

TASKS = ("classification", "regression")

CHUNK = 2048  # real examples whose kernel values are held at once


@dataclass(frozen=True)
class Params:
    """Settings. Defaults: the notebook of Nguyen, Chen, Lee (2021)."""

    kernel: Annotated[Any, settings.plugin("kernels"), Field(description="kernel: a file of kernels/")]
    space: whitening.SpaceSettings = field(default_factory=Pixels)
    ridge: Annotated[float, Field(gt=0, description="over the mean diagonal entry of K_SS; KIP: 1e-6")] = 1e-6
    centred: Annotated[bool, Field(description="fit one-hot targets minus 1/c")] = True
    precision: Annotated[
        Literal["float64", "float32"],
        Field(description="of kernel values of real examples; those of distilled ones, and all solving, are float64"),
    ] = "float64"
    centres: Annotated[
        int, Field(ge=1, description="training images in whose span the model of the whole real set is sought")
    ] = 5000
    ridges_real: Annotated[
        Grid, Field(description="exponents of the ridges tried on the whole real set; the best on validation data")
    ] = field(default_factory=lambda: Grid(-6.0, 2.0, 1.0))
    validation: Annotated[
        float, Field(gt=0, lt=1, description="fraction of the training examples that are held out where one is chosen")
    ] = 0.05

    @property
    def dtype(self) -> torch.dtype:
        """Of real examples and their kernel values."""
        return torch.float64 if self.precision == "float64" else torch.float32


class Settings(Protocol):
    """What the settings of a model with a kernel have."""

    @property
    def kernel(self) -> Any:
        """Settings of the kernel."""

    @property
    def dtype(self) -> torch.dtype:
        """Of real examples and their kernel values."""


@dataclass(frozen=True)
class System:
    """K_SS + ridge I of a support set, factorised in float64.

    matrix  K_SS + ridge I, (m, m)
    ridge   absolute
    """

    matrix: torch.Tensor
    ridge: float
    cholesky: linalg.Cholesky

    @classmethod
    def of_gram(cls, gram: torch.Tensor, relative: float) -> System:
        """From K_SS (m, m) and the ridge over its mean diagonal entry. Raises NumericalError where K_SS is not positive."""
        strength = relative * float(gram.diagonal().mean())
        matrix = gram + strength * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        return cls(matrix, strength, linalg.jittered_cholesky(matrix))

    def numerics(self) -> dict[str, float]:
        """What a recipe says of the solve: the ridge, the jitter that Cholesky needed, the condition number of the matrix."""
        return {
            "ridge": self.ridge,
            "jitter": self.cholesky.jitter,
            "condition": linalg.condition(self.matrix),
        }


@dataclass(frozen=True)
class Blocks:
    """Kernel values of training examples with `support` (m, *shape), in the model's space and precision, a chunk at a time.

    Memory does not grow with the number of examples.
    """

    real: RealSet
    kernel: Kernel
    support: torch.Tensor
    space: Space
    params: Params
    run: Run

    def at(self, index: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """K_tS (b, m) and centred target rows (b, c), float64, of the training examples at `index`."""
        centre = shift(self.params, self.real)
        chunks = torch.split(index, CHUNK)
        for positions in self.run.progress(chunks, len(chunks), "kernel"):
            rows = inputs_at(self.real, positions, self.space, self.params, self.run)
            targets = self.real.target_rows(self.real.train.targets[positions]) - centre
            yield tiles.cross(self.kernel, rows, self.support), targets.to(rows.device)

    def moments(self, index: torch.Tensor) -> linalg.Moments:
        """K_St K_tS (m, m) and K_St Y_t (m, c), of centred target rows, over the training examples at `index`, in one pass."""
        sums = linalg.Moments(len(self.support), self.real.width, self.run.device)
        for block, targets in self.at(index):
            sums.add(block, targets)
        return sums

    def merits(self, index: torch.Tensor, found: Sequence[torch.Tensor]) -> list[float]:
        """Mean merit over the examples at `index` (`RealSet.merit`) of each of the coefficients `found`, (m, c) each."""
        total, centre, start = [0.0] * len(found), shift(self.params, self.real), 0
        for block, _ in self.at(index):
            targets = self.real.train.targets[index[start : start + len(block)]]
            for i, weights in enumerate(found):
                total[i] += self.real.merit(block.to(weights) @ weights + centre, targets)
            start += len(block)
        return [each / len(index) for each in total]


def build(params: Settings, shape: tuple[int, ...], seed: int) -> Kernel:
    """The kernel that a model of this seed has."""
    return kernels.build(params.kernel, shape, stream(seed, "kernel"))


def shift(params: Params, real: RealSet) -> float:
    """What is subtracted from one-hot targets before fitting; standardised values are centred as they are."""
    return 1 / real.n_classes if params.centred and not real.regression else 0.0


def fit_real(real: RealSet, params: Params, run: Run) -> Teacher:
    """Fit on the training part in the span of `centres`, choose the ridge on the validation part; the larger wins a tie."""
    kernel, space = build(params, real.shape, run.seed), whitening.fit(params.space, real)
    fitted, held_out = ridge.split(len(real.train), params.validation, run.seed)
    order = torch.randperm(len(fitted), generator=run.generator("centres"))[: params.centres]
    centres = inputs_at(real, fitted[order].sort().values, space, params, run)
    gram = tiles.gram(kernel, centres.to(torch.float64))
    blocks = Blocks(real, kernel, centres, space, params, run)
    sums = blocks.moments(fitted)
    ridges = params.ridges_real.values()
    scale = float(gram.diagonal().mean())
    # (K_Mn K_nM + ridge K_MM)^-1 K_Mn Y for every ridge
    found = [linalg.jittered_cholesky(sums.gram + each * scale * gram).solve(sums.cross) for each in ridges]
    merits = blocks.merits(held_out, found)
    best = max(zip(merits, ridges, range(len(ridges)), strict=True))[2]
    notes = {
        "ridge": ridges[best],
        "ridges": ridges,
        f"validation_{real.merit_name}": merits,
        "examples": sums.count,
        "centres": len(centres),
    }
    return _teacher(params, run.seed, centres, found[best], space, real, notes)


def fit_distilled(distilled: DistilledSet, real: RealSet, params: Params, run: Run) -> Teacher:
    """Fit on a distilled set. A set that lives in this model's space is used as it is; another goes through pixels."""
    kernel, space = build(params, real.shape, run.seed), whitening.fit(params.space, real)
    inputs = distilled.inputs_in(space).to(run.device)
    system = System.of_gram(tiles.gram(kernel, inputs), params.ridge)
    targets = distilled.target_rows(real).to(inputs) - shift(params, real)
    return _teacher(params, run.seed, inputs, system.cholesky.solve(targets), space, real, system.numerics())


def predictor(teacher: Teacher, dim: int, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from pixels (b, *shape) to scores (b, c), float64, on `device`."""
    params = settings.parse(Params, teacher.model, "model")
    space = spaces.from_settings(teacher.space)
    support = teacher.weights["support"].to(device, params.dtype)
    kernel = build(params, tuple(support.shape[1:]), teacher.seed)
    weights = teacher.weights["coefficients"].to(device)
    constant = float(teacher.notes["shift"])

    def predict(images: torch.Tensor) -> torch.Tensor:
        rows = space.forward(images.to(params.dtype))
        return tiles.cross(kernel, rows, support).to(weights) @ weights + constant

    return predict


def inputs_at(real: RealSet, index: torch.Tensor, space: Space, params: Settings, run: Run) -> torch.Tensor:
    """The training examples at `index` in the model's space and precision, (b, *shape)."""
    return space.forward(pixels(real.train.inputs[index]).to(run.device, params.dtype))


def _teacher(
    params: Params, seed: int, support: torch.Tensor, weights: torch.Tensor, space: Space, real: RealSet, notes: dict[str, Any]
) -> Teacher:  # fmt: skip
    learned = {"support": support, "coefficients": weights}
    return Teacher.of(real, params, seed, learned, space, {**notes, "shift": shift(params, real)})
