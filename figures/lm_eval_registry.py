"""slimlib/comparison/lm_eval_tasks.json: what lm-eval's own files say of its tasks and metrics.

    python figures/lm_eval_registry.py

Run it when the supported lm-eval changes, about a minute. It reads the YAML files of the installed
lm-eval; nothing is downloaded. What lm-eval does not say (which ability a benchmark is about, how
many choices its rows have where a function makes them) stands in the tables below.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from lm_eval.api.metrics import stderr_for_metric
from lm_eval.api.registry import (
    DEFAULT_METRIC_REGISTRY,
    get_aggregation,
    get_metric_aggregation,
    is_higher_better,
)
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from slimlib.comparison.benchmarks import REGISTRY, prefixes

# The folder of lm-eval's tasks -> the ability that they are about; all others are "other".
CAPABILITIES = {
    "commonsense": """hellaswag piqa winogrande siqa commonsense_qa copal_id storycloze xstorycloze
        xcopa xwinograd wsc273 swag darijahellaswag egyhellaswag icelandic_winogrande global_piqa
        prost mc_taco openbookqa babi""",
    "knowledge": """mmlu mmlu-pro-plus mmlu-redux mmlu-redux-spanish mmlu_pro mmlu_prox mmlusr
        global_mmlu afrimmlu arabicmmlu darijammlu egymmlu greekmmlu turkishmmlu tmmluplus tmlu
        kmmlu cmmlu ceval aclue aexams arc arc_mt sciq triviaqa nq_open webqs medqa medmcqa
        pubmedqa gpqa agieval headqa kormedmcqa physics_gre eus_exams eus_proficiency eus_trivia
        careqa click csatqa haerae include indicparam med_concepts_qa truthfulqa truthfulqa-multi
        bertaqa libra bear""",
    "maths": """gsm8k gsm8k_platinum gsm_plus hendrycks_math minerva_math mathqa asdiv mgsm
        afrimgsm arithmetic aime hrm8k putnam_axiom graphwalks""",
    "language": """lambada lambada_cloze lambada_multilingual lambada_multilingual_stablelm blimp
        blimp_nl turblimp zhoblimp multiblimp lm_syneval wikitext pile pile_10k c4 paloma
        uncheatable_eval glue super_glue squadv2 squad_completion drop coqa race belebele xnli
        xnli_eu afrixnli indicxnli anli paws-x xquad mlqa tydiqa translation wmt2016 cnn_dailymail
        eus_reading qa4mre qasper scrolls logiqa logiqa2 mutual unscramble mela bhs""",
    "instruction": "ifeval jsonschema_bench",
    "safety": """toxigen realtoxicityprompts crows_pairs winogender bbq cabbq esbbq wmdp
        hendrycks_ethics discrim_eval simple_cooccurrence_bias model_written_evals moral_stories
        histoires_morales""",
}
# Tasks whose folder holds several kinds: the ability by the beginning of their name.
EXCEPTIONS = {
    "leaderboard_ifeval": "instruction",
    "leaderboard_math": "maths",
    "leaderboard_mmlu": "knowledge",
    "leaderboard_gpqa": "knowledge",
    "tinyGSM8k": "maths",
    "tinyArc": "knowledge",
    "tinyMMLU": "knowledge",
    "tinyHellaswag": "commonsense",
    "tinyWinogrande": "commonsense",
}
# Choices of a row where a function or a field of the row makes them: folder -> number.
CHOICES = {
    "hellaswag": 4,
    "darijahellaswag": 4,
    "egyhellaswag": 4,
    "mmlu": 4,
    "arc": 4,  # a few rows have three or five
    "openbookqa": 4,
    "winogrande": 2,
    "icelandic_winogrande": 2,
    "xcopa": 2,
    "copal_id": 2,
    "crows_pairs": 2,
    "logiqa": 4,
    "logiqa2": 4,
    "mathqa": 5,
    "race": 4,
    "mutual": 4,
    "wsc273": 2,
    "xwinograd": 2,
    "paws-x": 2,
    "xnli": 3,
    "xnli_eu": 3,
    "afrixnli": 3,
    "indicxnli": 3,
    "moral_stories": 2,
    "histoires_morales": 2,
}
# Tasks written in Python: what their class reports. An aggregation of its own has no error.
IN_PYTHON = {
    "squadv2": {
        name: ("custom", True)
        for name in (
            *("exact", "f1", "HasAns_exact", "HasAns_f1", "NoAns_exact", "NoAns_f1"),
            *("best_exact", "best_f1"),
        )
    },
    "squad_completion": {"contains": ("custom", True)},
    "fda": {"contains": ("custom", True)},
    "swde": {"contains": ("custom", True)},
    "scrolls_quality": dict.fromkeys(("em", "acc", "acc_norm"), ("mean", True)),
    "scrolls_contractnli": dict.fromkeys(("em", "acc", "acc_norm"), ("mean", True)),
    "scrolls_qasper": {"f1": ("custom", True)},
    "scrolls_narrativeqa": {"f1": ("custom", True)},
    **{
        f"scrolls_{name}": dict.fromkeys(("rouge1", "rouge2", "rougeL"), ("custom", True))
        for name in ("govreport", "summscreenfd", "qmsum")
    },
}

AGGREGATIONS = {"f1_score": "f1", "chrfpp": "chrf++"}  # lm-eval's functions of another name


class Facts(NamedTuple):
    """What is kept of a task; tasks with equal facts are kept together."""

    output_type: str | None
    choices: int | None
    capability: str
    metrics: tuple[tuple[str, str, bool | None], ...]  # name, aggregation, higher is better


def main() -> None:
    """Write the registry."""
    REGISTRY.write_text(text(registry()), encoding="utf-8")
    print(f"{REGISTRY}: {REGISTRY.stat().st_size:,} bytes")


def text(found: Mapping[str, Any]) -> str:
    """JSON with one line a metric and one a kind of task."""
    lines = []
    for key, value in found.items():
        if isinstance(value, str):
            lines.append(f"{json.dumps(key)}: {json.dumps(value)}")
            continue
        rows = [json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in value]
        lines.append(f"{json.dumps(key)}: [\n" + ",\n".join(rows) + "\n]")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def registry() -> dict[str, Any]:
    """The content of the JSON."""
    tasks = read_tasks()
    usual = usual_metrics(tasks.values())
    found: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    labels = {name: _without(facts, usual) for name, facts in tasks.items()}
    for prefix, label in shortest_prefixes(labels):
        found[label].append(prefix)
    metrics = [[name, *usual[name]] for name in sorted(usual)]
    rows = [
        [*label[:3], dict((n, rest) for n, *rest in label[3]), " ".join(sorted(names))]
        for label, names in found.items()
    ]
    return {
        "lm_eval": version("lm_eval"),
        "metrics": metrics,
        "tasks": sorted(rows, key=lambda row: row[-1]),
    }


def read_tasks() -> dict[str, Facts]:
    """Every task and group of the installed lm-eval and its facts: a group's are its tasks' own."""
    index = TaskManager().task_index
    tasks = {
        name: task_facts(name, entry.yaml_path)
        for name, entry in index.items()
        if "TASK" in entry.kind.name and entry.yaml_path is not None
    }
    groups = {name: leaves(name, index) for name in index if name not in tasks}
    found = {
        name: [tasks[leaf] for leaf in below if leaf in tasks] for name, below in groups.items()
    }
    return tasks | {name: _in_common(facts) for name, facts in found.items() if facts}


def _in_common(facts: list[Facts]) -> Facts:
    """What holds of all tasks of a group, and the ability that most of them are about."""
    kinds, choices = {one.output_type for one in facts}, {one.choices for one in facts}
    capability = Counter(one.capability for one in facts).most_common(1)[0][0]
    output_type = kinds.pop() if len(kinds) == 1 else None
    return Facts(output_type, choices.pop() if len(choices) == 1 else None, capability, ())


def leaves(name: str, index: Mapping[str, Any], seen: frozenset[str] = frozenset()) -> list[str]:
    """The tasks under a group or a tag, through groups of groups."""
    entry = index.get(name)
    if entry is None or name in seen:
        return []
    if "TASK" in entry.kind.name:
        return [name]
    listed = _names((entry.cfg or {}).get("task") or sorted(entry.tags))
    return [leaf for one in listed for leaf in leaves(one, index, seen | {name})]


def _names(listed: Any) -> Iterator[str]:
    """Names in a group's list, where a group may be written out inside."""
    if isinstance(listed, str):
        yield listed
    elif isinstance(listed, Mapping):
        yield from _names(listed.get("task") or listed.get("group") or ())
    else:
        for one in listed:
            yield from _names(one)


