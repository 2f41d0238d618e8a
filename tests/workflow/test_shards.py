"""The pass over a real set shared by several jobs: which jobs run, what is left, and that the teacher is the same."""

from __future__ import annotations

import json

import pytest
import torch

from stillhouse import linalg
from stillhouse.teacher import Teacher

pytestmark = pytest.mark.xdist_group("workflow")

TEACHER = "results/teachers/digits/linear/seed0.safetensors"
SHARDS = {f"accumulate digits linear 0 {number}-of-3" for number in (1, 2, 3)}
TEACH = {"teach digits linear 0"}


def test_three_shards_are_three_jobs_and_give_the_teacher_of_one(fresh):
    assert fresh.ran("--", TEACHER) == {"prepare digits"} | TEACH  # with one shard no job is added
    one = Teacher.load(fresh.root / TEACHER)

    ran = fresh.ran("--config", "shards=3", "--", TEACHER)

    assert ran == SHARDS | TEACH  # a teacher of one job is old when three are asked for
    three = Teacher.load(fresh.root / TEACHER)
    assert not torch.equal(three.weights["weights"], one.weights["weights"]), "it was not summed in another order"
    assert linalg.relative_error(three.weights["weights"], one.weights["weights"]) < 1e-12
    assert (one.recipe["shards"], three.recipe["shards"]) == (1, 3)
    assert len(json.loads((fresh.root / TEACHER).with_suffix(".cost.json").read_text())["shards"]) == 3
    # Nothing is left of the moments, nothing is left to do, and another number of shards is another teacher.
    assert not [file for file in (fresh.root / "results/moments").rglob("*") if file.is_file()]
    assert fresh.planned("--config", "shards=3", "--", TEACHER) == set()
    assert fresh.planned("--config", "shards=2", "--", TEACHER) == TEACH | {
        f"accumulate digits linear 0 {number}-of-2" for number in (1, 2)
    }
