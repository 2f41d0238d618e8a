"""Groups of a part of the training split, and draws from groups."""

import pytest
import torch

from stillhouse.errors import UserError
from stillhouse.methods import groups
from stillhouse.sets import RealSet


def test_groups_within_a_part_have_its_examples_alone(toy: RealSet, table: RealSet) -> None:
    within = torch.arange(10, 25)
    found = groups.groups(toy, 5, within)
    assert [each.tolist() for each in found] == [[i for i in range(10, 25) if i % 3 == label] for label in range(3)]
    assert [each.tolist() for each in groups.groups(table, 1, within)] == [list(range(10, 25))]
    with pytest.raises(UserError, match=r"per_class 6 asks for more examples than class 'ant' has \(5\)"):
        groups.groups(toy, 6, within)


def test_a_draw_takes_every_group_in_turn_and_none_twice() -> None:
    of = [torch.arange(0, 10), torch.arange(10, 20)]
    drawn = groups.draw(of, 10, torch.Generator().manual_seed(0)).tolist()
    assert [each // 10 for each in drawn] == [0, 1] * 10
    assert sorted(drawn) == list(range(20))
    assert groups.draw(of, 3, torch.Generator().manual_seed(0)).tolist() == drawn[:6]
    assert groups.draw(of, 3, torch.Generator().manual_seed(1)).tolist() != drawn[:6]
