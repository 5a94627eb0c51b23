"""The published numbers as data: paper A's Tables 1 and 2 and its claims, paper B's savings.

Paper A: Q. Mai, "Slimming Down LLMs Without Losing Their Minds", arXiv 2506.10885 (2025). Paper B:
A. Shen et al., Computers, Materials & Continua 82(1), 2025, doi 10.32604/cmc.2024.057491. Numbers
stand as printed; what the author's public records (`RECORDS`, commit be8389d) show about paper A's
is in the comments. A study names the column that belongs to an arm in `paper_columns`;
`slimlib.papers.slimming` recomputes everything here that can be recomputed.
"""

from __future__ import annotations

from typing import NamedTuple

from slimlib.comparison.benchmarks import ACC, ACC_NORM, FLEXIBLE, STRICT


class SetUp(NamedTuple):
    """A row of Table 1."""

    model: str
    size: str
    data: str | None
    samples: int | None
    method: str | None


class Score(NamedTuple):
    """A published accuracy and its "+-", both in per cent."""

    value: float
    # One standard error, sqrt(p (1 - p) / (n - 1)), though the paper calls it a 95 % interval.
    plus_minus: float


class Measure(NamedTuple):
    """A published FR (per cent), dA or dK (points)."""

    value: float
    plus_minus: float | None
    starred: bool  # the paper's "p < 0.05, paired t-test"; no per-document file is public


TABLE1: dict[str, SetUp] = {
    "base": SetUp("Base Llama 3.2 1B", "1.24B", None, None, None),
    "llama-2k": SetUp("Fine-tuned Llama 3.2 1B", "1.24B", "Alpaca", 2_000, "QLoRA"),
    "tinyllama-50k": SetUp("TinyLlama 1.1B", "1.1B", "Alpaca", 50_000, "QLoRA"),
}

COLUMN_LABELS: dict[str, str] = {
    # Published as "base"; by its end token (128009, <|eot_id|>) it is Llama-3.2-1B-Instruct.
    "base": "paper: base (in truth Instruct)",
    "llama-2k": "paper: fine-tuned (2k)",
    "tinyllama-50k": "paper: TinyLlama (50k)",
}

COMPARED_WITH: dict[str, str] = {"llama-2k": "base"}  # in the published FR, dA and dK

# Documents as run: hellaswag validation 10,042 (the paper says 10,000).
DOCUMENTS: dict[str, int] = {"gsm8k": 1_319, "hellaswag": 10_042, "mmlu_cs": 100}

TABLE2: dict[str, dict[tuple[str, str], Score]] = {
    "base": {
        ("gsm8k", FLEXIBLE): Score(33.51, 1.30),
        ("gsm8k", STRICT): Score(33.51, 1.30),
        ("hellaswag", ACC): Score(45.23, 0.50),
        ("hellaswag", ACC_NORM): Score(60.77, 0.49),
        ("mmlu_cs", ACC): Score(47.00, 5.02),
    },
    # Started from the true base and merged into 4-bit weights: the arm llama-2k-requantised.
    "llama-2k": {
        ("gsm8k", FLEXIBLE): Score(3.71, 0.52),
        ("gsm8k", STRICT): Score(3.11, 0.48),
        ("hellaswag", ACC): Score(45.61, 0.50),
        ("hellaswag", ACC_NORM): Score(61.20, 0.49),
        ("mmlu_cs", ACC): Score(34.00, 4.76),
    },
    # LoRA on an Apple laptop in fp16 by its trainer states; no result file is public.
    "tinyllama-50k": {
        ("gsm8k", FLEXIBLE): Score(2.81, 0.45),
        ("gsm8k", STRICT): Score(2.20, 0.40),
        ("hellaswag", ACC): Score(45.84, 0.50),
        ("hellaswag", ACC_NORM): Score(59.26, 0.49),
        ("mmlu_cs", ACC): Score(27.00, 4.46),
    },
}

MEASURES: dict[str, dict[str, Measure]] = {
    "llama-2k": {
        "gsm8k": Measure(88.92, None, starred=True),  # FR
        "hellaswag": Measure(0.43, None, starred=False),  # dA
        "mmlu_cs": Measure(13.00, 6.93, starred=True),  # dK; as defined it would be +- 13.55
    },
}

STATED_DOCUMENTS: dict[str, int] = {"hellaswag": 10_000}  # where the paper's text says n
ALPHA = 0.05  # level of the stars
CATASTROPHIC = 50.0  # per cent: "catastrophic" is an FR above it
RELATIVE_CHANGES: dict[str, int] = {"gsm8k": 89, "mmlu_cs": 28}  # per cent of the base, in the text


class LoraExample(NamedTuple):
    """The worked example under formula (1.2)."""

    d_in: int
    d_out: int
    r: int
    trainable: int
    frozen: int


LORA_EXAMPLE = LoraExample(1_000, 1_000, 10, 20_000, 1_000_000)

RECORDS = (
    "github.com/michaelearncoding/MSE718FinalProject-FinetuneAnalysisForLLMTechnique, "
    "llm-peft-compare/eval_results"
)


class EndToken(NamedTuple):
    """The token that ends a text, and the checkpoint whose tokenizer has it so."""

    token: str
    checkpoint: str


END_TOKENS: dict[int, EndToken] = {
    128_001: EndToken("<|end_of_text|>", "Llama-3.2-1B"),
    128_009: EndToken("<|eot_id|>", "Llama-3.2-1B-Instruct"),
}
BASE_END_TOKEN = 128_009  # in the author's result file of the column "base"
# The column's checkpoint, or what it was fine-tuned from, as the paper has it.
CHECKPOINTS: dict[str, str] = {"base": "Llama-3.2-1B", "llama-2k": "Llama-3.2-1B"}

# Paper B: (model, rank of the MLP layers divided by) -> per cent of trainable parameters saved.
MLP_RANK_SAVINGS: dict[tuple[str, int], float] = {
    ("LLaMA-7B", 2): 33.42,
    ("LLaMA-7B", 4): 50.13,
    ("LLaMA-13B", 2): 33.47,
    ("LLaMA-13B", 4): 50.20,
}
