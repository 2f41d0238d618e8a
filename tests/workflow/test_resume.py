"""A run that is killed, also by a power cut, loses at most the jobs that were running.

The way on is `snakemake --unlock`, then the same command again.
"""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

pytestmark = pytest.mark.xdist_group("workflow")

KILLS = 10


def run_and_kill(tree, *arguments, finished=0, wait=0.0):
    """Run snakemake, kill it and all its jobs `wait` seconds after a job has started and `finished` have ended; how many did."""
    run = tree.start("snakemake", "--cores", "2", *arguments)
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
    rest = run.stdout.read()
    run.wait()
    return ended + rest.count("Finished jobid"), killed


def test_a_killed_run_goes_on_after_unlock_and_gives_the_same_bytes(tree, first):
    _, killed = run_and_kill(tree, "--forcerun", "distill_digits_krr_linear", wait=1.0)
    assert killed
    assert not list((tree.root / "results/distilled/digits/krr_linear").rglob("*.csv"))

    refused = tree.snakemake(check=False)
    assert refused.status != 0
    assert "--unlock" in refused.text

    tree.snakemake("--unlock")
    went_on = tree.ran()
    assert went_on == {
        "distill_digits_krr_linear", "evaluate digits krr_linear same_model linear", "krr_recovery", "page",
    }  # fmt: skip
    assert tree.results() == first.tree.results()


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
        ended, killed = run_and_kill(fresh, finished=int(finished) - done, wait=part * job)
        done, kills = done + ended, kills + killed
        fresh.snakemake("--unlock")
    assert kills == KILLS

    remaining = fresh.ran()

    assert remaining < first.jobs
    assert fresh.results() == first.tree.results()
    assert fresh.planned() == set()
