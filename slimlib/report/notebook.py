"""Small tables and sentences for the notebooks: every word of a claim is made from records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from slimlib.common.files import read_jsonl
from slimlib.comparison.arms import Record, by_arm, compare_all, results_of
from slimlib.comparison.benchmarks import BENCHMARKS
from slimlib.config import Study
from slimlib.metrics.text import interval, number, p_cell


def plan_table(study: Study) -> pd.DataFrame:
    """One line per arm: what will be trained, merged and compared."""
    rows = []
    for arm in study.arms:
        adapter, data, train = arm.adapter, arm.data, arm.train
        own = arm.trains
        rows.append(
            {
                "arm": arm.name,
                "model": arm.model.name,
                "rows": f"{data.n or 'all'} {data.dataset}" if own else "-",
                "r": adapter.r if own else f"of {arm.adapter_from}" if arm.adapter_from else "-",
                "learning rate": f"{train.learning_rate:g}" if own else "-",
                "weights": arm.merge.merge_base if adapter else "NF4" if arm.quantise else "as is",
                "compared with": arm.compared_with or "-",
            }
        )
    return pd.DataFrame(rows).set_index("arm")


def training_table(records: Sequence[Record]) -> pd.DataFrame:
    """What each fine-tuning read, took and changed."""
    rows = []
    for record in records:
        stage = record["stages"].get("finetune")
        if not stage or stage["status"] != "done":
            continue
        share = 100 * stage["trainable_parameters"] / stage["parameters"]
        rows.append(
            {
                "arm": record["arm"],
                "rows": stage["rows"],
                "truncated": stage["truncated_rows"],
                "steps": stage["optimizer_steps"],
                "mean loss": round(stage["train_loss"], 3),
                "trainable": f"{stage['trainable_parameters']:,} ({share:.2f} %)",
                "tokens/s": round(stage["tokens_per_second"]),
                "peak GB": round(stage["peak_memory_gb"], 2),
                "seconds": round(stage["seconds"]),
            }
        )
    return pd.DataFrame(rows)


def loss_sentences(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """From where to where the training loss of each arm went."""
    losses = {arm: [row for row in rows if "loss" in row] for arm, rows in logs.items()}
    return "\n".join(
        f"{arm}: loss {rows[0]['loss']:.2f} at step {rows[0]['step']}, "
        f"{rows[-1]['loss']:.2f} at step {rows[-1]['step']}"
        for arm, rows in losses.items()
        if rows
    )


def merge_table(records: Sequence[Record]) -> pd.DataFrame:
    """How far each merged model is from its base W with the adapter."""
    rows = []
    for record in records:
        stage = record["stages"].get("merge")
        if stage and stage["status"] == "done":
            check = stage["logit_check"]
            columns = ("share_of_range", "tolerance", "kl_nats", "top1_agreement", "equal")
            row = {"arm": record["arm"], "W": stage["merge_base"], "dtype": stage["dtype"]}
            rows.append(row | {column: check[column] for column in columns})
    return pd.DataFrame(rows)


def merge_sentences(records: Sequence[Record]) -> str:
    """Which merges kept the function, in words."""
    trained_in_4bit = {r["arm"]: r["config"]["model"]["load_in_4bit"] for r in records}
    lines = []
    for row in merge_table(records).to_dict("records"):
        kept = "computes what was trained" if row["equal"] else "computes something else"
        if row["equal"] and row["W"] == "16bit" and trained_in_4bit[row["arm"]]:
            kept = "computes the un-quantised base with the adapter, which was trained in 4 bit"
        lines.append(
            f"{row['arm']}: {kept} (largest logit difference {row['share_of_range']:.1e} of the "
            f"range, tolerance {row['tolerance']:.0e}; same top token in "
            f"{100 * row['top1_agreement']:.0f} % of positions)"
        )
    return "\n".join(lines)


def scores_table(records: Sequence[Record]) -> pd.DataFrame:
    """Every metric of every arm, per cent ± one standard error."""
    rows = []
    for record in records:
        for name, task in record["stages"].get("evaluate", {}).get("tasks", {}).items():
            for metric, result in task["metrics"].items():
                error = result["stderr"]
                shown = f"{100 * result['value']:.1f}"
                shown += f" ± {100 * error:.1f}" if error is not None else ""
                row = {"task": name, "metric": metric, "n": task["n"], "arm": record["arm"]}
                rows.append(row | {"score": shown, "cut": task["truncated"]})
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    wide = table.pivot(index=["task", "metric", "n"], columns="arm", values="score")
    wide["truncated prompts"] = table.groupby(["task", "metric", "n"])["cut"].sum()
    order = [record["arm"] for record in records if record["arm"] in wide]
    return wide[[*order, "truncated prompts"]].fillna("-")


def first_answer(folder: Path, role: str, records: Sequence[Record]) -> str:
    """The first question of a benchmark and what one arm answered."""
    record = next(r for r in records if r["arm"] == folder.name)
    tasks = record["stages"]["evaluate"]["tasks"].items()
    name = next(name for name, task in tasks if task["role"] == role)
    sample = read_jsonl(folder / "eval" / name / "samples.jsonl")[0]
    question = sample["doc"]["question"]
    answer = sample["resps"][0][0].strip()
    return f"Question: {question}\nExpected: {sample['target']}\nAnswered: {answer}"


# -------------------------------------------------------------------------------------- sentences


def verdict_table(records: Sequence[Record], study: Study) -> pd.DataFrame:
    """Each arm's verdict on each benchmark, against the arm that its record names."""
    rows = []
    for arm, comparison in compare_all(by_arm(records, study)).items():
        for role, label in study.task_labels.items():
            change = comparison.of(role)
            if change:
                value, limits = number(change.difference.value, 1, "+"), change.difference
                rows.append(
                    {
                        "arm": study[arm].label,
                        "against": comparison.base.name,
                        "benchmark": label,
                        "base %": number(change.base, 1),
                        "tuned %": number(change.tuned, 1),
                        "change, 95 % interval": f"{value} points {interval(limits, '+', 1)}",
                        "p (Holm)": p_cell(change.p_holm),
                        "verdict": change.verdict,
                    }
                )
    return pd.DataFrame(rows)


def beside_seeds(
    records: Sequence[Record], committed: Mapping[int, Sequence[Record]]
) -> pd.DataFrame | str:
    """This run's headline scores beside the committed seeds', in per cent."""
    if not committed:
        return "no committed records of this study lie beside this installation"
    runs = {"this run": records} | {f"seed {s}": r for s, r in committed.items()}
    columns = {}
    for name, some in runs.items():
        for arm, group in by_arm(some).items():
            for role, benchmark in BENCHMARKS.items():
                for result in results_of(group, role, benchmark.headline):
                    columns.setdefault(name, {})[role, arm] = round(100 * result["value"], 1)
    table = pd.DataFrame(columns)
    table.index.names = ["benchmark", "arm"]
    return table
