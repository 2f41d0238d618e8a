"""The leaderboard, from hand-made scores of three sets with two trainings each."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stillhouse.reporting import leaderboard, leaderboard_figures, study, tables
from stillhouse.reporting.study import Layout

METHODS = {"whole": "whole", "random": "random_images", "kip": "kip", "dc": "gradient_matching", "theirs": "imported"}
LABELS = {"whole": "all real images", "random": "random real images", "kip": "KIP", "dc": "DC", "theirs": "DSA, released",
          "mlp": "MLP", "near": "nearest neighbour"}  # fmt: skip
# Level of each experiment at one per class; ten per class is 10 points more. KIP and DC are equal but for chance.
LEVELS = {"whole": 90.0, "random": 30.0, "kip": 60.0, "dc": 60.5, "theirs": 70.0}
# What sets and trainings add, other for each experiment, as nothing else tells chance from a difference.
SETS = {"random": (0, 0.3, -0.3), "kip": (1, -1, 0), "dc": (-1, 1.2, -0.2), "theirs": (0.2, 0, -0.2)}
SECONDS = {"random": 0.001, "kip": 50.0, "dc": 100.0, "theirs": 0.2}


def scored(models: dict[str, str], seeds: int = 3, trainings: int = 2, dataset: str = "mnist") -> pd.DataFrame:
    """Rows of scores as the judge writes them; `models` by protocol. The second model gives 20 points less."""
    made: list[dict[str, Any]] = []
    for place, (protocol, model) in enumerate(models.items()):
        for experiment, level in LEVELS.items():
            for size in (1, 10) if experiment != "whole" else (None,):
                for seed in range(seeds):
                    shared = {
                        "dataset": dataset, "experiment": experiment, "method": METHODS[experiment], "per_class": size,
                        "seed": seed, "protocol": protocol, "model": model, "metric": "test accuracy",
                        "budget": 0.25 if experiment == "dc" else 1.0, "file": f"{dataset}{experiment}{size}{seed}",
                        "recipe": "r", "code": "c",
                    }  # fmt: skip
                    of_set = level - 20 * place + SETS.get(experiment, (0, 0, 0))[seed]
                    of_set += 10 if size == 10 else 0
                    for i in range(trainings):
                        value = of_set + (0.5, -0.5)[i]
                        made.append({**shared, "training_seed": seed * trainings + i, "value": value})
    return pd.DataFrame(made).astype({"per_class": "Int64"})


def costs(rows: pd.DataFrame) -> pd.DataFrame:
    sized = rows[rows["per_class"].notna()].drop_duplicates("file")
    return sized[["dataset", "experiment", "per_class", "seed", "file"]].assign(
        seconds=sized["experiment"].map(SECONDS) * sized["per_class"].astype(float)
    )


@pytest.fixture
def named(layout: Layout) -> Layout:
    return replace(layout, datasets=["mnist", "digits"], experiments=list(METHODS), labels=LABELS, published="",
                   seeds=[0, 1, 2])  # fmt: skip


def found_in(named: Layout, rows: pd.DataFrame) -> pd.DataFrame:
    return leaderboard.gathered(named, rows, study.tidy(named, rows), costs(rows))


@pytest.fixture
def found(named: Layout) -> pd.DataFrame:
    return found_in(named, scored({"common": "mlp"}))


def cell(found: pd.DataFrame, size: int = 1, protocol: str = "common") -> pd.DataFrame:
    chosen = found[(found["per_class"] == size) & (found["protocol"] == protocol)]
    return chosen.set_index("experiment")


def test_sets_are_ranked_within_a_data_set_and_size(found: pd.DataFrame) -> None:
    for size in (1, 10):
        assert cell(found, size).index.tolist() == ["theirs", "dc", "kip", "random"]
        assert cell(found, size)["rank"].tolist() == [1, 2, 3, 4]


def test_equal_means_share_the_better_rank(named: Layout) -> None:
    rows = scored({"common": "mlp"})
    kip = rows["experiment"] == "kip"
    rows.loc[rows["experiment"] == "dc", "value"] = rows.loc[kip, "value"].to_numpy()
    assert cell(found_in(named, rows))["rank"].to_dict() == {"theirs": 1, "kip": 2, "dc": 2, "random": 4}


def test_deviations_over_sets_and_over_trainings_stand_apart(found: pd.DataFrame) -> None:
    kip = cell(found).loc["kip"]
    assert (kip["sets"], kip["trainings"]) == (3, 2)
    assert kip["mean"] == pytest.approx(60)
    assert kip["over_sets"] == pytest.approx(1.0)  # of 61, 59, 60
    assert kip["over_trainings"] == pytest.approx(0.5**0.5)  # of ± 0.5 around each set's mean


def test_one_set_or_one_training_has_no_deviation(named: Layout) -> None:
    one = cell(found_in(named, scored({"common": "mlp"}, seeds=1, trainings=1)))
    assert one[["over_sets", "over_trainings"]].isna().all(axis=None)
    board = leaderboard.boards(named, one.reset_index())[0]
    assert [entry.text for entry in leaderboard.table(board).lines[0].entries][4:6] == ["–", "–"]


def test_accuracy_is_told_over_random_and_as_a_part_of_all_real_images(found: pd.DataFrame) -> None:
    kip = cell(found).loc["kip"]
    assert kip["gain"] == pytest.approx(30)
    assert kip["ratio"] == pytest.approx(100 * 60 / 90)
    assert cell(found).loc["random", "gain"] == 0


def test_seconds_are_those_of_a_set_and_imported_ones_have_none(found: pd.DataFrame) -> None:
    assert cell(found, 10)["seconds"].dropna().to_dict() == {"dc": 1000.0, "kip": 500.0, "random": 0.01}


def test_clear_differences_are_decided_and_others_are_not(found: pd.DataFrame) -> None:
    here = cell(found)
    assert here["beside_random"].to_dict() == {"theirs": "higher", "dc": "higher", "kip": "higher", "random": ""}
    assert here["beside_best"].to_dict() == {"theirs": "", "dc": "lower", "kip": "lower", "random": "lower"}
    assert here["beside_next"]["dc"] == "not decided"
    assert here["beside_next"]["random"] == ""


def test_two_sets_with_many_trainings_decide_nothing(named: Layout) -> None:
    here = cell(found_in(named, scored({"common": "mlp"}, seeds=2)))
    assert set(here["beside_random"]) | set(here["beside_best"]) | set(here["beside_next"]) == {"not decided", ""}


def test_a_protocol_and_a_model_are_a_board_and_nothing_of_two_stands_in_one_table(named: Layout) -> None:
    both = found_in(named, scored({"common": "mlp", "by_near": "near"}))
    boards = leaderboard.boards(named, both)
    assert [(board.protocol, board.name) for board in boards] == [("common", "MLP"), ("by_near", "nearest neighbour")]
    for board, best in zip(boards, ("70.00", "50.00"), strict=True):
        assert set(board.rows["protocol"]) == {board.protocol}
        table = leaderboard.table(board)
        assert board.protocol in table.title
        assert table.lines[0].entries[3].text == best
        assert {entry.text for line in table.lines for entry in line.entries[:1]} == {
            "DSA, released", "DC, 25 % of its budget", "KIP", "random real images", "all real images",
        }  # fmt: skip
    assert boards[1].rows["rank"].tolist() == boards[0].rows["rank"].tolist()


def test_two_protocols_of_one_model_are_told_apart(named: Layout) -> None:
    both = found_in(named, scored({"common": "mlp", "own": "mlp"}))
    assert [board.name for board in leaderboard.boards(named, both)] == ["MLP, common", "MLP, own"]


def test_a_line_has_rank_accuracy_and_what_it_is_beside(named: Layout, found: pd.DataFrame) -> None:
    [board] = leaderboard.boards(named, found)
    table = leaderboard.table(board)
    assert [entry.text for entry in table.lines[1].entries] == [
        "DC, 25 % of its budget", "1", "2", "60.50", "1.11", "0.71", "+30.50", "67.2", "higher", "lower", "not decided", "100",
    ]  # fmt: skip
    assert [line.reference for line in table.lines] == [False, False, False, True, True] * 2
    assert [entry.text for entry in table.lines[4].entries] == ["all real images", "all", "–", "90.00", *"––––––––"]
    assert len({line.name for line in table.lines}) == len(table.lines)
    assert "60.50" in tables.markdown(table)
    assert "60.50" in tables.latex(table, "caption")


def test_sets_of_one_label_are_told_apart(named: Layout) -> None:
    same = replace(named, labels={**LABELS, "dc": "KIP"})
    names = cell(found_in(same, scored({"common": "mlp"})))["set"].to_dict()
    assert (names["kip"], names["dc"]) == ("KIP (kip)", "KIP (dc), 25 % of its budget")


def test_without_random_or_all_real_images_there_is_nothing_to_be_beside(named: Layout) -> None:
    rows = scored({"common": "mlp"})
    alone = found_in(named, rows[~rows["experiment"].isin(["random", "whole"])].reset_index(drop=True))
    assert alone[["random", "gain", "whole", "ratio"]].isna().all(axis=None)
    assert set(alone["beside_random"]) == {""}
    [board] = leaderboard.boards(named, alone)
    assert len(leaderboard.table(board).lines) == 6
    assert "DSA, released is first with 70.00 %; all others are lower." in " ".join(
        leaderboard.findings(alone, [board])
    )


def test_findings_name_the_best_and_what_is_not_decided(named: Layout, found: pd.DataFrame) -> None:
    said = leaderboard.findings(found, leaderboard.boards(named, found))
    assert said[0].endswith("MLP: 3 sets a method, 2 trainings each.")
    assert said[1] == (
        "MLP, mnist, 1 per class: DSA, released is first with 70.00 %, +40.00 points over random real images (30.00 %), "
        "77.8 % of what all real images give; all others are lower."
    )
    assert said[3] == (
        "MLP: of 6 places of methods (a data set and size each), 6 are higher than random real images, 0 are lower, 0 are not "
        "decided."
    )
    assert said[-1] == "Less than the published budget: DC, 25 % of its budget. More of it may change their ranks."


def test_findings_say_when_nothing_can_be_decided(named: Layout) -> None:
    few = found_in(named, scored({"common": "mlp"}, seeds=1))
    said = leaderboard.findings(few, leaderboard.boards(named, few))
    assert said[0].endswith("MLP: 1 set a method, 2 trainings each, too few to decide anything.")
    assert said[1].endswith("its difference to none of the others is decided.")


def test_findings_say_how_alike_boards_rank(named: Layout) -> None:
    rows = scored({"common": "mlp", "by_near": "near"})
    last = (rows["protocol"] == "by_near") & rows["per_class"].eq(10)
    rows.loc[last, "value"] = 100 - rows.loc[last, "value"]
    both = found_in(named, rows)
    text = " ".join(leaderboard.findings(both, leaderboard.boards(named, both)))
    assert "MLP and nearest neighbour rank the sets with Kendall's τ = −1.00 to 1.00 over 2 data sets and sizes" in text


def test_the_front_is_what_nothing_faster_beats() -> None:
    timed = pd.DataFrame({"taken": [1.0, 5.0, 2.0, 1.0, 9.0], "mean": [10.0, 12.0, 12.0, 11.0, 20.0]})
    front = leaderboard_figures.better_than_all_faster(timed)
    assert front[["taken", "mean"]].to_numpy().tolist() == [[1, 11], [2, 12], [9, 20]]


def test_the_dots_stand_at_the_means_with_a_line_for_random_and_all_real_images(
    named: Layout, found: pd.DataFrame
) -> None:
    figure = leaderboard_figures.dots(named, leaderboard.boards(named, found))
    [axis] = figure.axes
    drawn = {line.get_label(): np.asarray(line.get_xdata(), dtype=float) for line in axis.get_lines()}
    assert drawn["1 per class"] == pytest.approx([70, 60.5, 60])
    assert drawn["10 per class"] == pytest.approx([80, 70.5, 70])
    assert drawn["all real images"] == pytest.approx([90, 90])
    assert drawn["random real images, 10 per class"] == pytest.approx([40, 40])
    assert [text.get_text() for text in axis.get_yticklabels()] == ["DSA, released", "DC, 25 % of its budget", "KIP"]


def test_a_set_has_a_dot_on_every_data_set_though_parts_of_budgets_differ(named: Layout, found: pd.DataFrame) -> None:
    other = found.assign(dataset="cifar10", set=found["set"].str.replace("25 %", "50 %"))
    both = replace(named, datasets=["mnist", "cifar10"])
    figure = leaderboard_figures.dots(both, leaderboard.boards(both, pd.concat([found, other], ignore_index=True)))
    lines = [line for axis in figure.axes for line in axis.get_lines() if line.get_label() == "1 per class"]
    assert [len(np.asarray(line.get_xdata())) for line in lines] == [3, 3]
    assert "DC, reduced budget" in [text.get_text() for text in figure.axes[0].get_yticklabels()]


def test_accuracy_against_seconds_leaves_out_sets_without_a_time(named: Layout, found: pd.DataFrame) -> None:
    figure = leaderboard_figures.seconds(named, leaderboard.boards(named, found))
    assert len(figure.axes) == 2
    drawn = {line.get_label(): line for line in figure.axes[1].get_lines()}
    assert "DSA, released" not in drawn
    assert np.asarray(drawn["KIP"].get_xdata()).tolist() == [500]
    assert {text.get_text() for text in figure.axes[1].texts} == {"2", "3"}
    assert all(np.isfinite(np.asarray(line.get_xdata(), dtype=float)).all() for line in figure.axes[1].get_lines())
