"""The leaderboard: every method under one protocol, ranked per data set and size, beside random and all real images.

A board is one protocol and one model. Nothing of two boards stands in one column: the same sets gain or lose points by what is
trained on them, and a method's own protocol flatters it. `significance` says what a difference is worth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import pandas as pd
from scipy import stats

from stillhouse.evaluation.ratios import distillation_ratio
from stillhouse.reporting import significance, transfer
from stillhouse.reporting.matrix import RANDOM, WHOLE
from stillhouse.reporting.study import Layout
from stillhouse.reporting.tables import Column, Entry, Line, Table, part_of_budget, seconds

IMPORTED = "imported"  # its cost is that of reading a file
_BOARD = ["protocol", "model"]
_CELL = ["dataset", "per_class", *_BOARD]
_LISTED = 4  # names in a sentence; more are counted
_SAID = {significance.HIGHER: "higher", significance.LOWER: "lower", significance.OPEN: "not decided", "": "–"}

Adjust = Callable[[Sequence[float]], list[float]]


@dataclass(frozen=True)
class Board:
    """One protocol and one model, what they are called, and their rows of `gathered`, in order of rank."""

    protocol: str
    model: str
    name: str
    rows: pd.DataFrame


def gathered(layout: Layout, rows: pd.DataFrame, tidy: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """One row per experiment, data set, size, protocol and model, ranked; `costs` is `study.costs` of `rows`.

    set                  what it is called, with the part of its budget
    mean                 test accuracy in percent, over all sets and trainings
    sets, trainings      how many sets, and trainings on each
    over_sets            deviation of the sets' means; NaN for one set
    over_trainings       deviation of trainings on one set, pooled over sets; NaN for one training a set
    random, gain         mean of random real images of the same number, and points over them
    whole, ratio         mean of all real images, and r_M, percent of it
    rank                 from 1, the highest mean; equals share the better rank
    seconds              to make a set, without its teacher; NaN for sets that were made elsewhere
    beside_random, beside_next, beside_best    'higher', 'lower', 'not decided', or '' where there is nothing to be beside
    """
    accuracy = tidy[(tidy["metric"] == "test accuracy") & (tidy["method"] != WHOLE)]
    known = [*_CELL, "experiment", "method", "metric", "mean", "budget", "recipe"]
    scored = rows[(rows["metric"] == "test accuracy") & rows["per_class"].notna()]
    found = accuracy[known].merge(_spread(scored), on=[*_CELL, "experiment"])
    gains = transfer.gains(found)[[*_CELL, "experiment", "random", "gain"]]
    found = found.merge(gains, on=[*_CELL, "experiment"], how="left")
    own = found["method"] == RANDOM
    found["random"] = found["random"].mask(own, found["mean"])
    found["gain"] = found["gain"].mask(own, 0.0)
    whole = tidy[(tidy["metric"] == "test accuracy") & (tidy["method"] == WHOLE)]
    whole = whole.rename(columns={"mean": "whole"})[["dataset", *_BOARD, "whole"]]
    found = found.merge(whole, on=["dataset", *_BOARD], how="left")
    found["ratio"] = [distillation_ratio(a, w) for a, w in zip(found["mean"], found["whole"], strict=True)]
    found["rank"] = found.groupby(_CELL)["mean"].rank(method="min", ascending=False).astype(int)
    taken = costs.groupby(["dataset", "per_class", "experiment"])["seconds"].mean().reset_index()
    found = found.merge(taken, on=["dataset", "per_class", "experiment"], how="left")
    found["seconds"] = found["seconds"].mask(found["method"] == IMPORTED)
    found["set"] = _names(layout, found)
    place = {name: i for i, name in enumerate([*layout.datasets, *layout.experiments])}
    ordered = found.assign(a=found["dataset"].map(place), b=found["experiment"].map(place)).sort_values(
        ["a", "per_class", "rank", "b"], kind="stable"
    )
    cells = [_decided(cell, scored) for _, cell in ordered.groupby(_CELL, sort=False)]
    return pd.concat(cells, ignore_index=True).drop(columns=["a", "b", "metric"])


def boards(layout: Layout, found: pd.DataFrame) -> list[Board]:
    """The boards, in the order of protocols in `found` and of models in the study."""
    models = {name: i for i, name in enumerate(layout.labels)}
    pairs = sorted(dict.fromkeys(zip(found["protocol"], found["model"], strict=True)), key=lambda pair: models[pair[1]])
    shown = []
    for protocol, model in pairs:
        label = layout.labels[model]
        twice = sum(layout.labels[other] == label for _, other in pairs) > 1
        part = found[(found["protocol"] == protocol) & (found["model"] == model)]
        shown.append(Board(protocol, model, f"{label}, {protocol}" if twice else label, part.reset_index(drop=True)))
    return shown


def cells(board: Board) -> Iterator[tuple[str, int, pd.DataFrame]]:
    """Data set, images per class, and their rows in order of rank."""
    for _, part in board.rows.groupby(["dataset", "per_class"], sort=False):
        yield str(part["dataset"].iloc[0]), int(part["per_class"].iloc[0]), part


def table(board: Board) -> Table:
    """A board, data set by data set and size by size, the best first; all real images without a rank."""
    heads = [
        Column("trained on", words=True), Column("images per class"), Column("rank"), Column("accuracy, %"),
        Column("sets", "± over"), Column("trainings", "± over"), Column("random, points", "over"),
        Column("all real images, %", "of"), Column("random", "beside", True), Column("the best", "beside", True),
        Column("the next", "beside", True), Column("seconds a set"),
    ]  # fmt: skip
    lines = []
    for dataset, size, part in cells(board):
        lines += [_line(board, dataset, size, row) for row in part.to_dict("records")]
        whole = part["whole"].iloc[0]
        if not math.isnan(whole):
            entries = [Entry("all real images"), Entry("all"), Entry(), Entry(f"{whole:.2f}"), *[Entry()] * 8]
            lines.append(Line(dataset, entries, True, f"{dataset} {size} all real images, {board.name}"))
    title = f"Scored by {board.name} under protocol {board.protocol}: test accuracy in percent"
    return Table(f"leaderboard_{board.protocol}_{board.model}", title, "data set", heads, lines)


def _line(board: Board, dataset: str, size: int, row: Mapping[Any, Any]) -> Line:
    entries = [
        Entry(row["set"]), Entry(str(size)), Entry(str(row["rank"])),
        Entry(f"{row['mean']:.2f}", recipe=str(row["recipe"]), value=float(f"{row['mean']:.2f}")),
        _number(row["over_sets"]), _number(row["over_trainings"]),
        Entry() if row["method"] == RANDOM else _number(row["gain"], "+.2f"), _number(row["ratio"], ".1f"),
        *(Entry(_SAID[row[name]]) for name in ("beside_random", "beside_best", "beside_next")),
        Entry() if math.isnan(row["seconds"]) else Entry(seconds(row["seconds"])),
    ]  # fmt: skip
    return Line(dataset, entries, row["method"] == RANDOM, f"{dataset} {size} {row['set']}, {board.name}")


def _number(value: float, form: str = ".2f") -> Entry:
    return Entry() if math.isnan(value) else Entry(f"{value:{form}}".replace("-", "−"))


def findings(found: pd.DataFrame, shown: list[Board]) -> list[str]:
    """What the boards say, in sentences computed from them."""
    said = [_tested(shown)]
    for board in shown:
        said += [_best(board, *cell) for cell in cells(board)]
        beside = board.rows[board.rows["beside_random"] != ""]["beside_random"]
        if len(beside):
            higher, lower = ((beside == each).sum() for each in (significance.HIGHER, significance.LOWER))
            said.append(
                f"{board.name}: of {len(beside)} places of methods (a data set and size each), {higher} are higher than random "
                f"real images, {lower} are lower, {len(beside) - higher - lower} are not decided."
            )
    said += _agreement(shown)
    cut = sorted(set(found[found["budget"] < 1]["set"]))
    if cut:
        said.append(f"Less than the published budget: {'; '.join(cut)}. More of it may change their ranks.")
    return said


def _tested(shown: list[Board]) -> str:
    """How differences are tested, and what one value of a test is on each board."""
    level = f"{100 * significance.LEVEL:g} %"
    text = (
        "How differences are tested: where a method has several sets, one value is a set's mean over its trainings; where it has "
        "one, one value is a training, and what is decided is about these sets and not about the methods. Values of the same "
        "training seeds are pairs (Student's t for pairs), others are not (Welch's t). In a board's data set and size, at most "
        f"{level} for any wrong decision beside random images (Holm), for calling the truly best lower than the best "
        "(Bonferroni), and for any wrong decision beside the next (Holm, over all pairs)."
    )
    for board in shown:
        sets, trainings = int(board.rows["sets"].max()), int(board.rows["trainings"].max())
        text += f" {board.name}: {_count(sets, 'set')} a method, {_count(trainings, 'training')} each"
        few = (sets if sets > 1 else trainings) < significance.FEWEST
        text += ", too few to decide anything." if few else "."
    return text


def _best(board: Board, dataset: str, size: int, part: pd.DataFrame) -> str:
    """The best of a cell, what it gains, and who is not decided to be below it."""
    first = part.iloc[0]
    text = f"{board.name}, {dataset}, {size} per class: {first['set']} is first with {first['mean']:.2f} %"
    if not math.isnan(first["gain"]):
        text += f", {first['gain']:+.2f} points over random real images ({first['random']:.2f} %)".replace("-", "−")
    if not math.isnan(first["ratio"]):
        text += f", {first['ratio']:.1f} % of what all real images give"
    others = part.iloc[1:]
    even = others[others["beside_best"] == significance.OPEN]["set"].tolist()
    if not len(others):
        return f"{text}."
    if len(even) == len(others):
        return f"{text}; its difference to none of the others is decided."
    if len(even) > _LISTED:
        return f"{text}; {len(even)} of {len(others)} others are not decided beside it."
    if even:
        return f"{text}; not decided beside it: {'; '.join(even)}."
    return f"{text}; all others are lower."


def _agreement(shown: list[Board]) -> Iterator[str]:
    """How alike two boards rank the sets that both have: Kendall's tau, mean over data sets and sizes of three or more."""
    for one, other in combinations(shown, 2):
        both = one.rows.merge(other.rows, on=["dataset", "per_class", "experiment"])
        parts = [part for _, part in both.groupby(["dataset", "per_class"]) if len(part) >= 3]
        taus = [float(stats.kendalltau(part["mean_x"], part["mean_y"]).statistic) for part in parts]
        taus = [tau for tau in taus if not math.isnan(tau)]
        if taus:
            yield (
                (
                    f"{one.name} and {other.name} rank the sets with Kendall's τ = {min(taus):.2f} to {max(taus):.2f} over "
                    f"{_count(len(taus), 'data set and size', 'data sets and sizes')} (1: the same order; 0: unrelated)."
                )
                .replace("= -", "= −")
                .replace("to -", "to −")
            )


