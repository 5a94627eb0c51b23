"""Makes the result files beside this script: each release of lm-eval evaluates and writes its own.

    python make.py 0.4.13            # one release (or several); `all` makes every one
    python make.py check             # counts every score from documents.json, compares, prints

A release is installed by pip, without its dependencies, into `--packages`; what it imports must be
importable (torch, transformers and datasets of today; EXTRA for the rest). Model and data are the
only stand-ins: the tasks are each release's own YAML files or classes, read over `documents.json`.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
EXTRA = ("jsonlines", "omegaconf", "openai", "pycountry", "tqdm_multiprocess", "zstandard")
SALT = "13"  # of the choices that the models guess
SUBJECTS = ("mmlu_high_school_computer_science", "mmlu_philosophy")
TASKS = "gsm8k,hellaswag,mmlu"
COMMON = ["--device", "cpu", "--batch_size", "4"]


class Run(NamedTuple):
    """One call of a release's command line (or of `simple_evaluate`) for each of the two models."""

    version: str
    folder: str
    tasks: str = TASKS
    options: tuple[str, ...] = ()
    output: str = ""  # below folder/<model>; "": the folder itself
    hour: int = 12  # of the time stamp, so that two runs of one model differ


LOG = ("--log_samples",)
ZERO = (*LOG, "--num_fewshot", "0")
CHAT = ("--num_fewshot", "1", "--apply_chat_template", "--fewshot_as_multiturn", "true")
RUNS = [
    Run("0.3.0", "0.3.0", output="results.json"),
    Run("0.4.0", "0.4.0", "gsm8k,mmlu", LOG),
    Run("0.4.2", "0.4.2", "gsm8k,mmlu_stem", ZERO),
    Run("0.4.3", "0.4.3", "gsm8k,mmlu", ZERO),
    Run("0.4.5", "0.4.5", "mmlu", LOG),
    Run("0.4.8", "0.4.8", "hellaswag", LOG),
    Run("0.4.9.2", "0.4.9.2", "gsm8k,mmlu_stem", ZERO),
    Run("0.4.9.2", "0.4.9.2-twice", "hellaswag,mmlu_philosophy", (*LOG, "--limit", "1")),
    Run("0.4.9.2", "0.4.9.2-twice", "hellaswag", (*LOG, "--limit", "3"), hour=13),
    Run("0.4.12", "0.4.12", "hellaswag", (*LOG, "--limit", "0.5")),
    Run("0.4.13", "0.4.13", options=ZERO),
    Run("0.4.13", "0.4.13-aggregates", "gsm8k,mmlu"),
    Run("0.4.13", "0.4.13-file", "mmlu_philosophy", LOG, output=".json"),
    Run("0.4.13", "0.4.13-limit4", "hellaswag", (*LOG, "--limit", "4")),
    Run("0.4.13", "0.4.13-chat", "gsm8k", (*LOG, "--limit", "2", *CHAT)),
    Run("0.4.13", "0.4.13-simple_evaluate", "gsm8k,mmlu_philosophy", output="simple_evaluate.json"),
]


# The documents and the model ------------------------------------------------------------------


def documents() -> dict[str, Any]:
    """The documents of every task, what the two models know, and their written answers."""
    return json.loads((HERE / "documents.json").read_text())


def evaluated(task: str) -> list[dict[str, Any]]:
    """The documents of a task that are scored (the others are few-shot examples)."""
    splits = documents()[task]
    return splits.get("test") or splits["validation"]


def key(document: dict[str, Any]) -> str:
    """The words by which a document is found again in a prompt."""
    return document["question"] if "question" in document else document["ctx_a"].split("] ")[-1]


