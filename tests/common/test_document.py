"""One document as text, Markdown and HTML: the same words, each safe where it is shown."""

import subprocess
import sys

import pandas as pd
import pytest

from slimlib.common.document import Document, Shown, markdown_text, point_lines
from slimlib.common.layout import plain

NASTY = "a|b <b>*x*</b> \x1b[31mred\u202e [go](http://x)"


def table_of(rows, index, name="metric"):
    return pd.DataFrame(rows, index=pd.Index(index, name=name))


@pytest.fixture
def wide():
    """Twelve columns of numbers, which no 80 columns hold side by side."""
    columns = {f"model {i}": [f"{i}0.5 ± 1.2", f"[-{i}.25, +{i}.75]"] for i in range(12)}
    index = pd.MultiIndex.from_tuples([("sums", "acc"), ("facts", "95 %")], names=["", "metric"])
    return pd.DataFrame(columns, index=index)


def test_a_title_alone_is_a_document():
    document = Document("Nothing found")
    assert document.to_text(80) == "Nothing found\n============="
    assert document.to_markdown() == "### Nothing found"
    assert document.to_html() == "<h4>Nothing found</h4>"


@pytest.mark.parametrize("table", [None, pd.DataFrame(), pd.DataFrame(columns=["a"])])
def test_a_table_without_rows_is_left_out(table):
    assert Document("t", table=table).to_text(80) == Document("t").to_text(80)
    assert "|" not in Document("t", table=table).to_markdown()
    assert "table" not in Document("t", table=table).to_html()


def test_the_order_is_title_points_table_notes():
    document = Document(
        "Title", ["Said.", ("And:", ["so"])], table_of({"n": ["1"]}, ["row"]), ["N."]
    )
    assert document.to_text(80) == (
        "Title\n=====\n\nSaid.\nAnd:\n  so\n\nmetric  n\n---------\nrow     1\n\n- N."
    )
    assert document.to_markdown() == (
        "### Title\n\n- Said.\n- And:\n  - so\n\n| metric | n |\n| --- | --- |\n| row | 1 |\n\n- N."
    )
    page = document.to_html()
    assert "<li>And:<ul><li>so</li></ul></li>" in page and document._repr_html_() == page
    places = [page.index(word) for word in ("Title", "Said", "so", "row", "N.")]
    assert places == sorted(places)


@pytest.mark.parametrize("columns", [60, 80, 120, 160])
def test_text_keeps_to_the_terminal(wide, columns):
    long = "word " * 60 + "x" * 150
    document = Document(long, [(long, [long])], wide, [long])
    lines = document.to_text(columns).splitlines()
    assert max(map(len, lines)) <= columns
    text = " ".join(document.to_text(columns).split())
    assert text.count("x" * 20) >= 4
    for cells in wide.to_dict("list").values():
        assert all(cell in text for cell in cells)  # no cell is cut, or broken over two lines


def test_the_width_is_the_terminals(wide, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    assert max(map(len, Document("t", table=wide).to_text().splitlines())) <= 70


def test_a_group_heads_its_rows_in_every_block(wide):
    lines = Document("t", table=wide).to_text(80).splitlines()
    assert lines.count("sums") == lines.count("facts") == sum(x.startswith("metric") for x in lines)
    assert lines.count("sums") > 1 and sum(line.startswith("  acc") for line in lines) > 1
    markdown = Document("t", table=wide).to_markdown()
    assert markdown.count("| sums |") == markdown.count("| facts |") == 1


def test_numbers_stand_to_the_right_and_words_to_the_left():
    table = table_of({"p": ["0.5", "< 0.001"], "verdict": ["kept", "forgot"]}, ["a", "b"])
    *_, first, second = Document("t", table=table).to_text(80).splitlines()
    assert first == "a           0.5  kept" and second == "b       < 0.001  forgot"


def test_sentences_stand_below_their_row_and_shared_ones_once():
    rows = {"printed": ["1", "2", "3"], "why": ["because", "because", "else"]}
    document = Document("t", table=table_of(rows, ["first", "second", "third"]), under="why")
    lines = document.to_text(80).splitlines()
    rows = [line.split() for line in lines[-6:]]
    assert rows == [["first", "1"], ["second", "2"], ["because"], [], ["third", "3"], ["else"]]
    assert lines[-1] == "    else"
    assert "why" not in document.to_text(80) and "| because |" in document.to_markdown()


def test_nothing_reaches_a_terminal_markdown_or_a_page_as_more_than_text():
    table = table_of({NASTY: [NASTY]}, [NASTY], NASTY)
    document = Document(NASTY, [(NASTY, [NASTY])], table, [NASTY])
    for text in (document.to_text(80), document.to_markdown(), document.to_html()):
        assert "\x1b" not in text and "\u202e" not in text
    page, markdown = document.to_html(), document.to_markdown()
    assert "<b>" not in page + markdown and "](" not in markdown
    row = markdown.split("\n\n")[2].splitlines()[-1]
    assert len(row.replace(r"\|", "").strip("|").split("|")) == 2


def test_a_long_cell_is_whole_in_html():
    assert "x" * 300 in Document("t", table=table_of({"a": ["x" * 300]}, ["r"])).to_html()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\t c", "a b c"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\ud800", "\\ud800"),
        ("\u202eabc", "\\u202eabc"),
        ("± Grüße 漢字", "± Grüße 漢字"),
    ],
)
def test_plain(text, shown):
    assert plain(text) == shown
    plain(text).encode("utf-8")


def test_points_as_lines():
    assert point_lines(["one", ("two", ["three"])]) == ["one", "two", "  three"]


def test_what_is_shown_is_its_document():
    class Result(Shown):
        def document(self):
            return Document("Result", ["held"])

    document, result = Result().document(), Result()
    assert result.to_text(80) == document.to_text(80)
    assert result.to_markdown() == document.to_markdown()
    assert result._repr_html_() == document.to_html()


def test_it_loads_no_pandas():
    code = "import sys, slimlib.common.document; print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_what_stands_between_two_dollars_is_no_formula_in_a_notebook():
    page = Document("$5 and $6", ["$7, $8"], table_of({"a": ["$9, $10"]}, ["r"])).to_html()
    assert page.count("<span>$</span>") == page.count("$") == 6


def test_no_formula_begins_in_markdown_either():
    """GitHub and the hub read $...$ and \\(...\\) as formulas; a backslash does not stop them."""
    shown = Document(
        "$5 and $6", ["costs $7, \\(x\\)"], table_of({"a": ["$$9"]}, ["r$"])
    ).to_markdown()
    assert shown.count("<span>$</span>") == shown.count("$") == 6
    assert "<span>&#92;</span>(x&#92;)" in shown
    assert markdown_text("\\[1\\] \\begin{a} \\boxed{2}") == (
        "<span>&#92;</span>[1&#92;] <span>&#92;</span>begin{a} &#92;boxed{2}"
    )


def test_no_formula_begins_at_a_bracket_in_html():
    page = Document("t", ["\\(x\\) and \\[y\\], \\begin{b}, \\boxed{1}"]).to_html()
    assert page.count("<span>\\</span>") == 3 and "\\boxed" in page
