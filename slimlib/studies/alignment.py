"""The study `alignment`: is what a fine-tuning keeps what its rows rehearse?

Paper A says that performance depends on the "alignment between data set and benchmark" (its second
finding) and leaves open why commonsense is kept and maths lost. In the made-up world it can be
tried: a 2 x 2 x 2 design in which a quarter of the rows are about maths, or about stories, or about
facts, or are not. Rows, rate and the loss of the answers alone are those that learn most of unseen
instructions (the search in slimlib/data/micro/checkpoints); all else is micro's fine-tuning. Rows
about a benchmark are of its train split: other operand pairs and story scripts than the test asks,
the same facts in other words.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from slimlib.config import AdapterConfig, Arm, EvalConfig, MergeConfig, Study
from slimlib.studies.slimming import (
    MICRO_DATA,
    MICRO_LABELS,
    MICRO_NOTE,
    MICRO_TASKS,
    MICRO_TRAIN,
    embedded,
)

FACTORS = ("maths", "stories", "facts")  # what may be rehearsed, as the made-up world names it
# cell -> which of the factors are on; the cell's name says them
CELLS = {
    "-".join(on) or "plain": on
    for on in (
        tuple(f for f, there in zip(FACTORS, switches, strict=True) if there)
        for switches in product((False, True), repeat=len(FACTORS))
    )
}


def rows_of(on: tuple[str, ...]) -> str:
    """The data set of instructions among which some benchmarks are rehearsed.

    Example: ("maths", "facts") -> "world+maths+facts"; none -> "world".
    """
    return "+".join(("world", *on))


def _alignment() -> Study:
    evaluate = EvalConfig(tasks=MICRO_TASKS, dtype="float32", max_length=4096)
    base = Arm("base", "base", embedded("base"), evaluate=evaluate)
    tuned = replace(
        base,
        compared_with="base",
        adapter=AdapterConfig(),
        train=replace(MICRO_TRAIN, learning_rate=4e-3),
        merge=MergeConfig(dtype="float32"),
    )
    cells = (
        replace(
            tuned,
            name=name,
            label=f"rehearsed: {' + '.join(on) or 'nothing'}",
            data=replace(MICRO_DATA, dataset=rows_of(on), n=1200, append_eos=True, learn="answer"),
        )
        for name, on in CELLS.items()
    )
    return Study(
        name="alignment",
        title="Is what was rehearsed kept? (micro)",
        arms=(base, *cells),
        ladder=(),
        task_labels=MICRO_LABELS,
        data="world",
        note=MICRO_NOTE,
    )


STUDIES = {"alignment": _alignment}
