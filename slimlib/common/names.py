"""Names that become folders, and text that is shown: what may stand in them."""

from __future__ import annotations

import re

# What services call their tokens (the hub, GitHub, OpenAI and its like, GitLab, Slack, Google,
# AWS), a JSON web token, and what stands behind the name of AWS's secret key.
TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:hf_|api_org_|gh[oprsu]_|github_pat_)[A-Za-z0-9]{16,}\w*"
    r"|sk-(?=[\w-]*\d)[\w-]{20,}|glpat-[\w-]{16,}|xox[abeoprs]-[\w-]{16,}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])|AIza[\w-]{35}"
    r"|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]+"
    r")|(?i:(?<=secret_access_key)|(?<=secretaccesskey))[\"']?\s*[:=]\s*[\"']?[\w/+]{40}"
)
LONGEST = 100  # characters of a name; a path of several must fit into 255 bytes a part


def check_name(name: str) -> str:
    """Return a name that is safe as a folder.

    Raises:
        ValueError: it is empty or long, leads elsewhere, or holds what cannot be shown.
    """
    check_text(name)
    if not 0 < len(name) <= LONGEST:
        raise ValueError(f"must be a name of 1 to {LONGEST} characters")
    if name != name.strip() or name.startswith(".") or ".." in name or {*name} & {*'/\\:*?"<>|'}:
        raise ValueError("must be a name without / and .., as in my-arm_2, since it names a folder")
    return name


def check_text(text: str) -> str:
    """Return text that can be shown on one line.

    Raises:
        ValueError: it holds control characters, or a token.
    """
    if TOKEN.search(text):
        raise ValueError("must hold no token; the hub's belongs into the environment's HF_TOKEN")
    if not text.isprintable():
        raise ValueError("must be one line of text without control characters")
    return text


def without_tokens(text: str) -> str:
    """A text in which stars stand for tokens."""
    return TOKEN.sub("***", text)