def _count(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"


def _spread(scored: pd.DataFrame) -> pd.DataFrame:
    """Deviations over sets and over trainings, and how many there are, of each experiment in each cell."""
    keys = [*_CELL, "experiment"]
    sets = scored.groupby([*keys, "seed"])["value"].agg(["mean", "var", "count"]).reset_index()
    gathered_sets = sets.groupby(keys)
    spread = gathered_sets.agg(
        sets=("seed", "nunique"), trainings=("count", "max"), over_sets=("mean", "std"), pooled=("var", "mean")
    ).reset_index()
    return spread.assign(over_trainings=spread["pooled"] ** 0.5).drop(columns="pooled")


def _names(layout: Layout, found: pd.DataFrame) -> pd.Series:
    """Labels with the part of the budget; experiments that share one are told apart by their names."""
    label = found["experiment"].map(dict(layout.labels))
    shared = {name for name, part in found.groupby(label) if part["experiment"].nunique() > 1}
    apart = label.where(~label.isin(shared), label + " (" + found["experiment"] + ")")
    return apart + found["budget"].map(part_of_budget)


def _decided(cell: pd.DataFrame, scored: pd.DataFrame) -> pd.DataFrame:
    """A cell's rows, in order of rank, with what is decided of each beside random images, the best and the next."""
    here = scored
    for name in _CELL:
        here = here[here[name] == cell[name].iloc[0]]
    names = cell["experiment"].tolist()
    of = {name: here[here["experiment"] == name] for name in names}
    pairs = {pair: significance.compare(of[pair[0]], of[pair[1]]) for pair in combinations(names, 2)}

    def verdicts(chosen: list[tuple[str, str]], adjust: Adjust) -> dict[tuple[str, str], str]:
        adjusted = adjust([pairs[pair].p for pair in chosen])
        said = {}
        for pair, p in zip(chosen, adjusted, strict=True):
            said[pair] = significance.verdict(pairs[pair].difference, p)
            said[pair[::-1]] = significance.verdict(-pairs[pair].difference, p)
        return said

    random, best = cell[cell["method"] == RANDOM]["experiment"].tolist(), names[0]
    with_random = verdicts([pair for pair in pairs if len({*random} & {*pair}) == 1], significance.holm)
    with_best = verdicts([pair for pair in pairs if best in pair], significance.bonferroni)
    among_all = verdicts(list(pairs), significance.holm)
    following = dict(pairwise(names))
    return cell.assign(
        beside_random=[with_random.get((name, *random), "") for name in names],
        beside_best=[with_best.get((name, best), "") for name in names],
        beside_next=[among_all[name, following[name]] if name in following else "" for name in names],
    )
