"""Which documents of a task belong together: questions on one passage are not independent.

A passage that a model misreads costs it every question on it, so that a test which takes each
document for one more coin toss finds effects that are not there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from slimlib.common.files import short_hash

# Task of lm-eval -> the field of its documents that names what several of them share. The first
# pattern that a task's name begins with counts; a field inside a field is behind a dot.
FIELDS = {
    r"(super_?glue[-_])?multirc": "idx.paragraph",
    r"(super_?glue[-_])?record": "passage",
    r"(super_?glue[-_])?boolq": "passage",
    r"race": "article",
    r"mutual": "article",
    r"drop": "passage",
    r"coqa|coqcat": "story",
    r"babi": "passage",
    r"(\w+_)?belebele": "link",
    r"squad_completion": "title",
    r"(\w+_)?(squad|squadv2|xquad|mlqa|jsquad|catalanqa|esquad|korquad|germanquad)": "context",
    r"(\w+_)?(mnli|xnli|anli|snli|americasnli|indicnli|teca)": "premise",
    r"logiqa2": "text",
    r"logiqa|eus_reading|reclor|cosmosqa": "context",
    r"qa4mre": "document_str",
    r"qasper": "abstract",
    r"(glue[-_])?rte": "sentence1",
    r"(glue[-_])?qnli": "sentence",
    r"scrolls": "text",
    r"longbench": "context",
    r"digits": "equation",  # asked after several sets of shots
}
_PATTERNS = [(re.compile(rf"({pattern})(?![a-z])"), field) for pattern, field in FIELDS.items()]


def cluster_field(task: str) -> str:
    """Name the field of a task's documents that several of them share; "": none is known."""
    return next((field for pattern, field in _PATTERNS if pattern.match(task)), "")


def cluster_of(document: Any, field: str) -> str | None:
    """A short name of what a document shares with others; None: it does not say."""
    for key in field.split("."):
        document = document.get(key) if isinstance(document, Mapping) else None
    if document is None or document == "":
        return None
    text = str(document)
    if len(text) <= 40:
        return text
    return short_hash(text)


def shared(clusters: Sequence[str | None]) -> tuple[str, ...]:
    """The clusters of documents; empty where no two share one, or one is not known."""
    if None in clusters or max(Counter(clusters).values(), default=1) == 1:
        return ()
    return tuple(clusters)