def loglikelihoods(task: str, model: str, index: int) -> list[float]:
    """The stand-in's log-likelihood of each choice of a document.

    A choice of length l gets -l * (1 + 3h), h in [0, 1) from a hash of model, document and choice;
    h = 0 for the gold choice of a document that the model knows. An MMLU choice counts as l = 5.
    """
    document = evaluated(task)[index]
    choices = document.get("choices") or document["endings"]
    known = index in documents()[task]["known"][model]
    values = []
    for i, choice in enumerate(choices):
        digest = hashlib.sha256(f"{SALT}|{model}|{key(document)}|{i}".encode()).hexdigest()
        fraction = 0.0 if known and i == gold(document) else int(digest[:8], 16) / 2**32
        length = 5 if "question" in document else len(choice)
        values.append(-round(length * (1 + 3 * fraction), 4))
    return values


def gold(document: dict[str, Any]) -> int:
    """The index of the right choice."""
    return int(document["answer"] if "answer" in document else document["label"])


def locate(prompt: str) -> tuple[str, int]:
    """Task and index of the document that a prompt asks about: the one named last in it."""
    places = [
        (prompt.rfind(key(document)), task, index)
        for task in documents()
        for index, document in enumerate(evaluated(task))
    ]
    position, task, index = max(places)
    if position < 0:
        raise ValueError(f"the prompt names no document of documents.json: {prompt!r}")
    return task, index


class StandIn:
    """A language model's interface without a model; each release's LM class is mixed in."""

    def __init__(self, pretrained: str, **_: Any) -> None:
        super().__init__()
        self.pretrained, self.model = pretrained, pretrained.split("/")[-1]
        self.tokenizer = SimpleNamespace(
            pad_token="<pad>", pad_token_id=0, eos_token="</s>", eos_token_id=2
        )
        self.tokenizer.bos_token, self.tokenizer.bos_token_id = "<s>", 1
        self.eot_token_id, self.max_length = 2, 2048
        self.tokenizer_name = pretrained.replace("/", "__")

    def loglikelihood(self, requests: list, **_: Any) -> list[tuple[float, bool]]:
        return [self._one_choice(*getattr(request, "args", request)) for request in requests]

    def _one_choice(self, prompt: str, continuation: str) -> tuple[float, bool]:
        task, index = locate(prompt)
        document, choice = evaluated(task)[index], continuation.strip()
        choices = document.get("choices") or document["endings"]
        place = choices.index(choice) if choice in choices else "ABCD".index(choice)
        return loglikelihoods(task, self.model, index)[place], False

    def generate_until(self, requests: list, **_: Any) -> list[str]:
        return [self._one_answer(*getattr(request, "args", request)) for request in requests]

    greedy_until = generate_until  # its name in 0.3

    def _one_answer(self, prompt: str, until: Any) -> str:
        task, index = locate(prompt)
        answer = documents()[task]["answers"][self.model][index]
        for stop in until["until"] if isinstance(until, dict) else until:
            answer = answer.split(stop)[0]
        return answer

    def loglikelihood_rolling(self, requests: list, **_: Any) -> list[float]:
        raise NotImplementedError("no task here needs the likelihood of whole texts")

    def get_model_info(self) -> dict[str, Any]:
        # the four entries that the harness' Hugging Face model gives
        return {
            "model_num_parameters": 1234,
            "model_dtype": "torch.float32",
            "model_revision": "main",
            "model_sha": "",
        }

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        turn = "<|{{ message.role }}|>{{ message.content }}"
        return "{% for message in messages %}" + turn + "{% endfor %}" if chat_template else None

    def apply_chat_template(self, chat_history: list, add_generation_prompt: bool = True) -> str:
        turns = "".join(f"<|{turn['role']}|>{turn['content']}" for turn in chat_history)
        return turns + "<|assistant|>" * add_generation_prompt


# Making an old release run --------------------------------------------------------------------


def serve_documents() -> None:
    """`datasets.load_dataset` gives the documents of this folder instead of asking the network."""
    import datasets

    def load(path: str, name: str | None = None, **_: Any) -> datasets.DatasetDict:
        subject = name if path.split("/")[-1] in ("mmlu_no_train", "mmlu", "hendrycks_test") else ""
        splits = documents()[f"mmlu_{subject}" if subject else path.split("/")[-1]]
        rows = {split: docs for split, docs in splits.items() if split not in ("known", "answers")}
        rows.setdefault("validation", rows.get("dev", []))
        rows.setdefault("train", rows["validation"][:1])
        return datasets.DatasetDict(
            {split: datasets.Dataset.from_list(docs) for split, docs in rows.items() if docs}
        )

    datasets.load_dataset = load


