"""Messages through a chat template, and which characters of the text the model has to write.

A template is a program: it may trim a text, rewrite earlier turns, merge or refuse them. Where an
answer begins and ends is therefore not guessed from the text but asked of the template: it writes
the messages a second time with a mark at both ends of every answer, and the result is believed only
if the text without the marks is the first one, byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jinja2 import TemplateError

Turn = dict[str, str]  # role, content

MARKS = 0xF0000  # first of 65,534 characters for private use, which hardly any text has


class TurnsRefused(ValueError):
    """A chat template cannot write these messages, or not so that the answers are found."""


@dataclass(frozen=True)
class Rendered:
    """A row as text.

    Args:
        text: up to the end of what is learned last.
        spans: (begin, end) of the characters that the model has to write.
        ended: whether the last span closes with an end token of the template's own.
        moved: whether the system turn stands before the first user turn.
        rewritten: whether the template left out or changed a part of a turn.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    ended: bool
    moved: bool = False
    rewritten: bool = False


class ChatTemplate:
    """A tokenizer's chat template, or another in its place."""

    def __init__(self, tokenizer: Any, template: str | None = None) -> None:
        self.tokenizer, self.template = tokenizer, template

    def write(self, messages: Sequence[Turn], ask: bool = False) -> str:
        """The messages as text; `ask` adds what stands before the next answer.

        Raises:
            TurnsRefused: the template refuses them, with its reason.
        """
        try:
            return self.tokenizer.apply_chat_template(
                list(messages),
                chat_template=self.template,
                add_generation_prompt=ask,
                tokenize=False,
            )
        except (TemplateError, TypeError, KeyError, IndexError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise TurnsRefused(f"the chat template refuses the row: {reason}") from None

    @cached_property
    def end(self) -> re.Pattern[str]:
        """What closes an answer: all up to the first of its special tokens that stand together."""
        special = [token for token in self.tokenizer.added_tokens_encoder if token.strip()]
        if not special:
            return re.compile(r"(?!)")
        either = "|".join(map(re.escape, sorted(special, key=len, reverse=True)))
        return re.compile(rf"(?s:.*?)(?:{either})+")


def render_turns(messages: Sequence[Turn], chat: ChatTemplate, to_user: bool = False) -> Rendered:
    """Messages as text up to the last answer's end, and the answers in it.

    Args:
        messages: what stands behind the last answer is left out: nothing of it is learned.
        chat: the template.
        to_user: put a system turn that the template refuses before the first user turn.

    Raises:
        TurnsRefused: the template refuses the messages, or its answers are not found.
        SystemRefused: it refuses the system turn alone, and `to_user` is not set.
    """
    said = [n for n, t in enumerate(messages) if t["role"] == "assistant" and t["content"].strip()]
    messages = list(messages[: said[-1] + 1] if said else messages)
    try:
        text = _whole(messages, chat)
    except TurnsRefused as refused:
        moved = _system_to_user(messages)
        if moved is None:
            raise
        rendered = render_turns(moved, chat)  # or it is not the system turn that is refused
        if not to_user:
            raise SystemRefused(str(refused)) from None
        return Rendered(rendered.text, rendered.spans, rendered.ended, True, rendered.rewritten)
    return _found(text, messages, chat)


class SystemRefused(ValueError):
    """A chat template takes no system turn."""


def _whole(messages: list[Turn], chat: ChatTemplate) -> str:
    """The text of the messages; a system turn that is silently left out counts as refused."""
    text = chat.write(messages)
    first = messages[0] if messages else {"role": "", "content": ""}
    if first["role"] == "system" and first["content"].strip() not in text:
        raise TurnsRefused("the chat template leaves the system turn out")
    return text


def _system_to_user(messages: list[Turn]) -> list[Turn] | None:
    """The messages with the system text before the first user turn's; None without the two."""
    if [turn["role"] for turn in messages[:2]] != ["system", "user"]:
        return None
    text = f"{messages[0]['content']}\n\n{messages[1]['content']}"
    return [{"role": "user", "content": text}, *messages[2:]]


# --------------------------------------------------------------------------------------- answers


def _found(text: str, messages: list[Turn], chat: ChatTemplate) -> Rendered:
    answers = [n for n, turn in enumerate(messages) if turn["role"] == "assistant"]
    places = _places(text, messages, answers, chat)
    begins = _begins(text, messages, answers, places, chat)
    own = _own_end(text[places[-1][1] :], chat)
    spans = []
    for number, begin, (_, stop) in zip(answers, begins, places, strict=True):
        closed = re.compile(rf"\s*{re.escape(own)}").match(text, stop) if own else None
        end = closed.end() if closed else stop
        if messages[number]["content"].strip():
            spans.append((begin, end))
    last = _end_of_text(text, places[-1][1], own)
    ended = bool(own and chat.end.match(own))
    rewritten = any(turn["content"].strip() not in text for turn in messages)
    return Rendered(text[:last], tuple(spans), ended, False, rewritten)


def _end_of_text(text: str, stop: int, own: str) -> int:
    """Where the last answer's end stops; what a template writes behind it is never learned."""
    return text.index(own, stop) + len(own) if own else stop


def _places(
    text: str, messages: list[Turn], answers: list[int], chat: ChatTemplate
) -> list[tuple[int | None, int]]:
    """Where each answer's own text begins and ends in `text`, found by marks around it.

    Raises:
        TurnsRefused: the template makes another text of marked answers.
    """
    base = _free_marks(text, 2 * len(answers))
    marked = list(messages)
    for k, number in enumerate(answers):
        opened, closed = chr(base + 2 * k), chr(base + 2 * k + 1)
        content = messages[number]["content"]
        said = content.strip()  # the marks stand inside of white space, which may be trimmed
        before, behind = content.split(said, 1) if said else (content, "")
        content = f"{before}{opened}{said}{closed}{behind}"
        marked[number] = {**messages[number], "content": content}
    probe = chat.write(marked)
    pattern = re.compile(f"[{chr(base)}-{chr(base + 2 * len(answers) - 1)}]")
    found: dict[str, int] = {}
    for earlier, mark in enumerate(pattern.finditer(probe)):
        found.setdefault(mark.group(), mark.start() - earlier)
    closes = [found.get(chr(base + 2 * k + 1)) for k in range(len(answers))]
    if pattern.sub("", probe) != text or None in closes:
        raise TurnsRefused("the chat template rewrites the answers, so that they are not found")
    return [(found.get(chr(base + 2 * k)), close) for k, close in enumerate(closes)]


def _free_marks(text: str, count: int) -> int:
    """The code of the first of `count` characters in a row that a text has not."""
    taken = max((ord(letter) for letter in text if ord(letter) >= MARKS), default=MARKS - 1)
    if taken + count > 0x10FFFF:
        raise TurnsRefused("the row holds the last of the characters for private use")
    return taken + 1


def _begins(
    text: str,
    messages: list[Turn],
    answers: list[int],
    places: list[tuple[int | None, int]],
    chat: ChatTemplate,
) -> list[int]:
    """Where the model goes on by itself: behind what the template writes to ask for an answer.

    A template that asks with nothing (as Llama 2's, whose [/INST] is the user's), or that writes an
    answer otherwise than it asks for one, has the answer begin where its own text does.
    """
    begins = []
    for number, (opened, closed) in zip(answers, places, strict=True):
        asked = _asked(messages[:number], chat)
        if asked is not None and text.startswith(asked) and len(asked) <= closed:
            begins.append(len(asked))
        elif opened is not None:
            begins.append(opened)
        else:
            begins.append(_header(text, messages[:number], chat))
    return begins


def _header(text: str, before: list[Turn], chat: ChatTemplate) -> int:
    """Where an answer begins whose own beginning the template leaves out, as a thought's.

    Raises:
        TurnsRefused: ahead of such an answer it writes otherwise than ahead of a plain one.
    """
    mark = chr(_free_marks(text, 1))
    header = chat.write([*before, {"role": "assistant", "content": mark}]).partition(mark)[0]
    if not text.startswith(header):
        raise TurnsRefused("the chat template rewrites the beginning of an answer")
    return len(header)


def _asked(before: list[Turn], chat: ChatTemplate) -> str | None:
    """What stands before an answer when it is asked for; None where the template does not ask.

    Nobody asks for an answer that comes first: ShareGPT's talks may begin with the model.
    """
    if not before:
        return None
    try:
        asked = chat.write(before, ask=True)
        return None if asked == chat.write(before) else asked
    except TurnsRefused:
        return None


def _own_end(tail: str, chat: ChatTemplate) -> str:
    """What of the text behind the last answer is its end: its special tokens, or plain words."""
    tail = tail.strip()
    found = chat.end.match(tail)
    return found.group() if found else tail
