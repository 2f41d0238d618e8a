"""What snakemake prints can be run by hand, listed and read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from stillhouse import machine

REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.xdist_group("workflow")

# What `snakemake --lint` says, and why it stays so.
JUSTIFIED = {
    "Specify a conda environment or container": "one environment for all rules, from pyproject.toml and constraints.txt",
    "Param report is a prefix of input or output file": "the notebook names its files itself; the plan knows the folder",
}


def test_a_printed_command_run_by_hand_gives_the_bytes_that_the_workflow_made(tree):
    printed = tree.snakemake("--dry-run", "--printshellcmds", "--forcerun", "distill_digits_krr_rff").text
    (command,) = re.findall(r"^Shell command: (stillhouse distill .+)$", printed, re.MULTILINE)
    made = tree.contents("results/distilled/digits/krr_rff")
    sets = sorted(name for name in made if name.endswith(".safetensors"))
    assert len(sets) == 2
    for name in sets:
        (tree.root / name).unlink()

    tree.run("bash", "-c", command)

    again = tree.contents("results/distilled/digits/krr_rff")
    assert {name: again[name] for name in sets} == {name: made[name] for name in sets}


def test_every_rule_says_what_it_is_for(fresh):
    listed = fresh.snakemake("--list-rules").out.splitlines()
    names = {line.split()[0] for line in listed}
    assert {"all", "prepare", "teach", "distill_digits_krr_linear", "evaluate", "krr_recovery", "page"} <= names
    silent = [line for line in listed if not re.fullmatch(r"\w+ \(.+\.\)", line)]
    assert silent == []


def test_lint_says_nothing_that_is_not_justified(fresh):
    said = re.findall(r"^    \* (.+)$", fresh.snakemake("--lint", check=False).text, re.MULTILINE)
    assert said
    assert [text for text in said if not text.startswith(tuple(JUSTIFIED))] == []


def test_a_study_can_be_asked_for_by_its_name(fresh):
    planned = fresh.planned("krr_recovery")
    assert "krr_recovery" in planned
    assert "page" not in planned


@pytest.mark.parametrize("profile", sorted(path.parent.name for path in REPOSITORY.glob("profiles/*/config.yaml")))
def test_a_profile_groups_no_rules_that_depend_on_one_another(profile):
    settings = yaml.safe_load((REPOSITORY / "profiles" / profile / "config.yaml").read_text())
    groups = settings.get("groups", {})
    assert len(set(groups.values())) == len(groups), "snakemake refuses a group that waits for a job outside it"
    assert settings["nolock"] is True
    assert settings["max-checksum-file-size"] == "16GB"


@pytest.mark.skipif(machine.gpus() > 0, reason="here a job's GPU is this machine's")
def test_the_front_of_a_cluster_without_a_gpu_leaves_it_to_the_profile_what_a_job_asks_for(fresh):
    asked = re.findall(r"^    resources: .*$", fresh.snakemake("--dry-run").text, re.MULTILINE)
    assert len(asked) > 5
    assert not [line for line in asked if "gpu" in line]
    with_gpu = re.findall(
        r"^    resources: .*$", fresh.snakemake("--dry-run", "--default-resources", "gpu=1").text, re.M
    )
    assert [line for line in with_gpu if "mem_mb=3500" in line and "gpu=1" in line]