def exact_match(predictions: list, references: list, **options: Any) -> dict[str, float]:
    """The hub's `exact_match`, which 0.4.0 to 0.4.2 would fetch: equal after the deletions."""
    pairs = []
    for texts in (predictions, references):
        for pattern in options.get("regexes_to_ignore") or ():
            texts = [re.sub(pattern, "", text) for text in texts]
        pairs.append([text.lower() if options.get("ignore_case") else text for text in texts])
    hits = [left == right for left, right in zip(*pairs, strict=True)]
    return {"exact_match": sum(hits) / len(hits)}


def stub_models() -> ModuleType:
    """Stand in for `lm_eval.models`, whose old model classes today's transformers cannot load."""
    import datasets
    import evaluate

    datasets.load_metric = None  # gone from datasets; 0.4.0 imports the name
    evaluate.load = lambda name, *_, **__: SimpleNamespace(compute=exact_match)
    models = ModuleType("lm_eval.models")
    models.huggingface = SimpleNamespace()
    sys.modules["lm_eval.models"] = models
    return models


def own_tasks(package: Path, target: Path) -> None:
    """Copy the release's own task files, with two subjects left of MMLU's fifty-seven."""
    names = ["gsm8k/gsm8k.yaml", "hellaswag/hellaswag.yaml", "hellaswag/utils.py"]
    names += [f"mmlu/default/{subject}.yaml" for subject in SUBJECTS]
    names += [f"mmlu/default/_mmlu{end}.yaml" for end in ("", "_stem", "_humanities")]
    for name in [*names, "mmlu/default/_default_template_yaml"]:
        if (package / "tasks" / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(package / "tasks" / name, target / name)
    group = target / "mmlu/default/_mmlu.yaml"
    group.write_text(re.sub(r"  - mmlu_(other|social_sciences)\n", "", group.read_text()))


def stop_clocks(hour: int, minute: int) -> None:
    """Fixed times, so that a second making gives the same bytes."""
    import lm_eval.evaluator

    stamp = f"2025-01-02T{hour:02d}:{minute:02d}:56.789012"
    seconds = 1735776056.0 + 3600 * hour + 60 * minute
    clock = SimpleNamespace(time=lambda: seconds, perf_counter=lambda: 1.0)
    lm_eval.evaluator.time = clock
    try:
        tracker = importlib.import_module("lm_eval.loggers.evaluation_tracker")
    except ModuleNotFoundError:  # before 0.4.3 nothing is stamped
        return
    tracker.time = clock
    tracker.datetime = SimpleNamespace(
        now=lambda: SimpleNamespace(isoformat=lambda: stamp), min=tracker.datetime.min
    )


def stand_in(base: type) -> type:
    """The stand-in as a subclass of the release's LM."""
    return type("StandInLM", (StandIn, base), {"tokenizer_name": None})


# One run --------------------------------------------------------------------------------------


def run_old(run: Run, model: str, output: Path) -> None:
    """0.3: what the repository's main.py did (the package on PyPI has no command line)."""
    from lm_eval import base, evaluator, models

    models.MODEL_REGISTRY["gpt2"] = stand_in(base.LM)
    results = evaluator.simple_evaluate(
        model="gpt2",
        model_args=f"pretrained=stand-in/{model}",
        tasks=["gsm8k", "hellaswag", *(s.replace("mmlu_", "hendrycksTest-") for s in SUBJECTS)],
        num_fewshot=0,
        batch_size=4,
        device="cpu",
        no_cache=True,
        description_dict={},
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=2))