def task_facts(name: str, path: Path) -> Facts:
    """The facts of the task that one YAML file defines."""
    config = load_yaml(path, resolve_func=False)
    folder = str(path).partition("lm_eval/tasks/")[2].partition("/")[0]
    output_type = config.get("output_type")
    if "class" in config:
        output_type = "generate_until"
    metrics = IN_PYTHON.get(name) or dict(_metrics(config, output_type))
    rows = tuple(sorted((m, aggregation, up) for m, (aggregation, up) in metrics.items()))
    choices = _choices(config, folder) if output_type == "multiple_choice" else None
    return Facts(output_type, choices, _capability(name, folder), rows)


def _capability(name: str, folder: str) -> str:
    for prefix, capability in EXCEPTIONS.items():
        if name.startswith(prefix):
            return capability
    return next((c for c, names in CAPABILITIES.items() if folder in names.split()), "other")


def _choices(config: Mapping[str, Any], folder: str) -> int | None:
    made = config.get("doc_to_choice")
    if isinstance(made, list):
        return len(made)
    if isinstance(made, str) and "{{" in made:
        for node in jinja2.Environment(autoescape=True).parse(made).find_all(jinja2.nodes.Output):
            if len(node.nodes) == 1 and isinstance(node.nodes[0], jinja2.nodes.List):
                return len(node.nodes[0].items)
    return CHOICES.get(folder)


