"""A comparison to hand on: one HTML page with its picture, JUnit XML for a CI, JSON or Markdown."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from slimlib.common.document import Document
from slimlib.common.files import json_text, write_text
from slimlib.common.layout import plain
from slimlib.common.style import alt_text
from slimlib.comparison.change import LOSSES, NO_VERDICT, Change
from slimlib.comparison.two_models import Comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORGOT, BROKEN, ANY = "forgot", "broken", "any"
FAIL_ON = {FORGOT: LOSSES, BROKEN: NO_VERDICT, ANY: (*LOSSES, *NO_VERDICT)}
STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
    "h1{font-size:1.4em}svg{max-width:100%;height:auto}"
    "div.wide{overflow-x:auto}table{border-collapse:collapse}"
    "td,th{padding:.2em .6em;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}"
)


def failures(comparison: Comparison, fail_on: str) -> list[Change]:
    """The tasks that a CI should stop at.

    Args:
        comparison: whose headlines are looked at.
        fail_on: "forgot" (a real loss), "broken" (no verdict could be given) or "any" of both.

    Raises:
        ValueError: none of them.
    """
    if fail_on not in FAIL_ON:
        raise ValueError(f"--fail-on {fail_on}: must be {', '.join(FAIL_ON)}")
    return [change for change in comparison.headlines if change.verdict in FAIL_ON[fail_on]]


def write_report(comparison: Comparison, path: Path) -> Path:
    """Write a comparison into one file, in the format that its name ends with.

    Raises:
        ValueError: another ending than .html, .xml (JUnit), .json and .md.
    """
    check_report(path)
    return write_text(path, FORMATS[path.suffix](comparison))


def check_report(path: Path) -> None:
    """Refuse a file that `write_report` could not write, before any work.

    Raises:
        ValueError: another ending, or a folder that does not exist.
    """
    if path.suffix not in FORMATS:
        raise ValueError(f"{path}: the name must end with {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: the folder {path.parent} does not exist")


def html_page(comparison: Comparison) -> str:
    """A comparison as one page that needs nothing else: see `page`."""
    figure = comparison.plot().figure if comparison.changes else None
    return page(comparison.document(), figure)


def page(document: Document, figure: Figure | None) -> str:
    """One HTML page that needs nothing else: the answer, the picture, the evidence.

    Args:
        document: its first point is the answer.
        figure: is closed.
    """
    title, (answer, *rest) = html.escape(plain(document.title)), document.points
    body = replace(document, points=rest).to_html().replace("<table", '<div class="wide"><table')
    body = body.partition("</h4>")[2].replace("</table>", "</table></div>")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n"
        f"<p><strong>{html.escape(plain(answer))}</strong></p>\n"
        f"{_svg(figure) if figure else ''}\n{body}\n</body></html>\n"
    )


def _svg(figure: Figure) -> str:
    """A figure as SVG inside a page."""
    from matplotlib import pyplot

    buffer = io.StringIO()
    about = {"Date": None, "Creator": None, "Title": alt_text(figure)}
    figure.savefig(buffer, format="svg", metadata=about)
    pyplot.close(figure)
    _, tag, picture = buffer.getvalue().partition("<svg")
    return re.sub("<metadata>.*?</metadata>", "", tag + picture, flags=re.S)


def junit(comparison: Comparison) -> str:
    """JUnit XML: a test case per task; a real loss fails, what carries no verdict is an error."""
    changes = comparison.headlines
    counts = {
        "tests": str(len(changes)),
        "failures": str(len(failures(comparison, FORGOT))),
        "errors": str(len(failures(comparison, BROKEN))),
    }
    suite = ElementTree.Element("testsuite", name=plain(comparison.title), **counts)
    for change in changes:
        case = ElementTree.SubElement(
            suite, "testcase", classname="slimlib.compare", name=plain(change.title)
        )
        kind = "failure" if change.verdict in LOSSES else "error"
        said = plain(comparison.sentence(change))
        if change.verdict in FAIL_ON[ANY]:
            ElementTree.SubElement(case, kind, message=plain(change.verdict)).text = said
        else:
            ElementTree.SubElement(case, "system-out").text = said
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _json(comparison: Comparison) -> str:
    return json_text(comparison.to_dict()) + "\n"


FORMATS: dict[str, Callable[[Comparison], str]] = {
    ".html": html_page,
    ".xml": junit,
    ".json": _json,
    ".md": Comparison.to_markdown,
}
