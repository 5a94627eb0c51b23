"""The generated answers of two compared models, task by task; what is not there says why."""

from __future__ import annotations

from collections.abc import Mapping

from slimlib.comparison.answers.kinds import FLEXIBLE_FILTER, METRIC, STRICT_FILTER, has_answers
from slimlib.comparison.answers.outcome import FormatOrAbility, format_or_ability
from slimlib.results import Results, TaskResults


class Answers(dict[str, FormatOrAbility]):
    """Task -> format or ability; the role that a task plays, such as "gsm8k", finds it too."""

    def __init__(self, found: Mapping[str, FormatOrAbility], roles: Mapping[str, str | None]):
        super().__init__(found)
        self._by_role = {role: task for task, role in roles.items() if role and task in found}

    def __missing__(self, name: str) -> FormatOrAbility:
        """Raise ValueError, naming what is there, for a name that is neither task nor role."""
        if name in self._by_role:
            return self[self._by_role[name]]
        known = ", ".join(self) or "none, since no task has generated answers in both results"
        raise ValueError(f"no answers of {name!r}; there are those of: {known}")


def compared_answers(base: Results, tuned: Results, roles: Mapping[str, str | None]) -> Answers:
    """Format or ability for each task whose generated answers both results have.

    Args:
        base: the model before.
        tuned: the model after; `compare` has refused already what may not be paired.
        roles: of the tasks that were paired, where they play one.
    """
    answered = [t for t in roles if all(has_answers(side.tasks[t]) for side in (base, tuned))]
    found = {task: format_or_ability(base, tuned, task, strict=False) for task in answered}
    return Answers(found, roles)


def without_answers(base: Results, tuned: Results) -> list[str]:
    """A sentence for each task with documents and GSM8K's two filters, but no answers to read."""
    lines = []
    for task in base.tasks:
        sides = [(r.name, r.tasks[task]) for r in (base, tuned) if task in r.tasks]
        if len(sides) < 2 or not all(_scored(found) for _, found in sides):
            continue
        bare = [name for name, found in sides if found.load_rows is None]
        if bare:
            where = " and ".join(dict.fromkeys(bare))
            lines.append(
                f"{task}: format or ability? Not told: there are scores but no answers of {where}; "
                "give the arm's folder, or evaluate with --log_samples"
            )
        elif not all(has_answers(found) for _, found in sides):
            lines.append(
                f"{task}: format or ability? Not told: a mean over seeds has no answers of its "
                "own; compare one seed"
            )
    return lines


def _scored(task: TaskResults) -> bool:
    kinds = [task.samples.get(kind) for kind in (STRICT_FILTER, FLEXIBLE_FILTER)]
    return all(kind is not None and METRIC in kind.scores for kind in kinds)
