"""Whether two models are before and after of one another, as far as their names tell.

Only a model that was made from the other can have forgotten anything; of any other two one is
worse or better.
"""

from __future__ import annotations

import re

from slimlib.results import Results
from slimlib.results.lm_eval import MODEL_KEYS

AUTO, TUNED, OTHER_MODEL = "auto", "tuned", "other"
RELATIONS = (AUTO, TUNED, OTHER_MODEL)
FAMILIES = re.compile(
    r"tinyllama|smollm|llama|qwen|gemma|mistral|mixtral|phi|pythia|gpt-?2|gpt-?neo|opt|falcon|olmo"
    r"|granite|stablelm|bloom|deepseek|internlm|mpt|t5|danube|lfm|rwkv|mamba",
    re.I,
)
SIZE = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", re.I)


def are_related(base: Results, tuned: Results, relation: str = AUTO) -> bool:
    """Whether tuned was made from base; "auto" takes it so unless the names speak against it.

    Example: "meta-llama/Llama-3.2-1B" and "my-llama-1B-alpaca" are related; "Llama-3.2-1B" and
    "Qwen2.5-1.5B" are not.

    Raises:
        ValueError: no such relation.
    """
    if relation not in RELATIONS:
        raise ValueError(f"relation={relation!r}: must be {', '.join(RELATIONS)}")
    if relation != AUTO:
        return relation == TUNED
    names = [_model(results) for results in (base, tuned)]
    if None not in (base.settings.get("model"), tuned.settings.get("model")):
        ours, theirs = base.settings["model"], tuned.settings["model"]
        if ":" in f"{ours}{theirs}" and ours != theirs:  # micro:instruct, another checkpoint
            return False
    return not any(_differ(pattern, *names) for pattern in (FAMILIES, SIZE))


def _model(results: Results) -> str:
    """The model as its files call it: the name and the paths of its weights."""
    args = results.settings.get("model_args")
    named = [args.get(key) for key in MODEL_KEYS] if isinstance(args, dict) else []
    return " ".join(
        str(name) for name in (results.name, results.settings.get("model"), *named) if name
    )


def _differ(pattern: re.Pattern[str], base: str, tuned: str) -> bool:
    """Whether both names say something of a kind, and nothing in common."""
    ours, theirs = ({_norm(found) for found in pattern.findall(name)} for name in (base, tuned))
    return bool(ours and theirs and not ours & theirs)


def _norm(found: str | tuple[str, ...]) -> str:
    return "".join(found).lower().replace("-", "")
