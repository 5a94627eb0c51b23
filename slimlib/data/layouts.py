"""Rows of the layouts that people use, brought to three.

instruction (input) and output, prompt and completion or response, question and answer
                        -> {"instruction", "input", "output"}
messages, ShareGPT's conversations, rows with a system or a history column
                        -> {"messages": [{"role", "content"}, ...]}
text alone              -> {"text"}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any

from slimlib.common.files import parse_json

# Column names, small letters, the first that a row has; what no layout reads is named as unused.
TURNS = ("messages", "conversations", "conversation")
QUESTIONS = ("instruction", "prompt", "question", "query")
CONTEXTS = ("input", "context")
ANSWERS = ("output", "response", "completion", "answer")
SYSTEMS = ("system", "system_prompt")
MEDIA = ("images", "image", "videos", "video", "audios", "audio")
ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatgpt"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
TOOL_ROLES = ("tool", "function", "function_call", "observation", "ipython")
TOOL_KEYS = ("tool_calls", "function_call", "tool_call_id")
TURN_KEYS = ("role", "from", "content", "value")


class Row(dict):
    """A row that knows where it stood.

    Args:
        columns: of one of the three layouts.
        where: file or data set.
        number: of the row there, from 1.
        unused: columns that were not read.
    """

    def __init__(
        self, columns: Mapping[str, Any], where: str, number: int, unused: Sequence[str] = ()
    ) -> None:
        super().__init__(columns)
        self.where, self.number, self.unused = where, number, tuple(unused)


def as_row(row: Any, where: str, number: int) -> Row:
    """Bring a row of any known layout to one of the three.

    Args:
        row: columns; names in any case, numbers become text as they are written.
        where: file or data set, for messages.
        number: of the row there, from 1.

    Raises:
        ValueError: no known layout, tool calls or images; names the file and the row.
    """
    place = f"{where} row {number}"
    if not isinstance(row, Mapping):
        raise ValueError(f"{place} is not an object with columns")
    columns = _Columns(row, place)
    if columns.has(TURNS):
        found = {"messages": _conversation(columns)}
    elif columns.has(QUESTIONS) or columns.has(ANSWERS) or not columns.has(("text",)):
        found = _question(columns)
    else:
        found = {"text": columns.text(("text",))}
    return Row(found, where, number, columns.unused)


class _Columns:
    """The columns of a row that hold something, and which of them were read."""

    def __init__(self, row: Mapping[str, Any], place: str) -> None:
        self.names = {str(name).strip().lower(): str(name) for name in row}
        values = {str(name).strip().lower(): value for name, value in row.items()}
        self.values = {name: value for name, value in values.items() if not _missing(value)}
        self.place, self.used, self.more = place, set(), []

    def has(self, names: Sequence[str]) -> bool:
        return any(name in self.values for name in names)

    def take(self, names: Sequence[str]) -> Any:
        """The value of the first of these columns that holds one; None for none."""
        name = next((name for name in names if name in self.values), None)
        self.used.add(name)
        return self.values.get(name)

    def text(self, names: Sequence[str]) -> str:
        """The text of the first of these columns; "" where it is empty or not there."""
        column = next((name for name in names if name in self.values), names[0])
        return text_of(self.take(names), f"{self.place}: {column}")

    @property
    def unused(self) -> tuple[str, ...]:
        """The columns that hold something and were not read, as the row names them."""
        left = [self.names[n] or "(no name)" for n in self.values if n not in self.used]
        return (*left, *dict.fromkeys(self.more))


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)  # NaN, in a table


def text_of(value: Any, place: str) -> str:
    """A value as text as it is written: 7 is "7", True is "true", none is "".

    Raises:
        ValueError: a list or an object.
    """
    if _missing(value):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Number):
        return str(value)
    raise ValueError(f"{place} is no text but a {type(value).__name__}")


# ------------------------------------------------------------------- one question and one answer


def _question(columns: _Columns) -> dict[str, Any]:
    """A question and its answer; turns where a system text or a history stands beside them."""
    questions = QUESTIONS
    if not columns.has(QUESTIONS) and columns.has(ANSWERS):
        questions = ("input",)
    for names, column in ((questions, "instruction"), (ANSWERS, "output")):
        known = columns.has(names) or (column == "output" and {*names} & {*columns.names})
        if not known:
            raise ValueError(
                f"{columns.place} has no text column {column!r}; it has "
                f"{sorted(columns.names.values())}. Rows need instruction (input may be empty) and "
                "output, prompt and completion or response, question and answer, messages, "
                "conversations, or text"
            )
    asked, answered = columns.take(questions), columns.take(ANSWERS)
    context = columns.text(CONTEXTS) if questions == QUESTIONS else ""
    before = _before(columns)
    if not before and not _is_turns(asked) and not _is_turns(answered):
        question = text_of(asked, f"{columns.place}: {questions[0]}")
        answer = text_of(answered, f"{columns.place}: the answer")
        return {"instruction": question, "input": context, "output": answer}
    question = _as_turns(asked, "user", columns)
    if context:
        question[-1]["content"] = f"{question[-1]['content']}\n\n{context}"
    return {"messages": [*before, *question, *_as_turns(answered, "assistant", columns)]}


def _before(columns: _Columns) -> list[dict[str, str]]:
    """The turns that a system and a history column stand for."""
    system = columns.text(SYSTEMS)
    turns = [{"role": "system", "content": system}] if system.strip() else []
    history = _listed(columns.take(("history",)))
    if not history:
        return turns
    if _is_turns(history):
        return [*turns, *_turns(history, columns)]
    for pair in history if isinstance(history, list | tuple) else [None]:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError(f"{columns.place}: history must be a list of question and answer")
        for role, text in zip(("user", "assistant"), pair, strict=True):
            turns.append({"role": role, "content": text_of(text, f"{columns.place}: history")})
    return turns


def _is_turns(value: Any) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(one, Mapping) for one in value)


def _as_turns(value: Any, role: str, columns: _Columns) -> list[dict[str, str]]:
    """A text as one turn of a role; TRL's lists of messages as they are."""
    if _is_turns(value):
        return _turns(value, columns)
    return [{"role": role, "content": text_of(value, f"{columns.place}: the {role}'s text")}]


