"""Stop at the first log-likelihood or logit that is not a number.

Models whose activations overflow half precision answer NaN. Scores can be made of that: the largest
of four NaN is the first choice, the likeliest of all NaN tokens the first of the vocabulary.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

LOG_LIKELIHOOD, LOGITS = "log-likelihood", "logits"
# dtype -> the way out of it
WAYS_OUT = {
    "float16": "the numbers are too large for it: evaluate with evaluate.dtype=bfloat16 or float32",
    "bfloat16": "evaluate with evaluate.dtype=float32; if that stops too, the weights are broken",
}
BROKEN_WEIGHTS = "the weights are broken: look for NaN in the training's log and train again"


class NotFiniteError(ValueError):
    """A model answers what is not a number; names the model, dtype, task, document, way out."""


class FoundNotFinite(Exception):  # noqa: N818  it is caught by `naming`, nobody else sees it
    """What is not finite, and which request it answers: its arguments, or its place."""

    def __init__(self, what: str, request: Sequence[Any] | int) -> None:
        super().__init__(what)
        self.what, self.request = what, request


def check(value: float, request: Sequence[Any]) -> None:
    """Stop at a log-likelihood that is not finite.

    Raises:
        FoundNotFinite: it is not.
    """
    if not math.isfinite(value):
        raise FoundNotFinite(LOG_LIKELIHOOD, request)


@contextlib.contextmanager
def naming(lm: Any, requests: Sequence[Any]) -> Iterator[None]:
    """Name what is found while the model answers.

    Args:
        lm: lm-eval's model.
        requests: lm-eval's instances, which know their task and document.

    Raises:
        NotFiniteError: in place of FoundNotFinite.
    """
    try:
        yield
    except FoundNotFinite as found:
        raise NotFiniteError(_sentence(lm, found.what, _asked(found, requests))) from None


def _asked(found: FoundNotFinite, requests: Sequence[Any]) -> Any:
    if isinstance(found.request, int):
        return requests[found.request]
    arguments = tuple(found.request)
    return next((r for r in requests if tuple(r.args[: len(arguments)]) == arguments), None)


class Watching:
    """A base class before HFLM: the logits of transformers' `generate` are looked at."""

    def tok_batch_encode(self, strings: list[str], *args: Any, **kwargs: Any) -> Any:
        """As HFLM's; the strings are the prompts of the batch that is generated next."""
        self._prompts = list(strings)
        return super().tok_batch_encode(strings, *args, **kwargs)

    def _model_generate(self, context: Any, *args: Any, **kwargs: Any) -> Any:
        watched = [functools.partial(watch, self._prompts)]
        return super()._model_generate(context, *args, logits_processor=watched, **kwargs)


def watch(prompts: list[str], tokens: Any, logits: Any) -> Any:
    """Look at logits and change nothing: a logits processor of transformers.

    Args:
        prompts: of the batch.
        tokens: (rows, tokens) so far; there may be several rows a prompt, side by side.
        logits: (rows, vocabulary) of the next token.

    Raises:
        FoundNotFinite: of the first prompt whose logits are not all numbers.
    """
    finite = logits.amax(-1).isfinite().tolist()  # NaN is the largest of all for torch
    if not all(finite):
        row = finite.index(False)
        raise FoundNotFinite(LOGITS, [prompts[row * len(prompts) // len(finite)]])
    return logits


def _sentence(lm: Any, what: str, request: Any) -> str:
    dtype = str(lm.model.dtype).removeprefix("torch.")
    where = f"task {request.task_name}, document {request.doc_id}" if request else "a document"
    way_out = WAYS_OUT.get(dtype, BROKEN_WEIGHTS)
    name = getattr(lm.model, "name_or_path", "") or type(lm.model).__name__
    verb = "are not all numbers" if what == LOGITS else "is not a number"
    return f"{name} in {dtype}: {what} of {where} {verb} (NaN or infinite); {way_out}"
