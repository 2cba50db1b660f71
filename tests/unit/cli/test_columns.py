"""Tables that fit any width without losing a word."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshd.cli.columns import MIN_WIDTH, Cell, Row, table, wrapped

TITLES = ("NAME", "STATE", "SENT")
WORDS = st.lists(st.text("abcxyz", min_size=1, max_size=9), min_size=0, max_size=30).map(" ".join)


def lines(rows: list[Row], width: int | None, why_below: bool = False) -> list[str]:
    return [line.plain for line in table(TITLES, rows, width, why_below)]


ROW = Row(
    [Cell("desk-1"), Cell("lost"), Cell("1.20 MB")], Cell("gone since noon"), [Cell("a note")]
)


def test_all_fits() -> None:
    assert lines([ROW], 120) == [
        "NAME    STATE  SENT     WHY",
        "desk-1  lost   1.20 MB  gone since noon",
        "    a note",
    ]


def test_a_sentence_without_room_goes_below() -> None:
    assert lines([ROW], 30) == [
        "NAME    STATE  SENT",
        "desk-1  lost   1.20 MB",
        "    why: gone since noon",
        "    a note",
    ]
    assert lines([ROW], 120, why_below=True) == lines([ROW], 30)


def test_the_least_important_columns_go_below_with_their_titles() -> None:
    assert lines([ROW], 16) == [
        "NAME    STATE",
        "desk-1  lost",
        "    sent 1.20 MB",
        "    why: gone",
        "      since noon",
        "    a note",
    ]


def test_a_long_sentence_wraps_within_its_column() -> None:
    row = Row([Cell("a"), Cell("b"), Cell("c")], Cell("word " * 20))
    head, first, *rest = lines([row], 70)
    assert head == "NAME  STATE  SENT  WHY"
    start = head.index("WHY")
    assert first.startswith("a     b      c     word")
    assert rest and all(line.startswith(" " * start + "word") for line in rest)


@given(
    st.lists(st.tuples(WORDS, WORDS, WORDS, WORDS, WORDS), min_size=1, max_size=4),
    st.one_of(st.none(), st.integers(MIN_WIDTH, 200)),
)
def test_no_word_is_lost_at_any_width(
    values: list[tuple[str, str, str, str, str]], width: int | None
) -> None:
    rows = [Row([Cell(v) for v in value[:3]], Cell(value[3]), [Cell(value[4])]) for value in values]
    shown = " ".join(lines(rows, width)).split()
    for value in values:
        for word in " ".join(value).split():
            assert word in shown


@given(WORDS, st.integers(MIN_WIDTH, 100), st.integers(0, 6))
def test_wrapped_lines_fit(text: str, width: int, indent: int) -> None:
    parts = [line.plain for line in wrapped(Cell(text), width, indent)]
    assert " ".join(parts).split() == text.split()
    assert all(len(part) <= width or len(part.split()) == 1 for part in parts)
