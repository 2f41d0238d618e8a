from pathlib import Path

import pytest

from stillhouse.data import table
from stillhouse.errors import UserError

Text = str | bytes


def opened(folder: Path, text: Text, separator: str | None = None) -> table.Table:
    path = folder / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return table.opened(path, separator)


def numbers(folder: Path, text: Text) -> list[list[float]]:
    """All columns as numbers."""
    found = opened(folder, text)
    rows: list[list[float]] = table.content(found, found.names).numbers.tolist()
    return rows


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,2\n3,4.5\n",
        "a;b\n1;2\n3;4.5\n",
        "a\tb\n1\t2\n3\t4.5\n",
        "a,b\r\n1,2\r\n3,4.5",
        "a,b\r1,2\r3,4.5\r",
        b"\xef\xbb\xbfa,b\n1,2\n3,4.5\n",
        '"a","b"\n"1","2"\n"3","4.5"\n',
        "\n a , b \n\n 1 , 2 \n   \n 3, 4.5e0\n\n",
    ],
    ids=["comma", "semicolon", "tab", "CRLF", "CR", "byte order mark", "quoted", "blanks"],
)
def test_the_same_table_is_read_however_it_is_written(tmp_path: Path, text: Text) -> None:
    assert opened(tmp_path, text).names == ("a", "b")
    assert numbers(tmp_path, text) == [[1, 2], [3, 4.5]]


def test_a_quoted_field_may_hold_the_separator_quotes_and_lines(tmp_path: Path) -> None:
    found = opened(tmp_path, 'x,"what, ""how"""\n1,"one\ntwo, three"\n2,four\n')
    assert found.names == ("x", 'what, "how"')
    content = table.content(found, ["x"], 'what, "how"')
    assert content.texts == ["one\ntwo, three", "four"]
    assert list(content.lines) == [2, 4]


def test_the_separator_is_the_one_that_makes_most_columns_and_can_be_set(tmp_path: Path) -> None:
    assert opened(tmp_path, "size, in m;price;age\n1;2;3\n").names == ("size, in m", "price", "age")
    assert opened(tmp_path, "a|b,c\n1|2\n", "|").names == ("a", "b,c")


def test_columns_come_in_the_order_asked_for(tmp_path: Path) -> None:
    found = opened(tmp_path, "a,b,c\n1,2,3\n4,5,6\n")
    assert table.content(found, ["c", "a"]).numbers.tolist() == [[3, 1], [6, 4]]


def test_a_key_belongs_to_what_a_whole_row_holds(tmp_path: Path) -> None:
    one, two, three, four = table.content(opened(tmp_path, "a,b\n1,2\n1,3\n1,2\n12,\n"), ["a"]).keys
    assert one == three
    assert len({one, two, four}) == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "t.csv: empty. Write a header line"),
        ("\n \n", "t.csv: empty. Write a header line"),
        ("1,2\n3,4\n", "t.csv: line 1: numbers where the names of the columns should be. Add a header line"),
        ("a,b,a\n1,2,3\n", "t.csv: line 1: two columns are called 'a'. Rename one"),
        (",a,b\n0,1,2\n", "t.csv: line 1: column 1 of 3 has no name. Name it, or remove"),
        ("a|b\n1|2\n", r"t.csv: line 1: one column, 'a\|b'. Set 'separator'"),
        (b"a,b\n1,2\n1,\xe9\n", "t.csv: line 3: not UTF-8 text. Save it as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "t.csv: line 1: not UTF-8 text"),
    ],
)
def test_a_wrong_header_is_named(tmp_path: Path, text: Text, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        opened(tmp_path, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("", "t.csv: no rows below the header"),
        ("1,2\n\n1,2,3\n", "t.csv: line 4: 3 fields, the header has 2. Mend the line"),
        ("1,2\n3\n", "t.csv: line 3: 1 fields, the header has 2"),
        ("1,Paris\n", "t.csv: line 2, column 'b': 'Paris' is not a number. Encode it as one, or leave the column out"),
        ('1,"3,5"\n', "t.csv: line 2, column 'b': '3,5' is not a number. Write a point for the decimal comma"),
        ("1,1_000\n", "t.csv: line 2, column 'b': '1_000' is not a number"),
        ("1,2\n-inf,2\n", "t.csv: line 3, column 'a': '-inf' is infinite. Mend the value"),
        ("1,1e999\n", "t.csv: line 2, column 'b': '1e999' is infinite"),
        ("1,2\n1,\nNA,?\n", "t.csv: 3 missing values, the first in line 3, column 'b'. Fill them"),
        ("1,NaN\n", "t.csv: 1 missing values, the first in line 2, column 'b'"),
        ('1,"2\n', "t.csv: line 2: unexpected end of data. Mend the double quotes"),
        ('1,"2"3\n', "t.csv: line 2: .* expected after .* Mend the double quotes"),
    ],
)
def test_a_wrong_row_is_named_by_its_line_and_column(tmp_path: Path, rows: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        numbers(tmp_path, "a,b\n" + rows)
    assert "\n" not in str(caught.value)


def test_a_line_is_counted_as_an_editor_counts_it(tmp_path: Path) -> None:
    found = opened(tmp_path, 'a,b\n"one\n\ntwo",1\n\nthree,x\n')
    with pytest.raises(UserError, match="line 6, column 'b': 'x' is not a number"):
        table.content(found, ["b"], "a")


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="t.csv: line 3, column 'b': no class. Name it"):
        table.content(opened(tmp_path, "a,b\n1,x\n2, \n"), ["a"], "b")


def test_a_column_that_is_needed_is_not_to_be_left_out(tmp_path: Path) -> None:
    for rows, says in (("1,x\n", "'x' is not a number. Encode it as one, or set 'task'"), ("1,\n", "their rows.$")):
        with pytest.raises(UserError, match=says):
            table.content(opened(tmp_path, "a,b\n" + rows), ["a", "b"], needed=["b"])


def test_columns_that_are_not_asked_for_may_hold_anything(tmp_path: Path) -> None:
    assert table.content(opened(tmp_path, "a,b\n1,\n2,Paris\n"), ["a"]).numbers.tolist() == [[1], [2]]


def test_a_missing_column_is_answered_with_the_nearest(tmp_path: Path) -> None:
    found = opened(tmp_path, "price,age\n1,2\n")
    assert found.column("age", "target") == 1
    with pytest.raises(UserError, match="t.csv: target: no column 'prise'. Did you mean 'price'?"):
        found.column("prise", "target")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none.csv: no such file. Set 'path'"):
        table.opened(tmp_path / "none.csv")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        table.opened(tmp_path)


@pytest.mark.parametrize(("examples", "fraction", "count"), [(10, 0.3, 3), (3, 0.001, 1), (3, 0.999, 2), (2, 0.5, 1)])
def test_both_sides_of_a_split_get_an_example(examples: int, fraction: float, count: int) -> None:
    assert table.held_out(examples, fraction) == count
