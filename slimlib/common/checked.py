"""Dataclasses that check their values, and say in one line what was wrong.

`checked` makes a frozen pydantic dataclass: strict (True is no 1, "8" is no 8), without unknown
fields and without NaN or infinity. The limits stand beside each field, and every message is made
from there: `adapter.r=0 (arm llama-2k): must be a whole number, 1 to 8,192`.
"""

from __future__ import annotations

import collections.abc
import difflib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, is_dataclass
from functools import wraps
from types import UnionType
from typing import Annotated, Any, Literal, Union, dataclass_transform, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic import dataclasses as pydantic_dataclasses
from pydantic.fields import Field, FieldInfo

from slimlib.common.names import TOKEN

# A token, or what only begins like one (stars hide a name at worst, where a refusal would forbid
# it); a password in an address, also in one that was taken for a path; an address's query.
SECRET = re.compile(
    rf"{TOKEN.pattern}|(?<![A-Za-z0-9])(?:hf_|sk-|gh[oprsu]_|github_pat_)\w{{8,}}"
    r"|(?<=://)[^/@\s]+(?=@)|(?<=:/)[^/@\s]+(?=@)|(?<=\?)[^\s'\"?]*=[^\s'\"?]*"
)
MISSING = object()  # no value was given
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class ConfigError(ValueError):
    """A value that a field refuses: KEY=VALUE (where): what is wrong with it.

    Args:
        key: the field, dotted.
        value: what was given.
        problem: in words, such as "must be 1 or more".
        where: such as "arm llama-2k".
    """

    def __init__(self, key: str, value: Any, problem: str, where: str = ""):
        super().__init__(key, value, problem, where)
        self.key, self.value, self.problem, self.where = key, value, problem, where

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        given = "" if self.value is MISSING else f"={shown(self.value)}"
        return f"{self.key}{given}{place}: {self.problem}"

    def inside(self, section: str, where: str = "") -> ConfigError:
        """The same error, seen from the section that holds the field."""
        key = f"{section}.{self.key}" if section else self.key
        return ConfigError(key, self.value, self.problem, self.where or where)


class Allowed(str):
    """What a field takes, in words, where its type and limits do not say it well."""


@dataclass_transform(frozen_default=True, field_specifiers=(Field,))
def checked(cls: type) -> Any:
    """Make a frozen dataclass that checks its values; a wrong one is a `ConfigError`.

    `dataclasses.replace` checks as well, since it builds the object anew.
    """
    cls = pydantic_dataclasses.dataclass(frozen=True, config=STRICT)(cls)
    build = cls.__init__

    @wraps(build)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            build(self, *args, **kwargs)
        except ValidationError as error:
            raise first_error(error, type(self)) from None

    cls.__init__ = __init__
    return cls


def from_dict(cls: Any, values: Any) -> Any:
    """Build a checked dataclass from plain JSON types, such as a record's.

    Raises:
        ConfigError: the first value that is refused.
    """
    try:
        return TypeAdapter(cls).validate_json(json.dumps(values))
    except ValidationError as error:
        raise first_error(error, cls) from None


# ------------------------------------------------------------------------------------- messages


def first_error(error: ValidationError, cls: type, name: str = "") -> ConfigError:
    """The first of pydantic's errors as one line.

    Args:
        error: of building `cls`, or of its field `name`.
    """
    details = error.errors(include_url=False)[0]
    inner = details.get("ctx", {}).get("error")
    location = ([name] if name else []) + [*details["loc"]]
    kind, value = details["type"], details["input"]
    key, owner, field = _locate(cls, location)
    if isinstance(inner, ConfigError):
        return inner.inside(key)
    if kind in ("unexpected_keyword_argument", "unexpected_positional_argument"):
        names = [*fields_of(owner)]
        return ConfigError(key, value, f"no such field{did_you_mean(key, names)}; {_has(owner)}")
    if kind == "missing":
        return ConfigError(key, MISSING, f"is missing; {_has(owner)}")
    if inner is not None:
        return ConfigError(key, value, str(inner))
    if field is None:
        return ConfigError(key or cls.__name__, value, details["msg"].splitlines()[0])
    return ConfigError(key, value, f"must be {allowed(field)}{_near(field, value)}")


