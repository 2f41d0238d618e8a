"""DVC around the workflow: one stage, results shared through a remote, experiments and comparisons."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.xdist_group("workflow")

VERSIONED = (
    "data/prepared",
    "results/teachers",
    "results/distilled",
    "results/evaluated",
    "results/analyses",
    "results/notebooks",
    "results/report",
)


def test_what_the_workflow_makes_is_versioned_by_dvc_or_by_git(shared):
    stage = yaml.safe_load((shared.root / "dvc.lock").read_text())["stages"]["reproduce"]
    assert {out["path"] for out in stage["outs"]} == {*VERSIONED, ".snakemake/metadata"}
    assert stage["cmd"] == "snakemake"
    in_git = shared.git("ls-files", "data", "results", ".snakemake").out.split()
    assert set(in_git) == set(shared.contents("results/report"))
    assert shared.git("status", "--porcelain").out == ""


def test_repro_after_a_committed_run_runs_nothing(shared):
    assert "Data and pipelines are up to date" in shared.dvc("status").out
    assert "didn't change, skipping" in shared.dvc("repro").out
    assert shared.git("status", "--porcelain").out == ""


def test_the_stage_sees_what_snakemake_sees(shared):
    params = yaml.safe_load((shared.root / "params.yaml").read_text())
    stage = yaml.safe_load((shared.root / "dvc.yaml").read_text())["stages"]["reproduce"]
    assert set(stage["params"]) == set(params)
    assert {"Snakefile", "workflow", "src", "notebooks"} <= set(stage["deps"])


def test_a_clone_that_pulled_has_every_result_and_clean_versions(shared, clone):
    assert clone.contents(*VERSIONED) == shared.contents(*VERSIONED)
    assert clone.planned() == set()  # snakemake brings its records up to date and may rewrite them
    assert clone.git("status", "--porcelain").out == ""
    assert "Data and pipelines are up to date" in clone.dvc("status").out


def test_a_direct_run_is_recorded_by_commit(edited_copy):
    assert "changed outs" in edited_copy.dvc("status").out
    edited_copy.dvc("commit", "--force")
    assert "Data and pipelines are up to date" in edited_copy.dvc("status").out
    assert "didn't change, skipping" in edited_copy.dvc("repro").out


@pytest.mark.slow
def test_repro_runs_the_workflow_once(fresh, first):
    fresh.git("init", "--quiet", "--initial-branch", "main")
    assert "Running stage 'reproduce'" in fresh.dvc("repro").out
    assert fresh.results() == first.tree.results()
    assert "didn't change, skipping" in fresh.dvc("repro").out


@pytest.mark.slow
def test_an_experiment_of_dvc_makes_what_it_must_and_can_be_compared(shared):
    before = shared.times("results")
    log = shared.dvc("exp", "run", "--name", "wide", "--set-param", "models.rff.features.variance=10").text
    assert "Ran experiment" in log
    assert shared.planned() == set()
    teachers = "results/teachers/digits"
    assert shared.times(f"{teachers}/linear").items() <= before.items()
    assert not shared.times(f"{teachers}/rff").items() <= before.items()

    changed = json.loads(shared.dvc("metrics", "diff", "--json").out)["results/report/metrics.json"]
    assert changed
    assert all(name.endswith("RFF") for name in changed), changed
    parameters = json.loads(shared.dvc("params", "diff", "--json").out)["params.yaml"]
    assert parameters == {"models.rff.features.variance": {"old": 1000, "new": 10, "diff": -990}}
    (plots,) = json.loads(shared.dvc("plots", "diff", "--json").out)["data"].values()
    old, new = (
        Path(next(p["url"] for p in plots if p["revisions"] == [r])).read_bytes() for r in ("HEAD", "workspace")
    )
    assert old.startswith(b"\x89PNG")
    assert new.startswith(b"\x89PNG")
    assert old != new
    assert "wide" in shared.dvc("exp", "show", "--csv").out
    assert "dvc_plots" not in shared.git("status", "--porcelain").out


@pytest.mark.slow
def test_a_clone_can_pull_from_s3(shared, tmp_path, pull):
    server = shutil.which("moto_server") or pytest.skip("needs moto_server: pip install -e '.[remotes,remotes-test]'")
    pytest.importorskip("dvc_s3", reason="needs dvc-s3: pip install -e '.[remotes]'")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with serving(tmp_path / "server.log", port, server, "--host", "127.0.0.1", "--port", str(port)):
        subprocess.run(["curl", "--silent", "--fail", "-X", "PUT", f"{address}/bucket"], check=True)
        settings = {"endpointurl": address, "region": "us-east-1"}
        push_and_pull(shared, pull, tmp_path, "s3://bucket/cache", settings)


@pytest.mark.slow
def test_a_clone_can_pull_through_ssh(shared, tmp_path, pull):
    server = shutil.which("sshd", path=os.environ["PATH"] + os.pathsep + "/usr/sbin")
    if server is None:
        pytest.skip("needs sshd: apt-get install openssh-server")
    pytest.importorskip("dvc_ssh", reason="needs dvc-ssh: pip install -e '.[remotes]'")
    port = free_port()
    folder = tmp_path / "ssh"
    folder.mkdir(mode=0o700)
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    (folder / "config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        f"PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nSubsystem sftp internal-sftp\n"
    )
    tried = subprocess.run([server, "-t", "-f", str(folder / "config")], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"sshd cannot run here: {tried.stderr.strip()}")
    with serving(tmp_path / "server.log", port, server, "-D", "-e", "-f", str(folder / "config")):
        settings = {"port": str(port), "user": getpass.getuser(), "keyfile": str(folder / "user")}
        push_and_pull(shared, pull, tmp_path, f"ssh://127.0.0.1{tmp_path}/remote", settings)


def push_and_pull(shared, pull, tmp_path, address, settings):
    shared.dvc("remote", "add", "--local", "--default", "server", address)
    for name, value in settings.items():
        shared.dvc("remote", "modify", "--local", "server", name, value)
    shared.dvc("push")
    clone = pull(shared, tmp_path / "clone", address, settings)
    assert clone.results() == shared.results()
    assert clone.planned() == set()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(log, port, *command):
    """A server on this machine, until the block ends."""
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out) as server:
        try:
            for _ in range(150):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.2)
            else:
                pytest.fail(f"the server did not start:\n{log.read_text()}")
            yield
        finally:
            server.terminate()
