"""A mistake in params.yaml ends in one line that says where, what, and what to do, before the first job."""

from __future__ import annotations

import pytest
import yaml

from stillhouse import cli

pytestmark = pytest.mark.xdist_group("workflow")


def study(params):
    return params["studies"]["krr_recovery"]


# An edit that is a mistake, and pieces of the line that it must give: the place, what is wrong, what to do.
MISTAKES = {
    "typo in a setting": (
        lambda p: p["experiments"]["krr_linear"].update(nois=0.2),
        ("params.yaml: experiments.krr_linear: ", "'nois'", "Did you mean 'noise'?"),
    ),
    "typo in a section": (
        lambda p: p.update(experimnts={}),
        ("params.yaml: ", "'experimnts'", "Did you mean 'experiments'?"),
    ),
    "typo in a model's setting": (
        lambda p: p["models"]["rff"]["features"].update(varience=1),
        ("params.yaml: models.rff", "'varience'", "Did you mean 'variance'?"),
    ),
    "typo in a study's setting": (
        lambda p: study(p).update(seed=[0]),
        ("params.yaml: studies.krr_recovery: ", "'seed'", "Did you mean 'seeds'?"),
    ),
    "missing setting": (
        lambda p: study(p).pop("seeds"),
        ("params.yaml: studies.krr_recovery: ", "'seeds' is missing", "Add it."),
    ),
    "word for a number": (
        lambda p: p["experiments"]["krr_linear"].update(noise="much"),
        ("params.yaml: experiments.krr_linear.noise: ", "valid number", "found 'much'"),
    ),
    "text for a whole number": (
        lambda p: study(p).update(per_class=["1"]),
        ("params.yaml: studies.krr_recovery.per_class[0]: ", "valid integer", "found '1'"),
    ),
    "one for a list": (
        lambda p: study(p).update(seeds=3),
        ("params.yaml: studies.krr_recovery.seeds: ", "valid tuple", "found 3"),
    ),
    "number out of range": (
        lambda p: p["experiments"]["krr_linear"].update(noise=-1),
        ("params.yaml: experiments.krr_linear.noise: ", "greater than 0", "found -1"),
    ),
    "unknown method": (
        lambda p: p["experiments"]["random"].update(method="random_image"),
        ("params.yaml: experiments.random: ", "'random_image'", "Did you mean 'random_images'?"),
    ),
    "unknown data set": (
        lambda p: study(p).update(datasets=["digit"]),
        ("params.yaml: studies.krr_recovery.datasets: ", "'digit'", "Did you mean 'digits'?"),
    ),
    "unknown experiment": (
        lambda p: study(p)["experiments"].append("krr_liner"),
        ("params.yaml: studies.krr_recovery.experiments: ", "'krr_liner'", "Did you mean 'krr_linear'?"),
    ),
    "unknown model": (
        lambda p: p["experiments"]["krr_linear"].update(model="lineal"),
        ("params.yaml: experiments.krr_linear.model: ", "'lineal'", "Did you mean 'linear'?"),
    ),
    "no image per class": (
        lambda p: study(p).update(per_class=[0]),
        ("params.yaml: studies.krr_recovery.per_class[0]: ", "greater than or equal to 1", "found 0"),
    ),
    "more images than a class has": (
        lambda p: study(p).update(per_class=[1, 134]),
        (
            "params.yaml: studies.krr_recovery.per_class: ",
            "134 is more than the smallest class",
            "Choose 133 or fewer.",
        ),
    ),
    "picture of what is not made": (
        lambda p: study(p)["pictures"][0].update(per_class=5),
        ("params.yaml: studies.krr_recovery.pictures[0]: ", "'5'", "Add it there or change it."),
    ),
}


@pytest.fixture
def params(sources, tmp_path):
    """Writes params.yaml with a mistake; its path."""

    def write(mistake):
        content = yaml.safe_load((sources.root / "params.yaml").read_text())
        MISTAKES[mistake][0](content)
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return write


@pytest.mark.parametrize("mistake", MISTAKES)
def test_check_ends_in_one_line_with_the_place_and_what_to_do(params, mistake, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["check", str(params(mistake))])

    assert end.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    for piece in MISTAKES[mistake][1]:
        assert piece in line


@pytest.mark.parametrize("mistake", ["unknown data set", "more images than a class has"])
def test_snakemake_ends_in_the_same_line_before_the_first_job(fresh, mistake):
    fresh.edit(MISTAKES[mistake][0])

    run = fresh.snakemake(check=False)

    assert run.status != 0
    lines = [line for line in run.text.splitlines() if line and not line.startswith("Using workflow specific profile")]
    assert len(lines) == 1, run.text
    for piece in MISTAKES[mistake][1]:
        assert piece in lines[0]
    assert not (fresh.root / "data").exists()
    assert not (fresh.root / "results").exists()


def test_check_of_a_file_that_is_not_yaml_names_the_file(tmp_path, capsys):
    path = tmp_path / "params.yaml"
    path.write_text("studies: [\n")
    with pytest.raises(SystemExit) as end:
        cli.main(["check", str(path)])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{path}: not valid YAML" in line


def test_check_of_what_is_right_says_so(sources, capsys):
    cli.main(["check", str(sources.root / "params.yaml")])
    assert "right. 2 studies, 6 distilled sets" in capsys.readouterr().out
