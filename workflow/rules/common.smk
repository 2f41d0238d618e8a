"""The plan behind the rules, and the parameters that make a result old when its settings or its source change."""

import os
import sys
from pathlib import Path

# A second clone, or `dvc exp run --temp`, has to run its own source and not the one that happens to be installed.
SOURCE = str(Path(workflow.basedir) / "src")
sys.path.insert(0, SOURCE)
os.environ.update(
    PYTHONPATH=SOURCE,
    PATH=os.pathsep.join(
        [str(Path(sys.executable).parent), os.getenv("PATH", os.defpath)]
    ),
)

from snakemake.exceptions import WorkflowError

from stillhouse import config as params, machine
from stillhouse.errors import UserError
from stillhouse.plan import Plan


def read_plan(settings):
    """The plan of the configuration; a mistake in it ends here, in one line."""
    try:
        return Plan(params.read(settings))
    except UserError as problem:
        print(problem, file=sys.stderr)
        sys.exit(2)


plan = read_plan(config)


def moments_of_teacher(w):
    """What the shards of a teacher's pass made; nothing where the teacher's job makes the pass itself."""
    if not plan.sharded(w.model):
        return []
    return gather.shards(plan.moments(w.dataset, w.model, w.seed, "{scatteritem}"))


# Where this machine has a GPU, jobs wait for one another at it (profiles say how many run at once). Where it has none,
# it may be the front of a cluster that has: then default-resources of the profile say what a job asks for.
GPU = {"gpu": 1} if machine.gpus() else {}


onstart:
    # Instead of snakemake's own lock (profiles: nolock), which a killed run leaves behind.
    global LOCK
    try:
        LOCK = machine.hold(Path(".snakemake") / "running")
    except UserError as problem:
        raise WorkflowError(str(problem))


wildcard_constraints:
    dataset=r"\w+",
    experiment=r"\w+",
    model=r"\w+",
    protocol=r"\w+",
    seed=r"\d+",