def _locate(cls: type, location: Sequence[Any]) -> tuple[str, type, FieldInfo | None]:
    """Dotted key, class and field of pydantic's path, without the names of a union's members."""
    key, owner, field, inner = "", cls, None, [cls]
    for position, part in enumerate(location):
        if isinstance(part, int) and position == 0:  # of a positional argument
            part = ([*fields_of(cls)] + ["argument"] * (part + 1))[part]
        holder = next((c for c in inner if part in fields_of(c)), None)
        if isinstance(part, int):
            key += f"[{part}]"
        elif holder:
            owner, field = holder, fields_of(holder)[part]
            inner = [*_classes_in(field.annotation)]
            key += f".{part}" if key else part
        elif field is None or _is_mapping(field.annotation) or location[-1] is part and inner:
            key += f".{part}" if key else part
            owner = inner[0] if inner else owner
        else:  # the member of a union; one with a discriminator has it as a default
            inner = [c for c in inner if any(f.default == part for f in fields_of(c).values())]
            owner = inner[0] if inner else owner
    return key, owner, field


def fields_of(cls: type) -> dict[str, FieldInfo]:
    """Name -> field of a checked class, in order; empty for any other."""
    return getattr(cls, "__pydantic_fields__", {})


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """ "; did you mean ...?" for the known names that are near, else ""."""
    if not isinstance(name, str) or not name:
        return ""
    known, text = [*known], name.lower()
    longer = [k for k in known if k.lower().startswith(text) or k.endswith(f".{text}")]
    near = longer or difflib.get_close_matches(text, known, n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(near[:3])}?" if near else ""


def allowed(field: FieldInfo) -> str:
    """What a field takes, in words: "a whole number, 1 to 8,192"."""
    return _in_words(field.annotation, field.metadata)


def _in_words(kind: Any, metadata: Sequence[Any] = ()) -> str:
    said = next((m for m in metadata if isinstance(m, Allowed)), None)
    origin = get_origin(kind)
    if origin is Annotated:
        inner, *more = get_args(kind)
        return _in_words(inner, [m for one in more for m in _flat(one)])
    if origin in (Union, UnionType):
        members = [m for m in get_args(kind) if m is not type(None)]
        words = said or " or ".join(_in_words(m, metadata) for m in members)
        return f"{words}, or none" if len(members) < len(get_args(kind)) else words
    if said:
        return said
    if origin is Literal:
        return " or ".join(map(str, get_args(kind)))
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    return words.get(kind, getattr(kind, "__name__", str(kind))) + _range(metadata)


def _flat(metadata: Any) -> Sequence[Any]:
    return metadata.metadata if isinstance(metadata, FieldInfo) else [metadata]


def _range(metadata: Sequence[Any]) -> str:
    """The limits of a number or a length in words: ", 1 to 8,192"."""
    bounds: dict[str, Any] = {}
    for limit in metadata:  # Ge(ge=1), MaxLen(max_length=100) and the like, which are dataclasses
        bounds |= asdict(limit) if is_dataclass(limit) else {}
    if "max_length" in bounds:
        return f" of 1 to {bounds['max_length']:,} characters"
    if {"ge", "le"} <= bounds.keys():
        return f", {bounds['ge']:,} to {bounds['le']:,}"
    words = {"ge": "{:,} or more", "gt": "above {:,}", "le": "at most {:,}", "lt": "below {:,}"}
    parts = [text.format(bounds[key]) for key, text in words.items() if key in bounds]
    return f", {' and '.join(parts)}" if parts else ""


def choices(kind: Any) -> list[str]:
    """The texts that a type lists as Literal, members of unions included."""
    if get_origin(kind) is Literal:
        return [choice for choice in get_args(kind) if isinstance(choice, str)]
    return [choice for member in get_args(kind) for choice in choices(member)]


def _near(field: FieldInfo, value: Any) -> str:
    listed = choices(field.annotation)
    return did_you_mean(value, listed) if isinstance(value, str) and listed else ""


def _has(cls: type) -> str:
    return f"{cls.__name__} has {', '.join(fields_of(cls))}"


def _classes_in(kind: Any) -> Iterator[type]:
    """The checked classes that a field's type speaks of."""
    if is_dataclass(kind):
        yield kind
    for member in get_args(kind):
        yield from _classes_in(member)


def _is_mapping(kind: Any) -> bool:
    return get_origin(kind) is collections.abc.Mapping


def masked(text: str) -> str:
    """A text in which stars stand for tokens and passwords."""
    return SECRET.sub("***", text)


def shown(value: Any) -> str:
    """A value for a message as one would type it: one line, short, without a token."""
    text = masked(typed(value))
    return text if len(text) <= 80 else f"{text[:77]}..."


def typed(value: Any) -> str:
    """A value as one would type it after KEY=."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, int) and abs(value) >= 10**30:
        return "a huge number"
    if isinstance(value, tuple) and value and all(isinstance(part, str) for part in value):
        return ",".join(value)
    return value if isinstance(value, str) and value and value.isprintable() else repr(value)
