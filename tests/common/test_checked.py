"""Checked dataclasses: what is refused, and that the message is made from the field."""

import math
import pickle
import re
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, replace
from typing import Annotated, Literal

import pytest
from pydantic import AfterValidator, Field
from secrets_of_services import TOKENS

from slimlib.common.checked import (
    Allowed,
    ConfigError,
    allowed,
    checked,
    did_you_mean,
    fields_of,
    from_dict,
    shown,
)


def even(number: int) -> int:
    if number % 2:
        raise ValueError("must be even")
    return number


@checked
class Wheel:
    size: int = Field(4, ge=1, le=2_000)
    colour: Literal["red", "dark red", "blue"] | None = None


@checked
class Cart:
    wheel: Wheel = Wheel()
    others: tuple[Wheel, ...] = ()
    load: float = Field(0.5, gt=0, lt=1)
    pairs: Annotated[int, AfterValidator(even)] = 2
    shares: Annotated[Mapping[str, float], Allowed('shares, as {"a": 1}')] = Field(
        default_factory=dict
    )
    open: bool = False

    def __post_init__(self):
        if self.open and self.load > 0.9:
            raise ConfigError("load", self.load, "must be at most 0.9 on an open cart")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Wheel(0), "size=0: must be a whole number, 1 to 2,000"),
        (lambda: Wheel(size=2_001), "size=2001: must be a whole number, 1 to 2,000"),
        (lambda: Wheel(True), "size=true: must be a whole number, 1 to 2,000"),
        (lambda: Wheel("4"), "size=4: must be a whole number, 1 to 2,000"),
        (lambda: Wheel(4.0), "size=4.0: must be a whole number, 1 to 2,000"),
        (
            lambda: Wheel(colour="bleu"),
            "colour=bleu: must be red or dark red or blue, or none; did you mean blue?",
        ),
        (lambda: Wheel(3, "red", 5), "argument=5: no such field; Wheel has size, colour"),
        (
            lambda: Wheel(colours="red"),
            "colours=red: no such field; did you mean colour?; Wheel has size, colour",
        ),
        (lambda: Cart(load=math.nan), "load=nan: must be a number, above 0 and below 1"),
        (lambda: Cart(load=1.0), "load=1.0: must be a number, above 0 and below 1"),
        (lambda: Cart(pairs=3), "pairs=3: must be even"),
        (lambda: Cart(open="yes"), "open=yes: must be true or false"),
        (lambda: Cart(wheel=5), "wheel=5: must be Wheel"),
        (lambda: Cart(shares={"a": None}), 'shares.a=none: must be shares, as {"a": 1}'),
        (lambda: Cart(load=0.95, open=True), "load=0.95: must be at most 0.9 on an open cart"),
        (lambda: replace(Wheel(), size=0), "size=0: must be a whole number, 1 to 2,000"),
        (
            lambda: from_dict(Cart, {"others": [{"size": 2}, {"size": 0}]}),
            "others[1].size=0: must be a whole number, 1 to 2,000",
        ),
        (
            lambda: from_dict(Cart, {"wheel": {"bell": 1}}),
            "wheel.bell=1: no such field; Wheel has size, colour",
        ),
    ],
)
def test_what_is_refused_is_told_in_one_line_made_from_the_field(make, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        make()


def test_good_values_are_taken_and_kept():
    cart = Cart(Wheel(2, "red"), (Wheel(),), load=0.9, shares={"a": 1})
    assert (cart.wheel.size, cart.others, cart.shares) == (2, (Wheel(4),), {"a": 1.0})
    assert replace(cart, open=True).open and not cart.open
    assert pickle.loads(pickle.dumps(cart)) == cart
    with pytest.raises(FrozenInstanceError):
        cart.load = 0.1


def test_an_error_is_told_from_outside_and_survives_a_pickle():
    error = ConfigError("r", 0, "must be 1 or more").inside("adapter", "arm a")
    assert str(error) == "adapter.r=0 (arm a): must be 1 or more"
    assert str(error.inside("", "arm b")) == str(error)  # the nearest place is kept
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_what_a_field_takes_is_said_in_words():
    said = {name: allowed(field) for name, field in fields_of(Cart).items()}
    assert said["load"] == "a number, above 0 and below 1"
    assert said["open"] == "true or false"
    assert said["shares"] == 'shares, as {"a": 1}'


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        ("adam", ["sgd", "adamw_torch"], "; did you mean adamw_torch?"),  # its beginning
        ("lam", ["adapter.r", "adapter.lam"], "; did you mean adapter.lam?"),  # its end
        ("cosin", ["cosine", "linear"], "; did you mean cosine?"),
        ("zebra", ["cosine", "linear"], ""),
        ("", ["cosine"], ""),
        (None, ["cosine"], ""),
    ],
)
def test_near_names_are_offered(name, known, said):
    assert did_you_mean(name, known) == said


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        (False, "false"),
        ("", "''"),
        ("a\nb", "'a\\nb'"),
        (10**40, "a huge number"),
        ("x" * 200, "x" * 77 + "..."),
        ("hf_abcdefgh12345678 here", "*** here"),
        ("https://me:pass@host/x", "https://***@host/x"),
        ("https://host/x?a=1&token=pass", "https://host/x?***"),
        (("q_proj", "v_proj"), "q_proj,v_proj"),
        *((f"a {token} b", "a *** b") for token in TOKENS),
        ("aws_secret_access_key = " + "a1/+" * 10, "aws_secret_access_key***"),
        ("task-of-2026-with-a-long-name", "task-of-2026-with-a-long-name"),
    ],
)
def test_a_value_is_shown_short_on_one_line_and_without_secrets(value, text):
    assert shown(value) == text
