"""The embedded study: a small made-up world, three checkpoints that know it, and its benchmarks.

Everything the pipeline does to a 1B model on a GPU it can do here on two CPU cores, offline, in
minutes. Nothing measured here says anything about Llama: each table and figure says "micro".
`world` makes the data, `tasks/` holds lm-eval's task files.
"""

from pathlib import Path

_HERE = Path(__file__).parent

TASKS = _HERE / "tasks"  # lm-eval task files: micro_arithmetic, micro_stories, ...

# `base` plays Llama's base model, `instruct` its instruction-tuned sibling, `tiny` TinyLlama.
CHECKPOINTS = {name: _HERE / "checkpoints" / name for name in ("base", "instruct", "tiny")}
