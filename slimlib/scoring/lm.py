"""lm-eval's HFLM, faster, with the same numbers."""

from __future__ import annotations

import functools
import itertools
import logging
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Set
from typing import Any

import torch
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import (
    handle_stop_sequences,
    normalize_gen_kwargs,
    postprocess_generated_text,
)
from lm_eval.models.utils_hf import clear_torch_cache
from tqdm import tqdm

from slimlib.common.hardware import free_bytes
from slimlib.scoring.cache import token_bytes
from slimlib.scoring.decoding import Decoding, Ends
from slimlib.scoring.endings import compute_prefix, score
from slimlib.scoring.finite import Watching, check, naming
from slimlib.scoring.forward import Forward, Work
from slimlib.scoring.packing import (
    Family,
    Scored,
    Tokens,
    batch_end,
    by_length,
    families,
    make_sequences,
)
from slimlib.scoring.support import only_greedy, out_of_memory, plain_network, why_stock

# Tokens in one pass, and prompts side by side. On a CPU larger passes are no faster, and keys and
# values of more rows leave its cache; a GPU wants some thousand tokens to be busy.
ON_A_CPU = (1024, 16)
ON_A_GPU = (8192, 64)
# Of the free memory, for keys and values; the rest is for what a pass makes.
MEMORY_SHARE = 0.5

Request = tuple[tuple[str, str] | None, list[int], list[int]]

logger = logging.getLogger("lm_eval")


