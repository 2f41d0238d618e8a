"""Where exact distillation is impossible: tables and sentences of what fewer points reach, beside what is proven."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from stillhouse.reporting.tables import Column, Entry, Line, Table

_COUNTS = ["n", "d", "m", "m_bound", "m_found", "m_greedy", "m_components"]
_NEAR = 1e-3  # the distance of a logistic path that sentences speak of
_RIDGES = {"mean": "grows with n", "sum": "stays"}


def part(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of one part of the analysis, of the first seed, without the columns of the others."""
    chosen: pd.DataFrame = rows[(rows["part"] == name) & (rows["seed"] == rows["seed"].min())].dropna(axis=1, how="all")
    return chosen.astype({count: int for count in _COUNTS if count in chosen}).reset_index(drop=True)


def fewer(found: pd.DataFrame) -> pd.DataFrame:
    """Sets of fewer points than examples."""
    return found.loc[found["m"] < found["n"]]


def floors_table(rows: pd.DataFrame) -> Table:
    """Theorem 2: distances for some numbers of points."""
    columns = [
        Column("points"), Column("random subset", "distance, relative"), Column("greedy subset", "distance, relative"),
        Column("best found", "distance, relative"), Column("not below", "distance, relative"),
        Column("best found, by KernelRidge"), Column("on test inputs"), Column("condition"),
    ]  # fmt: skip
    lines = []
    for dataset, here in part(rows, "gaussian").groupby("dataset", sort=False):
        size = int(here["n"].iloc[0])
        kept = {1, 2, size // 8, size // 4, size // 2, 3 * size // 4, size - 2, size - 1, size}
        lines += [_floor(str(dataset), row, size) for row in here[here["m"].isin(kept)].to_dict("records")]
    notes = [
        "Random: the best of those drawn. Not below: proven for every set of so many points, wherever they are.",
        "On test inputs: root mean square of f − g over that of f. Condition: of the set's Gram matrix.",
    ]
    return Table("floors", "Gaussian kernel: how near m points come", "data set", columns, lines, notes)


def _floor(dataset: str, row: Mapping[Any, Any], size: int) -> Line:
    entries = [
        Entry(f"{row['m']} of {size}"), Entry(_number(row["subset"])), Entry(_number(row["greedy"])),
        Entry(_number(row["found"]), recipe=str(row["recipe"]), value=float(f"{row['found']:.3g}")),
        Entry(_number(row["bound"])), Entry(_number(row["found_scikit"])), Entry(_number(row["test"])),
        Entry(f"{row['condition_found']:.0e}"),
    ]  # fmt: skip
    return Line(dataset, entries, row["m"] == size, f"{dataset} {row['m']} points")


def kernels_table(rows: pd.DataFrame) -> Table:
    """How many points are enough, by kernel."""
    columns = [
        Column("kernel", words=True), Column("examples"), Column("features"), Column("points enough"),
        Column("distance with them"), Column("one point less: not below"),
    ]  # fmt: skip
    gaussian, lines = part(rows, "gaussian"), []
    for dataset, here in part(rows, "contrast").groupby("dataset", sort=False):
        floors = gaussian[gaussian["dataset"] == dataset]
        last = floors.loc[floors["m"] == floors["n"] - 1, "bound"]
        whole = floors[floors["m"] == floors["n"]].assign(kernel="Gaussian", bound=list(last))
        for row in pd.concat([here, whole]).to_dict("records"):
            entries = [
                Entry(str(row["kernel"])), Entry(str(row["n"])), Entry(str(row["d"])), Entry(str(row["m"])),
                Entry(_number(row["found_scikit"]), recipe=str(row["recipe"])), Entry(_number(row["bound"])),
            ]  # fmt: skip
            lines.append(Line(str(dataset), entries, name=f"{dataset} {row['kernel']}"))
    return Table("kernels", "How many points are enough, by KernelRidge", "data set", columns, lines)


def epsilon_table(rows: pd.DataFrame) -> Table:
    """The smallest sets within epsilon against the number of examples."""
    found = part(rows, "epsilon")
    values = sorted(found["epsilon"].unique(), reverse=True)
    columns = [
        Column("features"), Column("ridge", words=True), Column("examples"), Column("effective dimension"),
        *(Column(head, f"points within {value:g}") for value in values for head in ("proven", "found", "greedy")),
    ]  # fmt: skip
    lines = []
    for keys, here in found.groupby(["dataset", "d", "loss", "n"], sort=False):
        dataset, dim, loss, size = keys
        entries = [
            Entry(str(dim)), Entry(_RIDGES[str(loss)]), Entry(str(size)),
            Entry(f"{here['effective_dimension'].iloc[0]:.1f}"),
        ]  # fmt: skip
        for row in here.sort_values("epsilon", ascending=False).to_dict("records"):
            best = Entry(str(row["m_found"]), recipe=str(row["recipe"]), value=float(row["m_found"]))
            entries += [Entry(str(row["m_bound"])), best, Entry(str(row["m_greedy"]))]
        lines.append(
            Line(str(dataset), entries, name=f"{dataset} {dim} features, n {size}, ridge {_RIDGES[str(loss)]}")
        )
    notes = ["Proven: no fewer can. Greedy: a subset of the examples. The ridge that stays is that of the smallest n."]
    return Table("epsilon", "Gaussian kernel: points within ε of f", "data set", columns, lines, notes)


def path_table(rows: pd.DataFrame) -> Table:
    """Theorem 4: how near the whole ridge path m points come."""
    found = part(rows, "path")
    counts = sorted(fewer(found)["m"].unique())
    columns = [
        Column("features"), Column("examples"), Column("weights", words=True),
        *(Column(str(head), "largest distance over the path, of m points") for head in (*counts, "all")),
    ]  # fmt: skip
    lines = []
    for keys, here in found.groupby(["dataset", "d", "n", "weights"], sort=False):
        dataset, dim, size, weights = keys
        by = {row["m"]: row for row in here.to_dict("records")}
        entries = [Entry(str(dim)), Entry(str(size)), Entry(str(weights))]
        for count in (*counts, here["n"].iloc[0]):
            shown = count in by and (count < here["n"].iloc[0] or len(entries) == 3 + len(counts))
            entries.append(Entry(_number(by[count]["path"]), recipe=str(by[count]["recipe"])) if shown else Entry())
        lines.append(Line(str(dataset), entries, name=f"{dataset} {dim} features, n {size}, weights {weights}"))
    return Table("path", "Logistic regression: sets that follow the ridge path", "data set", columns, lines)


def union_table(rows: pd.DataFrame) -> Table:
    """What sets are worth together with other data: one point at its worst penalty, and the largest set made for the path."""
    point, path = "one point, exact at its penalty", "set made for the path"
    columns = [
        Column("features"), Column("examples"), Column("alone", point), Column("together", point), Column("left out", point),
        Column("points", path), Column("alone", path), Column("together", path), Column("left out", path),
    ]  # fmt: skip
    lines = []
    found = fewer(part(rows, "union"))
    for keys, here in found.groupby(["dataset", "d", "n"], sort=False):
        dataset, dim, size = keys
        largest = here[(here["set"] == "path") & (here["m"] == here["m"].max())]
        one, several = (_worst(each) for each in (here[here["set"] == "one point"], largest))
        entries = [
            Entry(str(dim)), Entry(str(size)), *_union(one), Entry(str(several["m"])), *_union(several),
        ]  # fmt: skip
        lines.append(Line(str(dataset), entries, name=f"{dataset} {dim} features, n {size}, union"))
    notes = [
        "Distances over |θ| of the real examples alone. Together: with as many other examples, of their own or of opposite "
        "labels, whichever is worse. Left out: what the other data alone miss."
    ]
    return Table("union", "Logistic regression: the sets together with other data", "data set", columns, lines, notes)


def _union(row: Mapping[Any, Any]) -> list[Entry]:
    return [
        Entry(_number(row["alone"])),
        Entry(_number(row["union"]), recipe=str(row["recipe"])),
        Entry(_number(row["ignored"])),
    ]


def findings(rows: pd.DataFrame) -> list[str]:
    """What the numbers say, in sentences computed from them."""
    return [
        *_of_floors(part(rows, "gaussian")),
        *_of_kernels(part(rows, "contrast")),
        *_of_epsilons(part(rows, "epsilon")),
        *_of_paths(part(rows, "path")),
        *_of_unions(fewer(part(rows, "union"))),
    ]


def _of_floors(found: pd.DataFrame) -> Iterator[str]:
    less = fewer(found)
    last, half = less[less["m"] == less["n"] - 1], less[less["m"] == less["n"] // 2]
    ratio = (less["found"] / less["bound"])[less["bound"] > 0]
    seen = int((last["found"] > last["resolution"]).sum())
    yield (
        f"Gaussian kernel (Theorem 2): all n = {_range(found['n'])} examples give f exactly. With one point fewer, wherever "
        f"the points are, {_range(last['bound'], '.1e')} of its norm is proven to be missed (0: hidden by rounding); the "
        f"best set found misses {_range(last['found'], '.1e')}, above what rounding could make of 0 for {seen} of {len(last)} "
        "data sets."
    )
    yield (
        f"Proof and search leave little room: over {len(less)} sizes the best set found is {ratio.min():.2f} to "
        f"{ratio.max():.1f} times as far as proven to be needed, {ratio.median():.1f} times in the middle. Half of the points "
        f"miss {_range(half['found'], '.2g')}, half of the examples chosen greedily {_range(half['greedy'], '.2g')}, at random "
        f"{_range(half['subset'], '.2g')} at best. What KernelRidge learns from the sets is as far, to "
        f"{(less['found_scikit'] - less['found']).abs().max():.0e}."
    )


def _of_kernels(found: pd.DataFrame) -> Iterator[str]:
    quadratic = found[found["kernel"] == "quadratic"]
    yield (
        "It is a matter of the kernel: for one output the linear kernel needs one point and the quadratic one at most d + 1, "
        f"here {_range(quadratic['m'])}, whatever n is. They are exact to {found['found_scikit'].max():.0e}; with one less the "
        f"quadratic kernel misses {_range(quadratic['bound'], '.1e')} at least."
    )


def _of_epsilons(found: pd.DataFrame) -> Iterator[str]:
    values = sorted(found["epsilon"].unique())
    middle, first = values[len(values) // 2], found["n"].min()
    for dataset, here in found[found["epsilon"] == middle].groupby("dataset", sort=False):
        widest = here[here["d"] == here["d"].max()].sort_values("n")
        mean, fixed = widest[widest["loss"] == "mean"], widest[(widest["loss"] == "sum") | (widest["n"] == first)]
        yield (
            f"{dataset}, {widest['d'].iloc[0]} features, within {middle:g}, n = {_list(mean['n'])}: {_list(mean['m_found'])} "
            f"points with a mean loss, of which {_list(mean['m_bound'])} are proven to be needed; greedy subsets take "
            f"{_list(mean['m_greedy'])}. With the ridge of n = {first} for every n it is {_list(fixed['m_found'])}, of which "
            f"{_list(fixed['m_bound'])} are needed."
        )
    ratio = (found["m_found"] / found["effective_dimension"]).groupby(found["epsilon"]).agg(["min", "max"])
    more = found["m_found"] / found["m_bound"]
    told = ", ".join(f"{low:.2f} to {high:.2f} for ε = {value:g}" for value, low, high in ratio.itertuples())
    yield (
        f"The points found per effective dimension tr K (K + ridge I)⁻¹: {told}, over all data sets, n, features and both "
        "ridges. That is measured and no theorem. What is proven is the number that is needed: the sets found have "
        f"{more.min():.1f} to {more.max():.1f} times as many, {more.mean():.1f} times on average."
    )


def _of_paths(found: pd.DataFrame) -> Iterator[str]:
    less, free = fewer(found), found[found["weights"] == "free"]
    near = free[free["path"] <= _NEAR].groupby(["dataset", "d", "n"])["m"].min().reset_index()
    reached = "; ".join(
        f"{_range(near.loc[near['n'] == size, 'm'])} points for n = {size}" for size in sorted(set(near["n"]))
    )
    last = less[(less["weights"] == "equal") & (less["m"] == less["n"] - 1)]
    whole = found.loc[found["m"] == found["n"], "path"].max()
    yield (
        f"Logistic regression (Theorem 4): with all n examples the path of all penalties is there to {whole:.0e}; the nearest of "
        f"all smaller sets found is {less['path'].min():.1e} away. But a path is a curve, and few points come near: within "
        f"{_NEAR:g}, {reached}. These are the best found: no lower bound is known to us."
    )
    if len(last):
        yield f"With equal weights, n − 1 of n = {_range(last['n'])} points stay {_range(last['path'], '.1e')} away."


def _of_unions(found: pd.DataFrame) -> Iterator[str]:
    one, path = found[found["set"] == "one point"], found[found["set"] == "path"]
    worst = _worst(one)
    yield (
        f"One point that is exact at its penalty, to {one['alone'].max():.0e}, does not stand for its examples together with "
        f"others: it misses the union by up to {worst['union']:.2f}, and leaving it out misses {worst['ignored']:.2f}."
    )
    several = path[(path["d"] > 1) & (path["alone"] <= _NEAR)]
    if len(several):
        further = _worst(several)
        yield (
            f"To follow the path is less than to serve every union: with {_range(several['d'])} features, of {len(several)} "
            f"sets within {_NEAR:g} of the path the worst, at {further['alone']:.1e}, misses a union by {further['union']:.1e}, "
            f"and leaving it out misses {further['ignored']:.1e}."
        )


def _worst(found: pd.DataFrame) -> Mapping[Any, Any]:
    """The row with the largest distance in a union."""
    return found.iloc[int(found["union"].argmax())].to_dict()


def _list(values: Any) -> str:
    return ", ".join(map(str, values))


def _range(values: Any, style: str = "d") -> str:
    """'8', or '4 to 8'."""
    low, high = format(min(values), style), format(max(values), style)
    return low if low == high else f"{low} to {high}"


def _number(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:.1e}" if value < 1e-3 else f"{value:.2g}"
