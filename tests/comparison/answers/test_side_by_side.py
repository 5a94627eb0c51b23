"""Flips on a page: what is marked, searched and shown; nothing of the data is markup."""

import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_outcome import gsm8k, results

from slimlib.comparison.answers.flips import FLIP_COLUMNS, GAINED, LOST, flips
from slimlib.comparison.answers.side_by_side import (
    CELL,
    MARK,
    differences,
    marked,
    show_flips,
)

ORANGE, BLUE = (f"<mark style='{MARK.format(c)}'>" for c in ("#F8D9C4", "#C9E3F5"))


def frame_of(*rows):
    return pd.DataFrame(rows, columns=list(FLIP_COLUMNS))


def flip(doc_id, change=LOST, question="q", gold="#### 2", base="#### 2", tuned="no"):
    return doc_id, change, question, gold, base, tuned


class Texts(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = set(), ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.text += data


# -------------------------------------------------------------------------------------- the page


def test_the_page_in_full():
    base, tuned = (results(gsm8k(t, [2] * 3)) for t in (["#### 2", "no", "#### 2"], ["no"] * 3))
    frame = flips(base, tuned, "gsm8k")

    def row(tag, *cells):
        return "<tr>" + "".join(f"<{tag} style='{CELL}'>{c}</{tag}>" for c in cells) + "</tr>"

    start = "<table style='table-layout:fixed;width:100%'>" + row(
        "th", "right answer", "before", "after"
    )
    heading = "right -&gt; wrong: 2 documents, 1 to 1"
    cells = row("td", "#### 2", f"{ORANGE}#### 2</mark>", f"{BLUE}no</mark>")
    assert show_flips(frame, k=1).data == (
        f"{start}<tr><th colspan='3' style='text-align:left'>{heading}</th></tr>"
        f"<tr><td colspan='3' style='{CELL}'><small>document 0</small> q0</td></tr>"
        f"{cells}</table>"
    )
    assert show_flips(frame[:0]).data == f"{start}</table><p>No flips.</p>"


def test_five_of_each_direction_are_shown_by_default_the_others_on_later_pages():
    frame = frame_of(*(flip(i) for i in range(7)), *(flip(i, GAINED) for i in range(7, 19)))
    page = show_flips(frame).data
    assert re.findall(r"document (\d+)<", page) == [*"01234", "7", "8", "9", "10", "11"]
    assert page.index("right -&gt; wrong: 7 documents, 1 to 5") < page.index("12 documents, 1 to 5")
    assert re.findall(r"document (\d+)<", show_flips(frame, page=2).data) == [
        *"56", "12", "13", "14", "15", "16",
    ]  # fmt: skip
    beyond = show_flips(frame, page=9).data  # each direction's last page
    assert re.findall(r"document (\d+)<", beyond) == ["5", "6", "17", "18"]


def test_one_direction_alone():
    frame = frame_of(flip(0), flip(1, GAINED))
    assert re.findall(r"document (\d)<", show_flips(frame, change=GAINED).data) == ["1"]
    assert re.findall(r"document (\d)<", show_flips(frame, change=LOST).data) == ["0"]
    with pytest.raises(ValueError, match="^change 'lost': must be both, right -> wrong, wrong"):
        show_flips(frame, change="lost")


@pytest.mark.parametrize(
    ("text", "found"),
    [("APPLES", "0"), ("nine", "1"), ("(7", "2"), (".", "2"), ("", "012"), ("plum", "")],
)
def test_a_text_is_searched_letter_by_letter_in_question_and_answers(text, found):
    frame = frame_of(
        flip(0, question="Two apples"),
        flip(1, tuned="Nine"),
        flip(2, gold="(7.", base="x", tuned="y"),
    )
    page = show_flips(frame, text=text).data
    assert re.findall(r"document (\d)<", page) == [*found]
    assert ("No document that holds plum went either way." in page) == (text == "plum")


# ---------------------------------------------------------------------------------- what differs


@pytest.mark.parametrize(
    ("before", "after", "first", "second"),
    [
        ("so 12 pears", "so 15 pears", f"so {ORANGE}12</mark> pears", f"so {BLUE}15</mark> pears"),
        ("a b", "a b", "a b", "a b"),
        ("", "yes", "", f"{BLUE}yes</mark>"),
        ("1,319.5", "1,319", f"{ORANGE}1,319.5</mark>", f"{BLUE}1,319</mark>"),
        ("a  b", "a b", "a  b", "a b"),  # spaces alone are nothing to look at
    ],
)  # fmt: skip
def test_what_only_one_says_is_marked(before, after, first, second):
    assert marked(before, after) == (first, second)


@given(st.text(max_size=60), st.text(max_size=60))
def test_the_parts_are_the_texts(before, after):
    parts = list(differences(before, after))
    assert "".join(part for _, part, _ in parts) == before
    assert "".join(part for _, _, part in parts) == after
    assert all(one == other for same, one, other in parts if same)


def test_very_long_texts_are_compared_from_both_ends_only():
    before = f"so {'a ' * 300}both {'a ' * 300}pears"
    after = f"so {'b ' * 75}both {'b ' * 75}pears"
    assert list(differences(before, after)) == [
        (True, "so ", "so "),
        (False, before[3:-6], after[3:-6]),  # "both" too
        (True, " pears", " pears"),
    ]


def test_what_is_said_many_times_is_still_found_in_both():
    often = f" {'a b ' * 60}"
    assert list(differences(f"x{often}y", f"z{often}w")) == [
        (True, "", ""),
        (False, "x", "z"),
        (True, often, often),
        (False, "y", "w"),
        (True, "", ""),
    ]


def test_very_long_answers_that_repeat_themselves_take_no_time():
    import time

    begun = time.process_time()
    for before, after in (("a b " * 20_000, "b a " * 20_000), ("a b " * 230, "b b a " * 160)):
        marked(before, after)
    assert time.process_time() - begun < 2


# ---------------------------------------------------------------------------------- what is escaped


HOSTILE = "<script>alert(1)</script> <img src=x onerror=alert(1)> $x$ \\(y\\) \u202egnorw &amp;'\""


def test_nothing_of_the_data_is_markup():
    frame = frame_of(flip(HOSTILE, LOST, HOSTILE, HOSTILE, HOSTILE, f"no {HOSTILE}"))
    for text in ("", "<script>"):
        read = Texts(show_flips(frame, text=text).data)
        assert read.tags <= {"table", "tr", "th", "td", "small", "mark", "span"}
        assert read.text.count(HOSTILE.replace("\u202e", "\\u202e")) == 5
    assert "<script>" not in show_flips(frame, text="<script>none").data


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_text_whatever_leaves_its_cell(before, after):
    read = Texts(show_flips(frame_of(flip(0, base=before, tuned=after))).data)
    assert read.tags <= {"table", "tr", "th", "td", "small", "mark", "span"}


def test_prices_and_backslashes_are_no_formulas():
    base, tuned = (results(gsm8k([text], [2])) for text in ("$1 + $1 #### 2", r"\(3\) $3"))
    page = show_flips(flips(base, tuned, "gsm8k")).data
    assert page.count("<span>$</span>") == page.count("$") == 3
    assert page.count("<span>\\</span>") == 1 and page.count("\\") == 2  # the opening one
