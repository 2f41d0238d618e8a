"""K-center: real examples such that every other one is near one of them, by greedy farthest points.

Gonzalez (1985), *Clustering to minimize the maximum intercluster distance*; as a coreset, Sener and Savarese (2018). The first
centre is the example nearest to the mean, each next one that farthest from its nearest centre. Whatever the first, the radius

    r = max_x min_k | phi(x) - phi(x_k) |

is at most twice that of the best m centres; no polynomial algorithm does better unless P = NP. Per class, or over all rows of a
regression set.

As a coreset for networks, features of a trained one are compared: name one as `model` (methods/penultimate.py).

Memory: one group's features, (n_g, p) float64.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from stillhouse.data import whitening
from stillhouse.features import identity
from stillhouse.methods import groups, penultimate, selection
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet

BATCH = ("per_class", "seed")
TASKS = ("classification", "regression")
SELECTS = True
# Nothing is drawn but the feature map, where it is a random one, and the network that gives the features.
SEEDLESS = True


@dataclass(frozen=True)
class Params:
    """Settings. Defaults: standardised inputs as they are."""

    space: whitening.SpaceSettings = field(default_factory=whitening.Standardised)
    features: selection.Features = field(default_factory=identity.Params)
    model: penultimate.Model = None
    targets: selection.Targets = False

    def __post_init__(self) -> None:
        penultimate.check(self.model, self.features, self.space)


def teachers(params: Params) -> tuple[Any, ...]:
    """The models that must be trained on the real set before this method can run."""
    return penultimate.teachers(params.model)


def distill(real: RealSet, per_class: int, params: Params, run: Run) -> DistilledSet:
    """`per_class` training examples of each class, classes in turn; or of all. A larger set begins with the smaller one."""
    embedding = penultimate.embed(params.model, params.features, params.space, real, run)
    chosen = []
    for positions in groups.groups(real, per_class):
        features = selection.rows(real, positions, embedding, params.targets, run)
        chosen.append(positions[farthest(features, per_class).cpu()])
    return groups.examples(real, groups.in_turn(chosen))


def farthest(features: torch.Tensor, count: int) -> torch.Tensor:
    """Positions (count,) of the rows of features (n, p) that Gonzalez's algorithm chooses; the first of equals."""
    chosen = [int(_distances(features, features.mean(0)).argmin())]
    nearest = torch.full((len(features),), torch.inf, dtype=features.dtype, device=features.device)
    while len(chosen) < count:
        nearest = nearest.minimum(_distances(features, features[chosen[-1]]))
        nearest[chosen[-1]] = -1.0  # once is enough, also where all that is left lies on a centre
        chosen.append(int(nearest.argmax()))
    return torch.tensor(chosen, device=features.device)


def _distances(features: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
    """(n,) from `centre` (p,); without products, which would lose the digits of small distances."""
    found: torch.Tensor = torch.cdist(features, centre[None], compute_mode="donot_use_mm_for_euclid_dist")
    return found.flatten()