def prepare(run: Run, minute: int) -> type:
    """Import a release of 0.4, give it the stand-ins and its own tasks, and return the model."""
    import torch.utils.collect_env

    torch.utils.collect_env.get_pretty_env_info = lambda: "left out"  # it describes the machine
    eager = tuple(int(part) for part in run.version.split(".")) < (0, 4, 10)
    models = stub_models() if eager else None
    import lm_eval.api.registry
    import lm_eval.evaluator
    import lm_eval.tasks
    from lm_eval.api.model import LM

    model = stand_in(LM)
    if models:
        lm_eval.models, models.huggingface.HFLM = models, model
    lm_eval.api.registry.get_model = lambda name: model
    own_tasks(Path(lm_eval.__file__).parent, Path("tasks"))
    manager = importlib.import_module("lm_eval.tasks" if eager else "lm_eval.tasks.manager")
    manager.__file__ = str(Path("tasks", "manager.py").resolve())
    stop_clocks(run.hour, minute)
    return model


def run_new(run: Run, model: str, output: Path) -> None:
    """0.4: the release's own command line; or `simple_evaluate`, its return value as JSON."""
    stand_in_class = prepare(run, minute=34 if model == "base" else 40)
    arguments = f"pretrained=stand-in/{model},dtype=float32"
    if run.output == "simple_evaluate.json":
        import lm_eval

        results = lm_eval.simple_evaluate(
            model=stand_in_class(f"stand-in/{model}"),
            tasks=run.tasks.split(","),
            num_fewshot=0,
            limit=3,
        )
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(results, default=str))
        return
    sys.argv = ["lm_eval", "--model", "hf", "--model_args", arguments, "--tasks", run.tasks]
    sys.argv += [*COMMON, "--output_path", str(output), *run.options]
    importlib.import_module("lm_eval.__main__").cli_evaluate()


def run_one(number: int, model: str) -> None:
    """One run in this process, in an empty folder, so that no path of the machine gets in."""
    run = RUNS[number]
    serve_documents()
    name = f"{model}{run.output}" if run.output == ".json" else f"{model}/{run.output}"
    output = Path(run.folder, name)
    (run_old if run.version == "0.3.0" else run_new)(run, model, output)


def neutralise(folder: Path) -> None:
    """Take the folder's own path and addresses in memory out of what was written."""
    for path in folder.rglob("*.json*"):
        text = path.read_text().replace(f"{folder.resolve()}/", "lm_eval/")
        path.write_text(re.sub(r" at 0x[0-9a-f]+>", " at 0x0>", text))


def make(version: str, packages: Path) -> None:
    """Install a release if need be, run its RUNS, and put what they wrote beside this script."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target"]
    if not (packages / version).exists():
        subprocess.run([*pip, packages / version, f"lm-eval=={version}"], check=True)
    if not (packages / "extra").exists():
        subprocess.run([*pip, packages / "extra", *EXTRA], check=True)
    path = os.pathsep.join(str(packages / name) for name in (version, "extra"))
    environment = dict(os.environ, PYTHONPATH=path, HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
    for folder in {run.folder for run in RUNS if run.version == version}:
        shutil.rmtree(HERE / folder, ignore_errors=True)
    for number, run in enumerate(RUNS):
        for model in ("base", "tuned") if run.version == version else ():
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, __file__, "--run", str(number), model]
                subprocess.run(command, check=True, cwd=folder, env=environment)
                neutralise(Path(folder))
                shutil.copytree(Path(folder, run.folder), HERE / run.folder, dirs_exist_ok=True)


# Counting the scores again --------------------------------------------------------------------


def number(text: str) -> str:
    """A written number without separators: '1,250' and '$1250.' are '1250'."""
    return re.sub(r"[,$]|\.$", "", text)


def scored_answer(model: str, index: int, version: str) -> dict[str, bool]:
    """Whether a gsm8k answer is right: the number after ####, or the last number in it."""
    document = evaluated("gsm8k")[index]
    right = number(document["answer"].split("#### ")[1])
    answer = documents()["gsm8k"]["answers"][model][index].split("Question:")[0]
    if version == "0.3.0":  # its answers end with the first line
        answer = answer.split("\n")[0]
    marked = re.search(r"#### (-?[\d.,]+)", answer)
    strict = marked is not None and number(marked[1]) == right
    last = (re.findall(r"-?[$\d.,]{2,}|-?\d+", answer) or ["none"])[-1]
    if version in ("0.3.0", "0.4.0"):
        return {"acc,none" if version == "0.3.0" else "exact_match,get-answer": strict}
    flexible = number(last) == right
    return {"exact_match,strict-match": strict, "exact_match,flexible-extract": flexible}


