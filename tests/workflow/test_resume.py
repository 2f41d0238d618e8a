"""A run that is killed, also by a power cut, loses at most the jobs that were running; the same command goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import time

import pytest

from stillhouse import artifact, machine

pytestmark = pytest.mark.xdist_group("workflow")

KILLS = 10


def run_and_kill(tree, finished, wait):
    """Run snakemake, kill it and all its jobs `wait` seconds after a job has started and `finished` have ended; how many did."""
    run = tree.start("snakemake", "--cores", "2")
    started = ended = 0
    for line in run.stdout:
        started += line.startswith(("rule ", "localrule "))
        ended += line.startswith("Finished jobid")
        if started and ended >= finished:
            break
    time.sleep(wait)
    killed = run.poll() is None
    if killed:
        os.killpg(run.pid, signal.SIGKILL)
    ended += run.communicate()[0].count("Finished jobid")
    return ended, killed


def kill_while_missing(tree, file):
    """Run snakemake; kill it and all its jobs once it has removed `file` to make it anew."""
    run = tree.start("snakemake", "--cores", "2")
    while (tree.root / file).exists() and run.poll() is None:
        time.sleep(0.01)
    assert run.poll() is None, "it ended before it could be killed"
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    assert not (tree.root / file).exists()


# In which job an edited tree's run is killed: a file that the job makes, and what is left to do.
STAGES = {
    "distill_digits_krr_linear": (
        "results/distilled/digits/krr_linear/pc2/seed0.safetensors",
        {"distill_digits_krr_linear", "evaluate digits krr_linear same_model linear", "krr_recovery", "page"},
    ),
    "evaluate": (
        "results/evaluated/digits/krr_linear/same_model-linear.csv",
        {"evaluate digits krr_linear same_model linear", "krr_recovery", "page"},
    ),
    "krr_recovery": ("results/report/krr_recovery.csv", {"krr_recovery", "page"}),
    "page": ("results/report/index.html", {"page"}),
}


@pytest.mark.parametrize("stage", [pytest.param(s, marks=[pytest.mark.slow] * (s != "evaluate")) for s in STAGES])
def test_killed_after_an_edit_a_run_goes_on_and_nothing_of_before_the_edit_is_left(tree, edited, stage):
    file, left = STAGES[stage]
    tree.edit(lambda params: params["experiments"]["krr_linear"].update(noise=0.2))
    kill_while_missing(tree, file)

    assert tree.ran() == left
    assert tree.results() == edited.tree.results()


@pytest.mark.slow
def test_killed_at_ten_random_moments_a_run_gives_the_same_bytes_as_an_undisturbed_one(fresh, first):
    # One run, killed again and again: after each kill it goes on where it was. A moment is a share of the jobs done, and
    # a share of a job's time, so that it falls alike on slow and on fast machines.
    rng = random.Random(0)
    moments = [0.1 + 0.8 * (i + rng.random()) / KILLS for i in range(KILLS)]
    job = 2 * first.seconds / len(first.jobs)  # two run at a time
    done = kills = 0
    for moment in moments:
        finished, part = divmod(moment * len(first.jobs), 1)
        ended, killed = run_and_kill(fresh, int(finished) - done, part * job)
        done, kills = done + ended, kills + killed
    assert kills == KILLS

    remaining = fresh.ran()

    assert remaining < first.jobs
    assert fresh.results() == first.tree.results()
    assert fresh.planned() == set()


def test_a_second_run_in_one_folder_is_refused_in_one_line_while_the_first_is_at_work(tree):
    tree.edit(lambda params: params["experiments"]["krr_linear"].update(noise=0.2))
    with machine.hold(tree.root / ".snakemake" / "running"):
        refused = tree.snakemake(check=False)
        assert tree.planned(), "a dry run needs no lock"
    assert refused.status != 0
    assert "another run is working in this folder. Wait until it has ended." in refused.text
    assert "Finished jobid" not in refused.text


KIP = {
    "kind": "kip", "model": {"kind": "ridge", "features": "random_network", "space": "standardised"}, "steps": 2000, "batch": 64,
}  # fmt: skip


def kip(out, *options):
    """The command that trains one set on digits, as the workflow runs it."""
    settings = ["--experiment", "kip", "--method", json.dumps(KIP), "--device", "cpu"]
    return ["stillhouse", "distill", "digits.safetensors", *settings, "--set", "1", "0", out, *options]


@pytest.mark.slow
def test_a_long_job_killed_in_the_middle_goes_on_and_gives_the_same_bytes_as_an_undisturbed_one(fresh):
    fresh.run("stillhouse", "prepare", "digits", "digits.safetensors")
    fresh.run(*kip("undisturbed.safetensors", "--unfinished", "elsewhere"))

    job = fresh.start(*kip("set.safetensors", "--keep-every", "0"))
    while not (found := list(fresh.root.glob(".cache/unfinished/*/state.safetensors"))) or step(found[0]) < 100:
        assert job.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    os.killpg(job.pid, signal.SIGKILL)
    job.communicate()
    assert not (fresh.root / "set.safetensors").exists()
    kept = artifact.header(found[0])
    assert 100 <= kept["numbers"]["step"] < KIP["steps"]

    fresh.run(*kip("set.safetensors"))

    assert (fresh.root / "set.safetensors").read_bytes() == (fresh.root / "undisturbed.safetensors").read_bytes()
    cost, undisturbed = (json.loads((fresh.root / f"{name}.cost.json").read_text()) for name in ("set", "undisturbed"))
    assert cost["record"][: len(kept["records"])] == kept["records"], "it began anew"
    assert cost["seconds"] >= kept["seconds"]
    assert [line["step"] for line in cost["record"]] == [line["step"] for line in undisturbed["record"]]
    assert list((fresh.root / ".cache/unfinished").iterdir()) == []


def step(state):
    """How far the computation was when it kept this state."""
    return artifact.header(state)["numbers"]["step"]