def _metrics(
    config: Mapping[str, Any], output_type: str | None
) -> Iterator[tuple[str, tuple[str, bool | None]]]:
    """A task's metrics: the aggregation's name, "custom" for a function, and the direction."""
    for row in config.get("metric_list") or ():
        name = str(row["metric"])
        known = "/" not in name  # else a function, which the results call by its name
        name = name.rpartition(".")[2] if not known else name
        aggregation = row.get("aggregation")
        if aggregation is None:
            aggregation = _registered(name) if known else "mean"
        better = row.get("higher_is_better")
        better = _direction(name) if better is None and known else better
        yield name, (aggregation if "/" not in str(aggregation) else "custom", better)
    if not config.get("metric_list"):
        for name in DEFAULT_METRIC_REGISTRY.get(output_type, ()):
            yield name, (_registered(name), _direction(name))


def _registered(name: str) -> str:
    """The name of a registered metric's own aggregation; lm-eval takes the mean elsewhere."""
    try:
        function = get_metric_aggregation(name)
    except KeyError:
        return "mean"
    return AGGREGATIONS.get(function.__name__, function.__name__)


def _direction(name: str) -> bool | None:
    try:
        return is_higher_better(name)
    except KeyError:
        return None


def standard_error(aggregation: str) -> str | None:
    """How lm-eval makes the standard error of an aggregation: "mean", "bootstrap" or not at all."""
    if aggregation == "custom":
        return None
    function = get_aggregation(aggregation)
    made = stderr_for_metric(function, bootstrap_iters=100) if function else None
    if made is None:
        return None
    return "bootstrap" if made.__name__ == "<lambda>" else "mean"


def usual_metrics(tasks: Iterable[Facts]) -> dict[str, tuple[str | None, bool | None]]:
    """Each metric's commonest error and direction; tasks that differ say so themselves."""
    seen: dict[str, Counter[tuple[str | None, bool | None]]] = defaultdict(Counter)
    for facts in tasks:
        for name, aggregation, better in facts.metrics:
            seen[name][standard_error(aggregation), better] += 1
    return {name: found.most_common(1)[0][0] for name, found in seen.items()}


def _without(facts: Facts, usual: Mapping[str, tuple[str | None, bool | None]]) -> tuple[Any, ...]:
    """Facts with the metrics that are not as usual only."""
    own = [(name, standard_error(aggregation), up) for name, aggregation, up in facts.metrics]
    return (*facts[:3], tuple(row for row in own if row[1:] != usual[row[0]]))


def shortest_prefixes(labels: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Prefixes of names such that the longest one of a name, from whole to short, has its label."""
    below: dict[str, Counter[Any]] = defaultdict(Counter)
    children: dict[str, set[str]] = defaultdict(set)
    for name, label in labels.items():
        path = [*prefixes(name), ""]
        for prefix in path:
            below[prefix][label] += 1
        for prefix, parent in zip(path, path[1:], strict=False):
            children[parent].add(prefix)

    def walk(prefix: str, inherited: Any) -> Iterator[tuple[str, Any]]:
        label = labels.get(prefix) or below[prefix].most_common(1)[0][0]
        if prefix and label != inherited:
            yield prefix, label
        for child in sorted(children[prefix]):
            yield from walk(child, label if prefix else None)

    yield from walk("", None)


if __name__ == "__main__":
    main()