@register_model("slim")
class SlimLM(Watching, HFLM):
    """HFLM that computes shared tokens once, and no row that has ended.

    Takes all of HFLM's arguments and answers as it does. `batch_size` is used only where HFLM's own
    code runs: where `stock_reason` names a reason, for generation that is not plain greedy
    decoding, and for the number of windows of a rolling log-likelihood.

    The floor of scoring is 2 N FLOPs a token and 2 d V a scored position (N weights of the linear
    layers, d hidden size, V vocabulary), each token of a context counted once; HFLM spends both on
    every token of every ending. The floor of decoding is reading the weights once a step and each
    row's keys and values once a token. Measured on two CPU cores in float32 with Llama 3.2 1B's
    shape cut to 4 layers (figures/scoring): HellaSwag at 123 GFLOP/s and MMLU at 138 of that count,
    attention left out, where one large matrix product runs at 188: 1.5 and 1.4 times the floor.

    Args:
        *args: of HFLM.
        token_budget: most tokens in one pass, shared ones counted once; None: by the device.
        max_rows: most prompts that are generated side by side; None: by the device. Fewer where
            their keys and values would not fit into half of the free memory.
        **kwargs: of HFLM.

    Example:

        lm = slimlib.SlimLM(pretrained="unsloth/Llama-3.2-1B", dtype="float16")
        lm_eval.simple_evaluate(model=lm, tasks=["hellaswag"])

    Raises:
        ValueError: token_budget or max_rows is not a whole number of 1 or more.
        NotFiniteError: while answering, of a log-likelihood or logit that is not a number.
    """

    def __init__(
        self,
        *args: Any,
        token_budget: int | None = None,
        max_rows: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        budget, rows = ON_A_CPU if self.device.type == "cpu" else ON_A_GPU
        self.token_budget = _whole("token_budget", token_budget, budget)
        self.max_rows = _whole("max_rows", max_rows, rows)
        self.work = Work()  # what was computed since this was last set
        # (kind, arguments) -> an answer of an earlier session, or None
        self.kept: Callable[[str, Any], Any] = lambda kind, request: None
        self._reasons: dict[int, str | None] = {}

    @property
    def stock_reason(self) -> str | None:
        """Why everything goes to HFLM's own code, or None; a trial finds it at the first use."""
        model = id(self.model)
        if model not in self._reasons:
            self._reasons[model] = reason = why_stock(self)
            if reason:
                logger.warning("SlimLM leaves this model to HFLM: %s", reason)
        return self._reasons[model]

    def make_forward(self) -> Forward:
        """The model's decoder and head as they are now, in HFLM's mixed precision."""
        autocast = functools.partial(
            torch.autocast,
            device_type=self.device.type,
            dtype=self.mixed_precision_dtype,
            enabled=self.mixed_precision_dtype is not None,
        )
        return Forward(plain_network(self.model), self.device, self.work, autocast)

    # ------------------------------------------------------------------------- log-likelihoods

    def loglikelihood(
        self, requests: list[Any], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """As HFLM's."""
        with naming(self, requests):
            answers = super().loglikelihood(requests, disable_tqdm)
            for request, (value, _) in zip(requests, answers, strict=True):
                check(value, request.args)  # of HFLM's own code; ours stops as it goes
        return answers

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        if self.stock_reason:
            return super()._loglikelihood_tokens(requests, disable_tqdm, override_bs)
        answers: list[Any] = [key and self.kept("loglikelihood", key) for key, *_ in requests]
        known = {index for index, answer in enumerate(answers) if answer is not None}
        forward = self.make_forward()
        with self._bar("loglikelihood", len(requests), disable_tqdm) as bar, forward.ready():
            for index, *answer in self._scored(forward, requests, known):
                answers[index] = tuple(answer)
                if requests[index][0] is not None:  # a window of a rolling one has no key
                    check(answer[0], requests[index][0])
                    self.cache_hook.add_partial("loglikelihood", requests[index][0], tuple(answer))
                bar.update()
        return answers

    def _scored(
        self, forward: Forward, requests: list[Request], known: Set[int] = frozenset()
    ) -> Iterator[tuple[int, float, bool]]:
        """Answers as they are made: place of the request, log-likelihood, is_greedy.

        What is known is not answered, yet batched with the rest: the last digits of an answer
        depend on what is computed beside it.
        """
        sequences = make_sequences([(c, e) for _, c, e in requests], self.max_length)

        def many_passes(family: Family) -> bool:
            """What fits into one pass is computed once there, too."""
            new = sum(len(sequences[i].tokens) - len(family.prefix) for i in family.members)
            return len(family.prefix) + new > self.token_budget

        for prefix, members in families([scored.context for scored in sequences], many_passes):
            if _all_known([sequences[member] for member in members], known):
                continue
            cache = compute_prefix(forward, prefix)
            ordered = by_length([sequences[member] for member in members])
            begin, start = 0, len(prefix)
            while begin < len(ordered):
                batch = ordered[begin : batch_end(ordered, begin, start, self.token_budget)]
                if _all_known(batch, known):
                    begin += len(batch)
                    continue
                answers = None
                try:
                    answers = score(forward, batch, start, cache, self.softmax_dtype)
                except RuntimeError as error:
                    if len(batch) == 1 or not out_of_memory(error):
                        raise
                if answers is None:  # not in the handler, whose traceback holds what was made
                    used = sum(len(scored.tokens) - start for scored in batch)
                    self.token_budget = max(1, min(self.token_budget, used) // 2)
                    self._free("token_budget", self.token_budget)
                    continue
                if not all(math.isfinite(value) for _, value, _ in answers):
                    # NaN spreads in a pass, even from where attention is masked: which is it?
                    alone = (score(forward, [s], start, cache, self.softmax_dtype) for s in batch)
                    answers = itertools.chain.from_iterable(alone)
                yield from (answer for answer in answers if answer[0] not in known)
                begin += len(batch)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """As HFLM's, all windows in one call: they are batched by their tokens here."""
        asked = self.batch_size_per_gpu
        if not self.stock_reason:
            self.batch_size_per_gpu = sys.maxsize
        try:
            answers = super().loglikelihood_rolling(requests, disable_tqdm)
        finally:
            self.batch_size_per_gpu = asked
        with naming(self, requests):
            for request, answer in zip(requests, answers, strict=True):
                check(answer, request.args)
        return answers

    # ----------------------------------------------------------------------------- generation

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Answer each request, greedily; what is not plain greedy decoding, as HFLM does."""
        with naming(self, requests):
            return self._answer(requests, disable_tqdm)

    def _answer(self, requests: list[Any], disable_tqdm: bool) -> list[str]:
        if self.stock_reason or not only_greedy(self.model.generation_config):
            return super().generate_until(requests, disable_tqdm)
        groups: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            groups.setdefault(repr(request.args[1]), []).append(index)
        answers: list[Any] = [None] * len(requests)
        for members in groups.values():
            chosen = [requests[member] for member in members]
            for member, answer in zip(members, self._generate(chosen, disable_tqdm), strict=True):
                answers[member] = answer
        return answers

    def _generate(self, requests: list[Any], disable_tqdm: bool) -> list[str]:
        """Requests of the same generation arguments."""
        kwargs = normalize_gen_kwargs(requests[0].args[1], self.max_gen_toks)
        eos = self.tok_decode(self.eot_token_id, skip_special_tokens=False)
        until = handle_stop_sequences(kwargs.pop("until"), eos=eos)
        room = self.max_length - kwargs["max_gen_toks"]
        if room <= 0:
            raise ValueError(
                f"max_gen_toks={kwargs['max_gen_toks']} leaves no room for a prompt: "
                f"max_length={self.max_length} must be larger"
            )
        known = set(kwargs) <= {"do_sample", "temperature", "max_gen_toks"}
        plain = known and not kwargs["do_sample"] and kwargs["max_gen_toks"] > 0
        prompts = [self._prompt(request.args[0], room) for request in requests] if plain else []
        if not all(prompts) or not plain:  # no token to begin with: HFLM knows, or says
            return super().generate_until(requests, disable_tqdm)
        ends = Ends(self.tokenizer, until, self._end_tokens(), kwargs["max_gen_toks"])
        answers: list[Any] = [None] * len(requests)
        forward = self.make_forward()
        with self._bar("generate_until", len(requests), disable_tqdm) as bar:

            def done(index: int, tokens: list[int]) -> None:
                answers[index] = self._text(tokens, until)
                self.cache_hook.add_partial("generate_until", requests[index].args, answers[index])
                bar.update()

            with forward.ready(), naming(self, requests):
                for family in families(prompts, self._fills_rows):
                    self._decode(forward, family, prompts, ends, answers, done)
        return answers

    def _fills_rows(self, family: Family) -> bool:
        """On a GPU a step costs the same for few rows as for many: small families go together."""
        return self.device.type == "cpu" or len(family.members) >= self.max_rows

    def _decode(
        self,
        forward: Forward,
        family: Family,
        prompts: list[Tokens],
        ends: Ends,
        answers: list[Any],
        done: Callable[[int, list[int]], None],
    ) -> None:
        """Answer the prompts of one family; with fewer rows again where memory is short."""
        while waiting := [i for i in family.members if answers[i] is None]:
            length = max(len(prompts[i]) for i in waiting) + ends.max_new_tokens
            room = MEMORY_SHARE * free_bytes(self.device)
            fit = int(room / (length * token_bytes(forward.network)))
            rows = max(1, min(self.max_rows, len(waiting), fit))
            todo = [(i, prompts[i]) for i in waiting]
            try:
                Decoding(forward, ends, family.prefix, rows, length, self.token_budget).run(
                    todo, done
                )
                return
            except RuntimeError as error:
                if rows == 1 or not out_of_memory(error):
                    raise
            self.max_rows = rows // 2
            self._free("max_rows", self.max_rows)

    def _prompt(self, context: str, room: int) -> Tokens:
        """Token ids as HFLM makes them, the window's beginning cut off."""
        ids, _ = self.tok_batch_encode(
            [context], left_truncate_len=room, truncation=self.truncation
        )
        return tuple(ids[0].tolist())

    def _end_tokens(self) -> frozenset[int]:
        eos = self.model.generation_config.eos_token_id
        return frozenset([eos] if isinstance(eos, int) else eos or [])

    def _text(self, tokens: list[int], until: list[str]) -> str:
        """An answer's text: behind the thoughts, before the first stop string, as in HFLM."""
        think = self.think_end_token
        if isinstance(think, int):
            thought = len(tokens) - tokens[::-1].index(think) if think in tokens else 0
            text = self.tok_decode(tokens[thought:]).lstrip()
            return postprocess_generated_text(text, until, None)
        return postprocess_generated_text(self.tok_decode(tokens), until, think)

    # --------------------------------------------------------------------------------- memory

    def _free(self, name: str, value: int) -> None:
        clear_torch_cache()
        logger.warning("out of memory: %s is now %d", name, value)

    def _bar(self, kind: str, total: int, disable: bool) -> tqdm:
        return tqdm(total=total, disable=disable or self.rank != 0, desc=f"Running {kind} requests")


def _all_known(sequences: Iterable[Scored], known: Set[int]) -> bool:
    """Whether every request of some sequences is answered already."""
    return all(asked.index in known for scored in sequences for asked in scored.asked)


def _whole(name: str, value: Any, default: int) -> int:
    """A whole number of 1 or more; lm-eval's command line may give it as a text."""
    if value is None:
        return default
    if not str(value).isdecimal() or int(value) < 1:
        raise ValueError(f"{name}={value!r}: must be a whole number of 1 or more")
    return int(value)
