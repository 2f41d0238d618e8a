"""K-means: centres of clusters of real examples, with their class's label, or with their mean target.

Lloyd (1982), from the seeds of Arthur and Vassilvitskii (2007); a baseline of Wang et al. (2018), section 4. The m centres of one
group minimise

    sum_i min_k | x_i - mu_k |^2,   x_i the group's inputs in `space`, with standardised targets beside them where asked for,

at a local minimum, the best of `starts`. Each class by itself, or all rows of a regression set together. What is stored is the
mean of the stored inputs, and of the targets, over a cluster: in a space that is an affine map of these, the centre itself.

Clusters are found in float32, as a step costs half as much; means are taken in float64.

Memory: one group's rows, (n_g, d), for scikit-learn takes a group at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import torch
from pydantic import Field
from sklearn.cluster import KMeans, MiniBatchKMeans
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped, unused-ignore]

from stillhouse.data import whitening
from stillhouse.features import identity
from stillhouse.methods import groups, selection
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet

BATCH = ("per_class", "seed")
TASKS = ("classification", "regression")

_BATCH_SIZE = 4096  # examples a step of mini-batches


@dataclass(frozen=True)
class Params:
    """Settings."""

    space: whitening.SpaceSettings = field(default_factory=whitening.Standardised)
    targets: selection.Targets = False
    weighted: Annotated[
        bool,
        Field(
            description="rescale each centre and its target, in `space`, by the root of its cluster's size over the mean size: "
            "for linear models in this space without intercept"
        ),
    ] = False
    starts: Annotated[int, Field(ge=1, description="k-means++ starts of each group; the best end is kept")] = 1
    lloyd_up_to: Annotated[
        int, Field(ge=0, description="examples of a group; a larger one is clustered by mini-batches (Sculley 2010)")
    ] = 100_000


def distill(real: RealSet, per_class: int, params: Params, run: Run) -> DistilledSet:
    """`per_class` centres of each class, classes in turn; or of all."""
    embedding = selection.embed(identity.Params(), params.space, real, run)
    rng = run.generator("starts")
    found = []
    for positions in groups.groups(real, per_class):
        rows = selection.rows(real, positions, embedding, params.targets, run).to("cpu", torch.float32)
        labels = cluster(rows, per_class, params, int(torch.randint(2**31 - 1, (), generator=rng)))
        found.append(selection.averages(real, positions, labels, per_class))
    inputs, targets, counts = (groups.in_turn(each) for each in zip(*found, strict=True))
    if not params.weighted:
        return groups.stored(real, inputs, targets)
    sizes = counts.to(torch.float64) * (len(counts) / float(counts.sum()))
    return selection.rescaled(real, inputs, targets, sizes, embedding.space)


def cluster(rows: torch.Tensor, count: int, params: Params, seed: int) -> torch.Tensor:
    """The cluster (n,), 0 to count - 1, of each of rows (n, p); none is empty."""
    settings = {"n_clusters": count, "n_init": params.starts, "random_state": seed}
    lloyd = len(rows) <= params.lloyd_up_to
    solver = KMeans(**settings) if lloyd else MiniBatchKMeans(batch_size=_BATCH_SIZE, **settings)
    # scikit-learn's threads are not PyTorch's, and the bytes of a result depend on their number.
    with threadpool_limits(torch.get_num_threads()):
        solver.fit(rows.numpy())
    labels = torch.from_numpy(solver.labels_).to(torch.int64)
    return _filled(labels, rows, torch.from_numpy(solver.cluster_centers_), count)


def _filled(labels: torch.Tensor, rows: torch.Tensor, centres: torch.Tensor, count: int) -> torch.Tensor:
    """`labels` with every empty cluster given the row farthest from its centre, of a cluster that has others.

    Clusters are empty where fewer than `count` rows are distinct, or after mini-batches.
    """
    distances, labels = (rows - centres[labels]).square().sum(1), labels.clone()
    for empty in torch.nonzero(labels.bincount(minlength=count) == 0).flatten():
        shared = labels.bincount(minlength=count)[labels] > 1
        moved = distances.where(shared, -1.0).argmax()
        labels[moved], distances[moved] = empty, 0.0
    return labels
