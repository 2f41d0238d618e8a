import dataclasses
from typing import Any

import pandas as pd
import pytest
import torch
from sklearn.linear_model import Ridge

from stillhouse import settings
from stillhouse.analyses import linear_stream
from stillhouse.errors import UserError
from stillhouse.run import Run
from stillhouse.sets import RealSet, Split
from stillhouse.theory.linear_points import Examples


def analysed(real: RealSet, **options: Any) -> Any:
    """The rows, as pandas has them."""
    params = settings.parse_plugin("analyses", {"kind": "linear_stream", **options}, "analyses.test")
    return pd.DataFrame(linear_stream.analyse(real, params, Run(seed=0)))


def at_end(rows: Any) -> Any:
    return rows[rows["task"] == rows["task"].max()].set_index("memory")


@pytest.mark.parametrize("name", ["table", "digits"])
def test_points_remember_all_that_has_come_and_others_forget(name: str, request: pytest.FixtureRequest) -> None:
    real: RealSet = request.getfixturevalue(name)
    rows = analysed(real, ridge=1.0)
    assert len(rows) == 5 * 4
    by = {memory: group.set_index("task") for memory, group in rows.groupby("memory")}
    assert by["points"]["distance"].max() < 1e-10
    assert (by["points"]["score"] - by["all"]["score"]).abs().max() < 1e-8
    assert (by["points"]["score_first"] - by["all"]["score_first"]).abs().max() < 1e-8
    assert by["points"]["stored"].max() <= real.dim + 1
    assert by["random"]["stored"].tolist() == by["points"]["stored"].tolist()
    assert by["all"]["stored"].tolist() == by["all"]["examples"].tolist()
    assert by["all"]["examples"].iloc[-1] == len(real.train)
    assert by["last"]["distance"].iloc[0] == pytest.approx(0, abs=1e-12)
    assert by["last"]["distance"].iloc[1:].min() > 0.1
    assert by["random"]["distance"].min() > 0.05
    worse = by["last"]["score_first"].iloc[-1] - by["all"]["score_first"].iloc[-1]
    assert worse > 0 if real.regression else worse < -50


def test_at_the_end_it_is_ridge_regression_on_the_whole_set(table: RealSet) -> None:
    end = at_end(analysed(table, ridge=2.0))
    inputs = table.train.inputs.double()
    mean, std = inputs.mean(0), inputs.std(0, correction=0)

    def rows(split: Split) -> Any:
        return torch.cat([torch.ones(len(split), 1), (split.inputs - mean) / std], 1).double().numpy()

    model = Ridge(alpha=2.0, fit_intercept=False, solver="svd")
    model.fit(rows(table.train), table.target_rows(table.train.targets).numpy())
    predictions = torch.from_numpy(model.predict(rows(table.test)).reshape(-1, 1))
    error = (table.target_space.inverse(predictions) - table.test.targets).square().mean().sqrt()
    assert end.loc["points", "score"] == pytest.approx(float(error), rel=1e-6)


def test_classes_come_in_their_order_and_only_those_that_came_are_told_apart(digits: RealSet) -> None:
    rows = analysed(digits, tasks=3, ridge=10.0)
    first = rows[(rows["task"] == 1) & (rows["memory"] == "all")].iloc[0]
    assert first["examples"] == int((digits.train.targets < 4).sum())  # 4, 3 and 3 of ten classes
    assert first["score"] > 97
    assert first["score"] == first["score_first"]
    last = at_end(rows)
    assert last.loc["last", "score_first"] == 0  # of classes whose targets it never saw, it takes those it saw
    assert last.loc["all", "score"] < first["score"]


def test_values_come_by_the_input_that_goes_most_with_them(table: RealSet) -> None:
    """Here they are that input, of which each task has a fourth, and no value that another task has."""
    train = Split(table.train.inputs.clone(), table.train.inputs[:, 2:3].double())
    stream = linear_stream._stream(dataclasses.replace(table, train=train), linear_stream.Params(tasks=4))
    assert stream.ends == [15, 30, 45, 60]
    column, test = stream.train.inputs[:, 3], stream.test.inputs[:, 3]
    edges = [float(part.min()) for part in torch.split(column, 15)][1:]
    assert torch.equal(torch.cat([part.sort().values for part in torch.split(column, 15)]), column.sort().values)
    assert stream.test_ends == [*(int((test < edge).sum()) for edge in edges), 30]
    for start, stop, low, high in zip(
        [0, *stream.test_ends[:-1]], stream.test_ends, [-9, *edges], [*edges, 9], strict=True
    ):
        assert bool(((test[start:stop] >= low) & (test[start:stop] < high)).all())


def test_an_input_with_too_few_values_is_passed_over_or_refused(table: RealSet) -> None:
    def two_valued(split: Split) -> Split:
        inputs = split.inputs.clone()
        inputs[:, 1] = (split.targets[:, 0] > 50).float()
        return Split(inputs, split.targets)

    real = dataclasses.replace(table, train=two_valued(table.train), test=two_valued(table.test))
    assert len(analysed(real)) == 20
    with pytest.raises(UserError, match="tasks: input 1 of table has values for 5 tasks"):
        analysed(real, column=1)
    assert len(analysed(real, column=1, tasks=2)) == 8
    with pytest.raises(UserError, match="column: 4, and table has 4 inputs"):
        analysed(real, column=4)


def test_more_tasks_than_classes_are_refused(toy: RealSet) -> None:
    with pytest.raises(UserError, match="tasks: 5 tasks of toy, which has 3 classes"):
        analysed(toy)


def test_a_random_memory_could_have_been_kept_as_examples_came() -> None:
    """What is in it after some examples is, later, still in it or gone for good."""
    whole = Examples(torch.ones(50, 1), torch.arange(50.0)[:, None])
    priorities = linear_stream._priorities(50, Run(seed=0), 0)
    kept: set[int] = set()
    came = 0
    for end in (10, 20, 35, 50):
        memory = linear_stream._reservoir(whole[:end], 5, priorities)
        assert float(memory.inputs.square().sum()) == pytest.approx(end)
        now = {round(float(row)) for row in memory.targets[:, 0] / memory.inputs[:, 0]}
        assert len(now) == 5
        assert {each for each in now if each < came} <= kept
        kept, came = now, end
