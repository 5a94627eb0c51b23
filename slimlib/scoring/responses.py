"""Each answer of a model is kept as it is made: a task that is cut off goes on where it was.

An answer that is not a number is not kept; it stops the task.

lm-eval has a cache for this: a database of pickles, which can run code, committed at every answer,
which takes a sixth of a micro task's time. Here an answer is one line of a file, with a checksum.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from slimlib.common import progress
from slimlib.common.files import parse_json, sha256
from slimlib.common.flaky import again
from slimlib.common.progress import Line
from slimlib.scoring import Work
from slimlib.scoring.finite import Watching, check, naming


class Responses:
    """The answers to one task's requests; what lm-eval calls a cache hook.

    Args:
        path: their file; one that is there is read and gone on with.
        line: shows how many documents are answered.
        alike: the log-likelihoods of a task that is gone on with are those of one that was not cut
            off, to the last digit, as `SlimLM` then batches what is left as if nothing were known.
            Not where more documents are asked each time: few batches would be as before. Rolling
            ones and written answers are batched by themselves, as what is left.
    """

    def __init__(self, path: Path, line: Line, alike: bool = False) -> None:
        self.alike = alike
        self.known = _read(path) if path.exists() else {}
        self.path, self.line, self.work = path, line, Work()
        self.seconds, self.asked = 0.0, 0  # that the model took, to answer so many documents
        self.stream = open(path, "w", encoding="utf-8")  # noqa: SIM115  closed by __exit__
        self.stream.writelines(_line(*kept) for kept in self.known.items())  # the whole ones

    def __enter__(self) -> Responses:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    def add_partial(self, kind: str, request: Sequence[Any], answer: Any) -> None:
        """Keep an answer; lm-eval's models call this as soon as they have one.

        Raises:
            FoundNotFinite: it is a log-likelihood that is not a number; it is not kept.
        """
        if kind != "generate_until":
            check(_log_likelihood(answer), request)
        self.stream.write(_line(sha256([kind, *request]), answer))
        again(self.stream.flush, self.path)  # what failed is still in the stream
        self.answered += 1
        tokens = self.work.tokens - self.before
        self.line.update(self.documents * self.answered // self.total, tokens=tokens)

    def complete(
        self,
        kind: str,
        requests: Sequence[Any],
        ask: Callable[[list[Any]], list[Any]],
        whole: bool = False,
    ) -> list[Any]:
        """The answers to requests: those that are known, and what the model is asked for.

        Args:
            kind: of request, as lm-eval calls its methods.
            requests: lm-eval's instances.
            ask: the model, for those that are left.
            whole: it is given all, and finds by `kept` what it need not answer.
        """
        known = [self.kept(kind, request.args) for request in requests]
        left = [r for r, answer in zip(requests, known, strict=True) if answer is None]
        self.total, self.answered = len(requests), len(requests) - len(left)
        self.documents = _documents(requests)
        self.before = self.work.tokens
        self.line.begin("documents", self.documents, self.documents * self.answered // self.total)
        begin = time.monotonic()
        fresh = iter(ask(list(requests) if whole else left) if left else ())
        self.seconds += time.monotonic() - begin
        self.asked += _documents(left)
        return [next(fresh) if (whole and left) or a is None else a for a in known]

    def kept(self, kind: str, request: Sequence[Any]) -> Any:
        """The answer to a request that is known already, or None."""
        if kind == "generate_until" and request[1].get("do_sample"):
            return None  # each sample is another one
        answer = self.known.get(sha256([kind, *request]))
        return tuple(answer) if isinstance(answer, list) else answer


def _documents(requests: Sequence[Any]) -> int:
    return len({(request.task_name, request.doc_id) for request in requests})


def _line(request: str, answer: Any) -> str:
    """An answer, the hash of its request, and a checksum of both."""
    return json.dumps([request, answer, sha256([request, answer])[:16]]) + "\n"


def _read(path: Path) -> dict[str, Any]:
    """Request -> answer of each whole line; it is said how many were dropped."""
    known, dropped = {}, 0
    for line in path.read_bytes().splitlines():
        try:
            request, answer, checksum = parse_json(line)
        except (ValueError, TypeError):  # no JSON, no text, or no three parts
            dropped += 1
            continue
        if sha256([request, answer])[:16] == checksum:
            known[request] = answer
        else:
            dropped += 1
    if dropped:
        progress.say(f"{path.name}: {dropped} damaged lines are asked again")
    return known


def _log_likelihood(answer: Any) -> float:
    return answer[0] if isinstance(answer, list | tuple) else answer  # a rolling one stands alone


def keeping(evaluator: type, responses: Responses) -> type:
    """An evaluator's class whose answers go through `responses`, and which stops at NaN."""
    bases = (evaluator,) if issubclass(evaluator, Watching) else (Watching, evaluator)

    class Keeping(*bases):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.set_cache_hook(responses)
            responses.work = getattr(self, "work", responses.work)  # HFLM counts no tokens
            self.kept = responses.kept

        def loglikelihood(self, requests, disable_tqdm=False):
            whole = responses.alike and not getattr(self, "stock_reason", "it is HFLM")
            ask = super().loglikelihood
            with naming(self, requests):
                return responses.complete("loglikelihood", requests, ask, whole)

        def loglikelihood_rolling(self, requests, disable_tqdm=False):
            ask = super().loglikelihood_rolling
            with naming(self, requests):
                return responses.complete("loglikelihood_rolling", requests, ask)

        def generate_until(self, requests, disable_tqdm=False):
            with naming(self, requests):
                return responses.complete("generate_until", requests, super().generate_until)

    return Keeping
