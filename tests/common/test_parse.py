"""From text to values: whichever reading the field takes first."""

from collections.abc import Mapping

import pytest
from pydantic import Field

from slimlib.common.checked import ConfigError, checked
from slimlib.common.parse import parse


@checked
class Some:
    whole: int = Field(1, ge=0)
    number: float = 1.0
    text: str = "a"
    maybe: str | None = None
    yes: bool = False
    names: tuple[str, ...] = ()
    shares: Mapping[str, float] = Field(default_factory=dict)


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("whole", "8", 8),
        ("whole", " 8", 8),
        ("whole", "+8", 8),
        ("number", "8", 8.0),
        ("number", ".5", 0.5),
        ("number", "1e-5", 1e-5),
        ("text", "rows.jsonl", "rows.jsonl"),
        ("text", "123", "123"),
        ("text", "none", "none"),
        ("text", "true", "true"),
        ("text", "a, b", "a, b"),
        ("maybe", "None", None),
        ("maybe", "main", "main"),
        ("yes", "True", True),
        ("yes", "false", False),
        ("names", "q_proj, v_proj", ("q_proj", "v_proj")),
        ("names", '["q_proj"]', ("q_proj",)),
        ("names", ["q_proj"], ("q_proj",)),
        ("names", ("q_proj",), ("q_proj",)),
        ("shares", '{"a": 1}', {"a": 1.0}),
        ("shares", {"a": 0.5}, {"a": 0.5}),
        ("whole", 8, 8),
        ("maybe", None, None),
    ],
)
def test_each_field_reads_its_own(name, given, value):
    found = parse(Some, name, given)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("whole", "8.5"),
        ("whole", "eight"),
        ("whole", "-1"),
        ("whole", True),
        ("whole", "true"),
        ("whole", 8.0),
        ("number", "nan"),
        ("number", "-inf"),
        ("number", float("nan")),
        ("yes", "1"),
        ("yes", 1),
        ("text", 5),
        ("shares", "[1]"),
        ("shares", "[" * 10_000),
        ("names", object()),
    ],
)
def test_other_values_are_refused_as_they_were_typed(name, given):
    with pytest.raises(ConfigError) as caught:
        parse(Some, name, given)
    assert caught.value.key == name
    assert not isinstance(given, str) or caught.value.value == given
