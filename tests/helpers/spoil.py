"""Spoils files: JSON with something in it that does not belong there, bytes cut and bent."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**70, 1e308, -0.5, float("nan"), float("inf")),
    *("", " ", "x" * 300, "nan", "1e999", "[1", "a/b", "../../x", "/etc/passwd", "{{7*7}}"),
    *("\x00", "\x1b[31m", "\ud800", "\u202e", "<b>", "$\\frac{$", "hf_" + "a" * 34),
    *([], {}, [[]], [None], {"a": None}, {"": 1}, [1, "a"]),
)
PIECES = (
    *(b"\x00", b'"', b"{", b",", b"\n", b"\r\n", b"\xff\xfe", b"\xe2\x80\xa8"),
    *(b"[" * 3000, b"9" * 6000),
)


def spoil_json(text: str, draw: random.Random) -> str:
    """One to three nodes of a JSON value replaced, removed, renamed, repeated or nested."""
    value = json.loads(text)
    for _ in range(draw.choice((1, 1, 2, 3))):
        value = _spoiled(value, draw)
    return json.dumps(value)


def _spoiled(value: Any, draw: random.Random) -> Any:
    """A copy with another node somewhere; the deeper the node, the likelier."""
    if not isinstance(value, dict | list) or not value or draw.random() < 0.15:
        return copy.deepcopy(draw.choice(ODD))
    changed = copy.copy(value)
    place = draw.choice([*value]) if isinstance(value, dict) else draw.randrange(len(value))
    kind = draw.random()
    if kind < 0.1:
        del changed[place]
    elif kind < 0.15:
        changed[place] = [value[place]]
    elif kind < 0.2 and isinstance(value, dict):
        changed[str(draw.choice(ODD))] = changed.pop(place)
    elif kind < 0.25 and isinstance(value, list):
        changed.append(value[place])
    else:
        changed[place] = _spoiled(value[place], draw)
    return changed


def spoil_bytes(content: bytes, draw: random.Random) -> bytes:
    """Bytes that were cut off, lost, doubled, overwritten or put in between."""
    if not content:
        return draw.randbytes(draw.randrange(20))
    start = draw.randrange(len(content))
    end = min(len(content), start + draw.choice((1, 2, 8, 64)))
    return draw.choice(
        (
            content[:start],
            content[:start] + content[end:],
            content[:end] + content[start:],
            content[:start] + draw.randbytes(end - start) + content[end:],
            content[:start] + draw.choice(PIECES) + content[start:],
            b"\xef\xbb\xbf" + content,
            content.decode("utf-8", "replace").encode("utf-16"),
        )
    )


PIECES = (
    b"\x00",
    b'"',
    b"{",
    b"[" * 3000,
    b"9" * 6000,
    b"\n",
    b"\r\n",
    b"\xff\xfe",
    b"\xe2\x80\xa8",
    b",",
)
