"""lm-eval asked with a loaded network: what an evaluation and a probe have in common.

Nothing here knows of runs or arms, so that a training may use it as well.
"""

from __future__ import annotations

import functools
from typing import Any

from slimlib.common.hardware import git_revision
from slimlib.common.hub import ask
from slimlib.config import EVALUATORS, AskConfig, EvalConfig
from slimlib.data.tasks import quiet_lm_eval
from slimlib.scoring import SlimLM
from slimlib.scoring.responses import Responses, keeping


def ask_lm_eval(
    loaded: tuple[Any, Any],
    task: Any,
    config: EvalConfig | AskConfig,
    responses: Responses,
    *,
    batch_size: int,
    max_length: int,
    **how: Any,
) -> tuple[Any, dict[str, Any]]:
    """Have lm-eval ask a loaded network, through the answers that are kept.

    Args:
        loaded: model and tokenizer.
        task: a YAML file, or lm-eval's own Task or Group.
        config: evaluator and seed of the few-shot examples.
        responses: of this task.
        batch_size: of HFLM, where that is what runs.
        max_length: tokens.
        **how: of `lm_eval.simple_evaluate`.

    Returns:
        lm-eval's model, and what `lm_eval.simple_evaluate` returned.
    """
    import lm_eval
    from lm_eval.tasks import TaskManager

    quiet_lm_eval()
    _describe_once()
    model, tokenizer = loaded
    lm = keeping(evaluator_class(config.evaluator), responses)(
        pretrained=model, tokenizer=tokenizer, batch_size=batch_size, max_length=max_length
    )
    evaluate = functools.partial(
        lm_eval.simple_evaluate,
        model=lm,
        tasks=[task],
        task_manager=TaskManager(include_defaults=False),  # all of them take seconds
        fewshot_random_seed=config.fewshot_seed,
        log_samples=True,
        **how,
    )
    return lm, ask(evaluate, getattr(task, "task_name", str(task)), kind="dataset")


@functools.cache
def _describe_once() -> None:
    """Spare what lm-eval does after each task for its own results file.

    It has torch describe the machine by starting pip, a second each, and asks git for the commit of
    the current folder, which prints an error where that is no checkout. A record has both.
    """
    from lm_eval import evaluator
    from torch.utils import collect_env

    collect_env.get_pretty_env_info = functools.cache(collect_env.get_pretty_env_info)
    evaluator.get_git_commit_hash = git_revision


def evaluator_class(name: str) -> Any:
    """The model class that answers lm-eval's requests: "slim" or "hf".

    Raises:
        ValueError: neither of them.
    """
    if name not in EVALUATORS:
        raise ValueError(f"evaluator={name!r}: must be {' or '.join(EVALUATORS)}")
    if name == "slim":
        return SlimLM
    from lm_eval.models.huggingface import HFLM

    return HFLM
