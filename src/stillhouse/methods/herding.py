"""Herding: real examples chosen one by one so that their mean stays closest to the mean of all.

Welling (2009), *Herding dynamical weights to learn*; with features, Chen, Welling, Smola (2010), *Super-samples from kernel
herding*. After k - 1 choices the next is

    x_k = argmin_x | mu - (phi(x) + sum_{j<k} phi(x_j)) / k |

as iCaRL (Rebuffi et al. 2017, Algorithm 4) keeps exemplars, and as Zhao, Mopuri, Bilen (2021) choose their coreset: each example
at most once. Per class, or over all rows of a regression set. With `repeats`, in p dimensions and with mu inside the convex hull,
the mean of m examples is off by O(1 / m), that of m random ones by O(1 / sqrt(m)); without, the examples that suit best run out.

The coreset of Zhao et al. compares features of a network: name one as `model` (methods/penultimate.py).

Memory: one group's features, (n_g, p) float64.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from pydantic import Field

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
    repeats: Annotated[bool, Field(description="whether an example may be chosen again, as Welling (2009) lets it")] = (
        False
    )

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
        chosen.append(positions[herd(features, per_class, params.repeats).cpu()])
    return groups.examples(real, groups.in_turn(chosen))


def herd(features: torch.Tensor, count: int, repeats: bool = False) -> torch.Tensor:
    """Positions (count,) of the rows of features (n, p) that greedily match their mean; the first of equals."""
    mean, norms = features.mean(0), features.square().sum(1)
    owed, chosen = torch.zeros_like(mean), []
    for _ in range(count):
        owed = owed + mean  # k mu - sum of what was chosen
        best = int((norms - 2 * (features @ owed)).argmin())
        owed = owed - features[best]
        chosen.append(best)
        if not repeats:
            norms[best] = torch.inf
    return torch.tensor(chosen, device=features.device)
