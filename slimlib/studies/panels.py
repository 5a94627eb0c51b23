"""What a check asks when no task is named: a few well-known benchmarks for each capability.

quick: one for each. standard: more of them, and safety. paper: the three of arXiv 2506.10885. The
micro checkpoints are asked about their own made-up world, whichever panel is named.
"""

from __future__ import annotations

from collections.abc import Sequence

from slimlib.studies.slimming import MICRO_ABILITIES

QUICK, STANDARD, PAPER = "quick", "standard", "paper"
PANELS: dict[str, dict[str, tuple[str, ...]]] = {
    QUICK: {
        "commonsense": ("hellaswag",),
        "knowledge": ("arc_easy",),
        "maths": ("gsm8k",),
        "language": ("lambada_openai",),
    },
    STANDARD: {
        "commonsense": ("hellaswag", "piqa", "winogrande"),
        "knowledge": ("arc_easy", "arc_challenge", "mmlu"),
        "maths": ("gsm8k",),
        "language": ("lambada_openai",),
        "instruction": ("ifeval",),
        "safety": ("truthfulqa_mc1",),
    },
    PAPER: {
        "commonsense": ("hellaswag",),
        "maths": ("gsm8k",),
        "knowledge": ("mmlu_high_school_computer_science",),
    },
}
MICRO_PANEL = tuple(task.name for task in MICRO_ABILITIES)


def panel_tasks(panel: str, models: Sequence[str]) -> tuple[str, ...]:
    """The tasks of a panel.

    Args:
        panel: "quick", "standard" or "paper".
        models: that will be asked; if one is of the made-up world, its tasks are taken.

    Raises:
        ValueError: no such panel.
    """
    if panel not in PANELS:
        raise ValueError(f"panel={panel!r}: must be {', '.join(PANELS)}")
    if any(model.removeprefix("nf4:").startswith("micro:") for model in models):
        return MICRO_PANEL
    return tuple(task for tasks in PANELS[panel].values() for task in tasks)
