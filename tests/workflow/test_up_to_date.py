"""Nothing is ever stale, nothing is made twice: which jobs a change makes snakemake plan, here and in a fresh clone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("workflow")

RESULTS = ("data/prepared", "results/teachers", "results/distilled", "results/evaluated", "results/analyses")
REPORT = {"krr_recovery", "page"}
SCORES = {
    "evaluate digits whole same_model linear",
    "evaluate digits whole same_model rff",
    "evaluate digits krr_linear same_model linear",
    "evaluate digits krr_rff same_model rff",
    "evaluate digits random same_model linear",
    "evaluate digits random same_model rff",
}
SETS = {"distill_digits_krr_linear", "distill_digits_krr_rff", "distill_digits_random"}
TEACHERS = {"teach digits linear 0", "teach digits rff 0"}
ANALYSIS = {"analyse_digits_krr_path_seed0", "krr_path", "page"}
REPORTS = REPORT | {"krr_path"}
EVERYTHING = {"prepare digits"} | TEACHERS | SETS | SCORES | REPORT | ANALYSIS

OF_SETS = SETS | {name for name in SCORES if "whole" not in name} | REPORT
OF_KRR_LINEAR = {"distill_digits_krr_linear", "evaluate digits krr_linear same_model linear"} | REPORT
OF_EXACT = {"distill_digits_krr_linear", "distill_digits_krr_rff"} | {n for n in SCORES if " krr_" in n} | REPORT
OF_RFF = {"teach digits rff 0", "distill_digits_krr_rff"} | {name for name in SCORES if name.endswith("rff")} | REPORT


def study(params: dict[str, Any]) -> dict[str, Any]:
    return params["studies"]["krr_recovery"]


# Edits of params.yaml, and the jobs that they must plan.
SETTINGS = {
    "of an experiment": (lambda p: p["experiments"]["krr_linear"].update(noise=0.2), OF_KRR_LINEAR),
    "of a model": (lambda p: p["models"]["rff"]["features"].update(variance=900), OF_RFF),
    "of what no study asks": (lambda p: p["experiments"]["krr_fcnn"].update(noise=0.2), set()),
    "a label": (lambda p: p["experiments"]["random"].update(label="real images"), REPORT),
    "another experiment": (
        lambda p: study(p)["experiments"].append("krr_linear_real"),
        {"distill_digits_krr_linear_real", "evaluate digits krr_linear_real same_model linear"} | REPORT,
    ),
    # Sets of one experiment share a job, because starting one costs more than they do: the old ones are made again,
    # but neither the data nor a teacher that is there already.
    "another seed": (
        lambda p: study(p).update(seeds=[0, 1]),
        {"teach digits linear 1", "teach digits rff 1"} | SETS | SCORES | REPORT,
    ),
    "another size": (lambda p: study(p).update(per_class=[1, 2, 3]), OF_SETS),
}
# Files that get a remark or an empty line at their end, and the jobs that this must plan.
FILES = {
    "src/stillhouse/features/random_fourier.py": OF_RFF,
    "src/stillhouse/features/random_network.py": set(),  # no study asks for it
    "src/stillhouse/methods/random_images.py": OF_SETS,  # krr_exact draws its real images with it
    "src/stillhouse/evaluation/judge.py": SCORES | REPORT,
    "src/stillhouse/data/digits.py": EVERYTHING,
    "src/stillhouse/analyses/krr_path.py": ANALYSIS,
    "src/stillhouse/theory/points.py": OF_EXACT | ANALYSIS,
    "src/stillhouse/reporting/figures.py": REPORTS,
    "src/stillhouse/reporting/path.py": REPORTS,
    "src/stillhouse/reporting/published.py": REPORTS,
    "src/stillhouse/reporting/published/chen2024.csv": REPORTS,
    "src/stillhouse/reporting/templates/page.html": REPORTS,
    "notebooks/exact_sets.ipynb": REPORT,
}
IN_A_CLONE = {
    "nothing": set(),
    "of an experiment": OF_KRR_LINEAR,
    "src/stillhouse/features/random_fourier.py": OF_RFF,
}


@pytest.fixture(scope="module")
def planned(copies, clones) -> Iterator[Callable[[str, str], set[str]]]:
    """The jobs that an edit makes snakemake plan, in a copy or a clone of the finished tree. Two are planned at a time."""

    def plan(new: Callable[[], Any], edit: str) -> set[str]:
        tree = new()
        if edit in SETTINGS:
            tree.edit(SETTINGS[edit][0])
        elif edit != "nothing":
            tree.append(edit, "\n# A remark.\n" if edit.endswith(".py") else "\n")
        return tree.planned()

    with ThreadPoolExecutor(2) as pool:
        waiting = {("copy", edit): pool.submit(plan, copies, edit) for edit in ("nothing", *SETTINGS, *FILES)}
        waiting |= {("clone", edit): pool.submit(plan, clones, edit) for edit in IN_A_CLONE}
        yield lambda where, edit: waiting[where, edit].result()
        pool.shutdown(cancel_futures=True)


def test_the_first_run_makes_everything_once(first):
    assert first.jobs == EVERYTHING


def test_after_a_run_nothing_is_to_be_done(planned):
    assert planned("copy", "nothing") == set()


@pytest.mark.parametrize("edit", SETTINGS)
def test_an_edited_setting_plans_just_what_depends_on_it(planned, edit):
    assert planned("copy", edit) == SETTINGS[edit][1]


@pytest.mark.parametrize("file", FILES)
def test_an_edited_file_plans_just_what_is_made_with_it(planned, file):
    assert planned("copy", file) == FILES[file]


@pytest.mark.parametrize("edit", IN_A_CLONE)
def test_an_edit_plans_the_same_in_a_fresh_clone_that_pulled_the_results(planned, edit):
    assert planned("clone", edit) == IN_A_CLONE[edit]


def test_in_a_clone_an_edit_makes_just_what_depends_on_it(edited):
    assert edited.jobs == OF_KRR_LINEAR
    assert edited.tree.planned() == set()


def test_in_a_clone_an_edit_leaves_all_other_results_untouched(edited):
    before, after = edited.contents_before, edited.tree.contents(*RESULTS)
    times = edited.tree.times(*RESULTS)
    assert set(after) == set(before)
    remade = {name for name in before if times[name] != edited.times_before[name]}
    assert remade == {name for name in before if "/krr_linear/" in name}
    changed = {name for name in before if after[name] != before[name]}
    assert {name for name in remade if name.endswith((".safetensors", ".csv"))} <= changed <= remade


def test_a_clone_that_pulled_nothing_has_everything_to_make_although_the_report_is_in_git(published, tmp_path):
    published.tree.git("clone", "--quiet", str(published.tree.root), str(tmp_path / "clone"))
    clone = replace(published.tree, root=tmp_path / "clone")
    assert (clone.root / "results/report/index.html").is_file()
    assert clone.planned() == EVERYTHING
    assert clone.planned("krr_recovery") == EVERYTHING - ANALYSIS