# ----------------------------------------------------------------------------------------- turns


def _conversation(columns: _Columns) -> list[dict[str, str]]:
    for name in MEDIA:
        if columns.values.get(name):
            raise ValueError(f"{columns.place} has {name}, and only text is trained on")
    column = next(name for name in TURNS if name in columns.values)
    turns = _turns(_listed(columns.take(TURNS)), columns, column)
    system = columns.text(SYSTEMS)
    if system.strip() and turns[0]["role"] != "system":
        turns.insert(0, {"role": "system", "content": system})
    elif system.strip() and turns[0]["content"].strip() != system.strip():
        raise ValueError(f"{columns.place} has a system column and another system turn")
    return turns


def _listed(value: Any) -> Any:
    """A list; a table of texts holds it as JSON."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return parse_json(value)
        except json.JSONDecodeError:
            return value
    return value


def _turns(value: Any, columns: _Columns, column: str = "messages") -> list[dict[str, str]]:
    """Turns with role and content, from objects with these or with ShareGPT's from and value."""
    fit = isinstance(value, list | tuple) and len(value) > 0
    if not fit or not all(isinstance(turn, Mapping) for turn in value):
        raise ValueError(
            f"{columns.place}: {column} must be a list of objects with role and content "
            "(or from and value)" + (", as JSON in a table" if isinstance(value, str) else "")
        )
    turns = []
    for number, turn in enumerate(value, 1):
        turns.append(_turn(turn, f"{columns.place}: {column} must be", number))
        columns.more += [
            f"{column}.{key}" for key in turn if key not in TURN_KEYS and not _missing(turn[key])
        ]
    return turns


def _turn(turn: Mapping[str, Any], refused: str, number: int) -> dict[str, str]:
    given = turn.get("role") or turn.get("from")
    content = turn.get("content") if turn.get("content") is not None else turn.get("value")
    role = str(given).strip().lower()
    if role in TOOL_ROLES or any(turn.get(key) for key in TOOL_KEYS):
        raise ValueError(
            f"{refused} text: turn {number} is of a tool. Leave such rows out, or write the calls "
            "as text"
        )
    if role not in ROLES:
        known = ", ".join(dict.fromkeys(ROLES.values()))
        raise ValueError(f"{refused} turns of {known}: turn {number} is of {given!r}")
    if _missing(content):
        raise ValueError(f"{refused} turns with content, which turn {number} has not")
    return {"role": ROLES[role], "content": _content(content, refused, number)}


def _content(content: Any, refused: str, number: int) -> str:
    """The text of a turn; parts of text are joined."""
    if not isinstance(content, list | tuple):
        return text_of(content, f"{refused} text: turn {number}")
    for part in content:
        if not isinstance(part, str) and not (isinstance(part, Mapping) and _is_text(part)):
            kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
            raise ValueError(f"{refused} text: turn {number} has a part of type {kind!r}")
    return "".join(part if isinstance(part, str) else part["text"] for part in content)


def _is_text(part: Mapping[str, Any]) -> bool:
    return part.get("type", "text") == "text" and isinstance(part.get("text"), str)
