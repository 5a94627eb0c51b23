"""The evaluator: lm-eval's HFLM with the same numbers, faster.

from slimlib.scoring import SlimLM  # registers lm-eval's model "slim"

lm_eval.simple_evaluate(model=SlimLM(pretrained="meta-llama/Llama-3.2-1B"), tasks=["hellaswag"])
lm_eval.simple_evaluate(model="slim", model_args={"pretrained": ...}, tasks=["gsm8k"])
"""

from slimlib.scoring.forward import Work
from slimlib.scoring.lm import SlimLM

__all__ = ["SlimLM", "Work"]
