"""Requests of lm-eval's own tasks over real rows, and what their answers score."""

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from slimlib.config import EvalConfig, Task
from slimlib.data.tasks import task_yaml

SUBJECTS = ("mmlu_high_school_computer_science", "mmlu_college_computer_science")


class Benchmark(NamedTuple):
    """lm-eval's tasks that are asked together, in one call, as lm-eval does."""

    names: tuple[str, ...]
    num_fewshot: int
    fixed: bool = False  # the same shots before every question, where lm-eval draws them


BENCHMARKS = {
    "hellaswag": Benchmark(("hellaswag",), 0),
    "gsm8k": Benchmark(("gsm8k",), 5),
    "gsm8k-fixed": Benchmark(("gsm8k",), 5, fixed=True),
    "mmlu": Benchmark(SUBJECTS, 0),
    "mmlu-5shot": Benchmark(SUBJECTS, 5),
}


@dataclass(frozen=True)
class Workload:
    """The requests of one benchmark, in lm-eval's order."""

    tasks: tuple[Any, ...]
    requests: list[Any]

    @property
    def generates(self) -> bool:
        """Whether text is asked for, not log-likelihoods."""
        return self.requests[0].request_type == "generate_until"

    @property
    def documents(self) -> list[list[Any]]:
        """The requests of each document."""
        found = defaultdict(list)
        for request in self.requests:
            found[request.task_name, request.doc_id].append(request)
        return list(found.values())

    def ask(self, lm: Any) -> list[Any]:
        """The answers of a model: (log-likelihood, is_greedy) or a string for each request."""
        return getattr(lm, self.requests[0].request_type)(self.requests, disable_tqdm=True)

    def part(self, size: int, batch: int) -> "Workload":
        """About `size` rows: whole batches of `batch` from even places of the sorted documents.

        A model takes its rows sorted by length, so a batch holds neighbours. Rows picked one by
        one would be padded far more, and make large batches look worse than they are.
        """
        documents = sorted(self.documents, key=lambda document: _length(document[0]))
        each = max(1, batch // _rows(documents[0]))  # documents in a batch
        batches = [documents[i : i + each] for i in range(0, len(documents), each)]
        wanted = min(len(batches), max(1, size // batch))
        chosen = [batches[(2 * i + 1) * len(batches) // (2 * wanted)] for i in range(wanted)]
        return replace(self, requests=[r for part in chosen for rows in part for r in rows])

    def tokens(self, lm: Any, answers: Iterable[Any]) -> tuple[int, list[int]]:
        """The requests' tokens, prompt and ending or generated text, and the latter's alone."""
        if not self.generates:
            texts = ("".join(request.args) for request in self.requests)
            return sum(min(len(lm.tok_encode(text)), lm.max_length) for text in texts), []
        longest = [
            request.args[1].get("max_gen_toks", lm.max_gen_toks) for request in self.requests
        ]
        # cut: broken characters, such as a random model's, are read as more tokens than they were
        coded = (len(lm.tok_encode(text, add_special_tokens=False)) for text in answers)
        made = list(map(min, coded, longest))
        asked = (len(lm.tok_encode(request.args[0])) for request in self.requests)
        room = (lm.max_length - most for most in longest)
        return sum(map(min, asked, room)) + sum(made), made

    def scores(self, answers: Sequence[Any]) -> dict[str, float]:
        """What lm-eval makes of the answers: "task/metric,filter" -> score."""
        for request, answer in zip(self.requests, answers, strict=True):
            request.resps, request.filtered_resps = [answer], {}
        found = {}
        for task in self.tasks:
            task.apply_filters()
            found |= {f"{task.task_name}/{name}": x for name, x in _scores(task).items()}
        return found


def _length(request: Any) -> int:
    return sum(len(text) for text in request.args if isinstance(text, str))


def _rows(document: list[Any]) -> int:
    """Rows that stock HFLM makes of a document: endings of one token share their context's."""
    return len({"".join(map(str, request.args))[:-1] for request in document})


def _scores(task: Any) -> dict[str, float]:
    documents, values = defaultdict(list), defaultdict(list)
    for request in task.instances:
        documents[request.doc_id].append(request)
    for name in task.instances[0].filtered_resps:
        for requests in documents.values():
            ordered = sorted(requests, key=lambda request: request.idx)
            answers = [request.filtered_resps[name] for request in ordered]
            for metric, value in task.process_results(ordered[0].doc, answers).items():
                values[metric, name].append(value)
    aggregate = task.aggregation()
    return {f"{metric},{name}": aggregate[metric](x) for (metric, name), x in values.items()}


def load_workload(
    name: str,
    data: Path | None,
    limit: int | None = None,
    max_gen_toks: int | None = None,
    stop: Sequence[str] = (),
) -> Workload:
    """Build a benchmark's requests as lm-eval does.

    Args:
        name: one of BENCHMARKS.
        data: folder of the rows; None reads the hub.
        limit: documents of each of lm-eval's tasks.
        max_gen_toks: instead of lm-eval's 256.
        stop: stop strings beside the task's own.
    """
    benchmark = BENCHMARKS[name]
    tasks = tuple(_load_task(task, benchmark, data) for task in benchmark.names)
    for task in tasks:
        task.build_all_requests(limit=limit, rank=0, world_size=1)
    requests = [request for task in tasks for request in task.instances]
    for request in requests:
        if request.request_type == "generate_until":
            settings = request.args[1]
            settings["until"] = [*settings["until"], *stop]
            settings |= {} if max_gen_toks is None else {"max_gen_toks": max_gen_toks}
    return Workload(tasks, requests)


def _load_task(name: str, benchmark: Benchmark, data: Path | None) -> Any:
    import yaml
    from lm_eval.tasks import TaskManager

    about = Task(name, name, benchmark.num_fewshot, 1, source=name if data else None)
    with tempfile.TemporaryDirectory() as folder:
        path = task_yaml(about, data, Path(folder))
        if benchmark.fixed:
            config = {"include": str(path), "task": name, "fewshot_config": {"sampler": "first_n"}}
            path = Path(folder) / "fixed.yaml"
            path.write_text(yaml.safe_dump(config), encoding="utf-8")
        (task,) = TaskManager(include_defaults=False).load([str(path)])["tasks"].values()
    task.set_config("num_fewshot", benchmark.num_fewshot)
    task.set_fewshot_seed(EvalConfig().fewshot_seed)
    return task
