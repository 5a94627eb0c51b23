"""Names that become folders."""

import pytest

from slimlib.common.names import LONGEST, check_name, check_text


@pytest.mark.parametrize("name", ["a", "llama-2k", "a.b_c", "é 1", "x" * LONGEST])
def test_plain_names_come_back(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "1 to 100 characters"),
        ("x" * (LONGEST + 1), "1 to 100 characters"),
        ("../../../x", "without / and .."),
        ("a\\b", "without / and .."),
        ("..", "without / and .."),
        ("C:", "without / and .."),
        ("a\x00b", "without control characters"),
        ("a\u202eb", "without control characters"),  # turns the direction of writing
        ("a\nb", "without control characters"),
        ("hf_" + "a1" * 17, "must hold no token"),
    ],
)
def test_what_leads_elsewhere_or_cannot_be_shown_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        check_name(name)


def test_text_may_hold_what_a_name_may_not():
    assert check_text("me/model: 1.0") == "me/model: 1.0"
