"""From the text of KEY=VALUE to what a field of a checked class holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from slimlib.common.checked import STRICT, ConfigError, fields_of, first_error

_PLAIN = TypeAdapter(
    Any, config=ConfigDict(ser_json_inf_nan="constants")
)  # objects to JSON, NaN too


def parse(cls: type, name: str, value: Any) -> Any:
    """Turn the text of KEY=VALUE, or a value from Python, into what a field holds.

    Text is read as JSON, else as a number, as itself or as names with commas, whichever the field
    takes first: "8", "none", "rows.jsonl", "q_proj,v_proj" and '{"alpaca": 0.5}' are values.

    Raises:
        ConfigError: the field takes none of these.
    """
    refused = None
    for text in _readings(value):
        try:
            return _parser(cls, name).validate_json(text)
        except ValidationError as error:
            if error.errors()[0]["type"] != "json_invalid":
                refused = refused or first_error(error, cls, name)
    if refused.key == name and isinstance(value, str):
        raise ConfigError(name, value, refused.problem)  # as it was typed
    raise refused


@cache
def _parser(cls: type, name: str) -> TypeAdapter[Any]:
    field = fields_of(cls)[name]
    kind = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    return TypeAdapter(kind, config=STRICT)


def _readings(value: Any) -> Iterator[str | bytes]:
    """What a value may mean, as JSON."""
    if not isinstance(value, str):
        yield _PLAIN.dump_json(value, fallback=repr)
        return
    yield value
    yield {"none": "null"}.get(value.lower(), value.lower())
    for number in (int, float):
        try:
            yield json.dumps(number(value))
        except ValueError:
            pass
    yield json.dumps(value)
    yield json.dumps([part.strip() for part in value.split(",")])
