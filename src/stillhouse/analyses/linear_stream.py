"""Continual learning without forgetting: tasks come one after the other, and as many points as there are features remember all of
them. After each task the memory is distilled from the memory so far and the task's examples.

Izzo, Zou (2023), Theorem 3 for unions with other data: what is learned from the points is what is learned from all examples so
far.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from stillhouse import linalg
from stillhouse.data import whitening
from stillhouse.data.whitening import Standardised
from stillhouse.errors import UserError
from stillhouse.evaluation import affine
from stillhouse.run import Run
from stillhouse.sets import RealSet
from stillhouse.theory import linear_points
from stillhouse.theory.linear_points import Examples

# What is remembered of the tasks so far.
ALL, LAST, RANDOM, POINTS = "all", "last", "random", "points"


@dataclass(frozen=True)
class Params:
    """The stream, and what is learned from it. Units are fixed before it begins: the space is fitted on all training inputs."""

    space: whitening.SpaceSettings = field(default_factory=Standardised)
    tasks: Annotated[
        int,
        Field(ge=2, description="classes in their order, as many in each task; rows of a regression set by one input"),
    ] = 5
    column: Annotated[
        int | None,
        Field(ge=0, description="the input by which rows come; the one that goes most with the first output if absent"),
    ] = None
    ridge: Annotated[float, Field(gt=0, description="added to X^T X, a sum over examples")] = 1.0
    draws: Annotated[int, Field(ge=1, description="random memories, of which the means are told")] = 5


@dataclass(frozen=True)
class Stream:
    """Training and test examples in the order in which their tasks come; `ends` and `test_ends`: how many there are after each.

    targets  of the test examples, as they are in their split
    """

    train: Examples
    test: Examples
    targets: torch.Tensor
    ends: list[int]
    test_ends: list[int]


def analyse(real: RealSet, params: Params, run: Run) -> Iterator[dict[str, object]]:
    """One row after each task for each memory: all examples so far, the last task's, random ones of all so far, and points.

    examples     that have come so far
    stored       of them, or points, in the memory
    score        test RMSE or accuracy in percent over the tasks so far, of which alone the classes are told apart; score_std over
                 random memories
    score_first  the same of the first task
    distance     |theta - theta_all| / |theta_all|
    """
    stream = _stream(real, params)
    kept = Examples(stream.train.inputs[:0], stream.train.targets[:0])
    priorities = [_priorities(len(stream.train), run, draw) for draw in range(params.draws)]
    start = 0
    for task, end in enumerate(run.progress(stream.ends, len(stream.ends), "tasks"), 1):
        new, start = stream.train[start:end], end
        kept = linear_points.reduced(kept + new).points
        so_far = stream.train[:end]
        random = [_reservoir(so_far, len(kept), each) for each in priorities]
        wanted = _theta(so_far, params)
        memories = {ALL: [so_far], LAST: [new], RANDOM: random, POINTS: [kept]}
        for name, versions in memories.items():
            found = [wanted if name == ALL else _theta(each, params) for each in versions]
            scores = [_score(real, stream, theta, task) for theta in found]
            yield {
                "task": task, "examples": end, "memory": name, "stored": len(versions[0]), "metric": affine.metric(real),
                "score": float(np.mean(scores)),
                "score_std": float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0,
                "score_first": float(np.mean([_score(real, stream, theta, task, first=True) for theta in found])),
                "distance": float(np.mean([linalg.relative_error(theta, wanted) for theta in found])),
            }  # fmt: skip


def _stream(real: RealSet, params: Params) -> Stream:
    space = whitening.fit(params.space, real)
    train, test = (affine.examples(real, split, space) for split in (real.train, real.test))
    tasks = (_by_value if real.regression else _by_class)(real, train, test, params)
    order, test_order = (each.argsort(stable=True) for each in tasks)
    ends, test_ends = (torch.bincount(each, minlength=params.tasks).cumsum(0).tolist() for each in tasks)
    return Stream(train[order], test[test_order], real.test.targets[test_order], ends, test_ends)


def _by_class(real: RealSet, train: Examples, test: Examples, params: Params) -> tuple[torch.Tensor, torch.Tensor]:
    """The task of each training and test example: classes in their order, in groups of like size."""
    if real.n_classes < params.tasks:
        raise UserError(
            f"tasks: {params.tasks} tasks of {real.name}, which has {real.n_classes} classes. Choose fewer."
        )
    groups = torch.arange(real.n_classes).tensor_split(params.tasks)
    task = torch.cat([torch.full((len(group),), place) for place, group in enumerate(groups)])
    return task[real.train.targets], task[real.test.targets]


def _by_value(real: RealSet, train: Examples, test: Examples, params: Params) -> tuple[torch.Tensor, torch.Tensor]:
    """The same: values of one input in their order, as many training examples in each task, but for equal values."""
    if params.column is not None and params.column >= real.dim:
        raise UserError(f"column: {params.column}, and {real.name} has {real.dim} inputs, from 0. Choose one of them.")
    candidates = _related(train) if params.column is None else [params.column]
    for column in candidates:
        values, test_values = (each.inputs[:, 1 + column].contiguous() for each in (train, test))
        edges = torch.stack([part[0] for part in values.sort().values.tensor_split(params.tasks)[1:]])
        tasks, test_tasks = (torch.bucketize(each, edges, right=True) for each in (values, test_values))
        if int((test_tasks == 0).sum()) and bool(torch.bincount(tasks, minlength=params.tasks).all()):
            return tasks, test_tasks
    which = "no input" if params.column is None else f"input {params.column}"
    raise UserError(
        f"tasks: {which} of {real.name} has values for {params.tasks} tasks. Choose fewer, or another column."
    )


def _related(train: Examples) -> list[int]:
    """Inputs, from 0, by the size of their correlation with the first output, the largest first."""
    inputs = train.inputs[:, 1:] - train.inputs[:, 1:].mean(0)
    target = train.targets[:, 0] - train.targets[:, 0].mean()
    strengths = (inputs.T @ target).abs() / inputs.norm(dim=0)
    return [int(each) for each in strengths.argsort(descending=True)]


def _priorities(count: int, run: Run, draw: int) -> torch.Tensor:
    return torch.rand(count, generator=run.generator(f"random memory {draw}"), dtype=torch.float64)


def _reservoir(so_far: Examples, count: int, priorities: torch.Tensor) -> Examples:
    """`count` examples of all so far, any of them as likely, each counted so often that they weigh as much as all: those of the
    lowest priorities, which a memory of that size can keep as examples come.
    """
    chosen = priorities[: len(so_far)].argsort()[:count]
    return so_far[chosen].counted(len(so_far) / count)


def _theta(memory: Examples, params: Params) -> torch.Tensor:
    return linalg.ridge_solve(memory.inputs, memory.targets, params.ridge)


def _score(real: RealSet, stream: Stream, theta: torch.Tensor, task: int, first: bool = False) -> float:
    """Over the test examples of the tasks so far, or of the first; classes that have not come are no answer."""
    end = stream.test_ends[0 if first else task - 1]
    scores = stream.test.inputs[:end] @ theta
    if not real.regression:
        known = stream.train.targets[: stream.ends[task - 1]].amax(0) > 0
        scores[:, ~known] = -torch.inf
    return affine.score(real, scores, stream.targets[:end])