def scored(task: str, model: str, index: int, version: str) -> dict[str, bool]:
    """Whether a model answers a document right, by "metric,filter", from documents.json alone."""
    if task == "gsm8k":
        return scored_answer(model, index, version)
    document = evaluated(task)[index]
    sums = loglikelihoods(task, model, index)
    lengths = [len(choice) for choice in document.get("choices") or document["endings"]]
    means = [value / length for value, length in zip(sums, lengths, strict=True)]
    found = {"acc,none": sums.index(max(sums)) == gold(document)}
    if task == "hellaswag" or version == "0.3.0":
        found["acc_norm,none"] = means.index(max(means)) == gold(document)
    return found


def rows(task: str, model: str, version: str, n: int | None = None) -> dict[str, list[bool]]:
    """Right or wrong for the first n documents of a task, by "metric,filter"."""
    every = [scored(task, model, index, version) for index in range(len(evaluated(task)))][:n]
    return {name: [document[name] for document in every] for name in every[0]}


def check() -> None:
    """Compare every aggregate in the files with the count from documents.json; print the table."""
    table: dict[tuple[str, str, str], dict[str, str]] = {}
    for path in sorted(HERE.glob("*/**/*.json")):
        folder = path.relative_to(HERE).parts[0]
        label = f"{folder}, {path.name[19:21]} h" if folder.endswith("twice") else folder
        model = "tuned" if "tuned" in str(path.relative_to(HERE)) else "base"
        for (task, metric), hits in counts(path, folder.split("-")[0], model).items():
            marks = "".join("01"[hit] for hit in hits)
            cell = table.setdefault((label, task, metric), {})
            cell[model] = f"{marks} = {sum(hits)}/{len(hits)}"
    for names, cells in table.items():
        print("|", " | ".join([*names, cells["base"], cells["tuned"]]), "|")


def counts(path: Path, version: str, model: str) -> dict[tuple[str, str], list[bool]]:
    """Right or wrong by (task, metric) for one results file, whose values must be their means."""
    groups = {"mmlu": SUBJECTS, "mmlu_stem": SUBJECTS[:1], "mmlu_humanities": SUBJECTS[1:]}
    data, found = json.loads(path.read_text()), {}
    for task, written in data["results"].items():
        name = task.replace("hendrycksTest-", "mmlu_")
        n = data.get("n-samples", {}).get(task, {}).get("effective")
        parts = [rows(part, model, version, n) for part in groups.get(name, (name,))]
        for metric in parts[0]:
            key = metric.split(",")[0] if version == "0.3.0" else metric
            hits = found[task, key] = [hit for part in parts for hit in part[metric]]
            if abs(written[key] - sum(hits) / len(hits)) > 1e-12:
                raise ValueError(f"{path}: {task} {key} is {written[key]}, counted {hits}")
    return found


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("versions", nargs="*", help="releases, `all`, or `check`")
    parser.add_argument("--packages", type=Path, default=Path(tempfile.gettempdir(), "lm_evals"))
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        return run_one(int(arguments.run[0]), arguments.run[1])
    if arguments.versions == ["check"]:
        return check()
    every = list(dict.fromkeys(run.version for run in RUNS))
    for version in every if arguments.versions == ["all"] else arguments.versions:
        make(version, arguments.packages.resolve())


if __name__ == "__main__":
    main()
