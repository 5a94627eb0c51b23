"""The two grid studies: `key_variables` for a T4, and its miniature `key_variables_micro`.

Training is that of the named studies, not the article's 10,000 steps: 2,000 rows of Alpaca at 2e-4
on the 1B models; in the miniature one epoch of 400 made-up rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

from slimlib.config import EvalConfig, MergeConfig, ModelConfig, Task
from slimlib.studies.design import Design
from slimlib.studies.grid import Scale, compile_design
from slimlib.studies.slimming import (
    ABILITY_LABELS,
    ALPACA_2K,
    AS_RUN,
    LLAMA,
    MICRO_ABILITIES,
    MICRO_DATA,
    MICRO_NOTE,
    MICRO_TRAIN,
    TINYLLAMA,
)

MMLU_SUBJECTS = (
    *("abstract_algebra", "anatomy", "astronomy", "business_ethics", "clinical_knowledge"),
    *("college_biology", "college_chemistry", "college_computer_science", "college_mathematics"),
    *("college_medicine", "college_physics", "computer_security", "conceptual_physics"),
    *("econometrics", "electrical_engineering", "elementary_mathematics", "formal_logic"),
    *("global_facts", "high_school_biology", "high_school_chemistry"),
    *("high_school_computer_science", "high_school_european_history", "high_school_geography"),
    *("high_school_government_and_politics", "high_school_macroeconomics"),
    *("high_school_mathematics", "high_school_microeconomics", "high_school_physics"),
    *("high_school_psychology", "high_school_statistics", "high_school_us_history"),
    *("high_school_world_history", "human_aging", "human_sexuality", "international_law"),
    *("jurisprudence", "logical_fallacies", "machine_learning", "management", "marketing"),
    *("medical_genetics", "miscellaneous", "moral_disputes", "moral_scenarios", "nutrition"),
    *("philosophy", "prehistory", "professional_accounting", "professional_law"),
    *("professional_medicine", "professional_psychology", "public_relations", "security_studies"),
    *("sociology", "us_foreign_policy", "virology", "world_religions"),
)
ZERO_SHOT = {  # the article's six; ARC has two parts
    "hellaswag": "HellaSwag",
    "piqa": "PIQA",
    "winogrande": "WinoGrande",
    "arc_easy": "ARC easy",
    "arc_challenge": "ARC challenge",
    "boolq": "BoolQ",
    "openbookqa": "OpenBookQA",
}
TASKS = (
    *(
        Task(f"mmlu_{subject}", "mmlu", num_fewshot=5, batch_size=4, limit=50)
        for subject in MMLU_SUBJECTS
    ),
    *(Task(name, name, num_fewshot=0, batch_size=32, limit=1000) for name in ZERO_SHOT),
)
RANKS = (4, 16, 64)  # the article does not say which it took


LIMITS = (
    "At most 50 questions of each MMLU subject and 1,000 of each other task; "
    "`--set limit=none` takes all."
)
ONLY_TAKES = (
    "Fine-tuning only takes from these benchmarks: a cell that learns less may score more; its "
    "training loss tells."
)


@cache
def _key_variables() -> Design:
    evaluated = {"evaluate": EvalConfig(tasks=TASKS)}
    common: dict[str, Any] = {"ranks": RANKS, "rank": 16, "groups": (32, 64, 128)}
    common |= {"every_rank": ("E1", "E3", "E4", "E5", "E7"), "shared": evaluated}
    return compile_design(
        (
            Scale("Llama 3.2 1B", "Llama-3.2-1B", LLAMA, "llama-", **common),
            Scale("TinyLlama 1.1B", "TinyLlama-1.1B", TINYLLAMA, "tinyllama-", **common),
        ),
        {"data": ALPACA_2K, "train": AS_RUN["train"]},
        name="key_variables",
        title="Key variables of quantised fine-tuning",
        task_labels={"mmlu": "MMLU, 5-shot", **ZERO_SHOT},
        note=LIMITS,
        note_of_any_model=LIMITS,
    )


@cache
def _key_variables_micro() -> Design:
    evaluate = EvalConfig(tasks=MICRO_ABILITIES, dtype="float32", max_length=4096)
    scale = Scale(
        label="micro",
        shape="micro",
        model=ModelConfig("micro:base", dtype="float32", max_seq_length=512),
        prefix="",
        ranks=(4, 16),
        rank=16,
        groups=(16, 32, 64),
        every_rank=("E1", "E5", "E7"),
        shared={"evaluate": evaluate, "merge": MergeConfig(dtype="float32")},
    )
    return compile_design(
        (scale,),
        # of before micro's fine-tuning was chosen anew: the committed records are of these values
        {
            "data": replace(MICRO_DATA, n=400, append_eos=False),
            "train": replace(MICRO_TRAIN, learning_rate=5e-3, num_train_epochs=1),
        },
        name="key_variables_micro",
        title="Key variables of quantised fine-tuning, in miniature (micro)",
        task_labels=ABILITY_LABELS,
        data="world",
        note=f"{MICRO_NOTE} {ONLY_TAKES}",
        note_of_any_model=ONLY_TAKES,
    )


DESIGNS: dict[str, Callable[[], Design]] = {
    "key_variables": _key_variables,
    "key_variables_micro": _key_variables_micro,
}
