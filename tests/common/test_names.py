"""Names that become folders."""

import pytest
from secrets_of_services import TOKENS

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
        *((token, "must hold no token") for token in TOKENS),
    ],
)
def test_what_leads_elsewhere_or_cannot_be_shown_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        check_name(name)


@pytest.mark.parametrize(
    "text",
    [
        *("me/model: 1.0", "hf_models_of_2026/my_model", "sk-learn/rows.jsonl", "/data/task-12345"),
        *("disk-" + "a1" * 12, "9ec52a4bc8f1" * 3, "AKIARA-model", "ghp_models/llama"),
    ],
)
def test_text_may_hold_what_a_name_may_not_and_what_only_begins_like_a_token(text):
    assert check_text(text) == text
