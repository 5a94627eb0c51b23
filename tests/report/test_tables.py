"""Tables and figures from synthetic records: what is missing, may not meet, or is printed."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_records import MICRO, ROLES, N, make_record, set_scores

from slimlib import metrics
from slimlib.common import style
from slimlib.common.schema import unpack_scores
from slimlib.comparison import benchmarks, plots
from slimlib.comparison.benchmarks import BENCHMARKS
from slimlib.comparison.ladder import attribution_of
from slimlib.papers.slimming import published
from slimlib.report import figures, tables
from slimlib.studies.get import get_study
from slimlib.studies.mine import BASE, QUANTISED, TUNED, mine


@pytest.fixture
def records() -> list[dict]:
    return [make_record(arm.name) for arm in MICRO.arms]


def cell(table: pd.DataFrame, arm: str, role: str, row: str, study=MICRO) -> str:
    return table.loc[(study.name, study.task_labels.get(role, ""), row), study[arm].label]


def rows_of(table: pd.DataFrame, column: str, benchmark: str) -> dict[str, str]:
    return {row: text for (_, b, row), text in table[column].items() if b == benchmark}


# ---- what is missing, what may not meet ----


def test_no_records_make_a_table_of_dashes():
    table = tables.table2([], MICRO)
    assert set(table.iloc[1:].to_numpy().ravel()) == {"-"}
    assert len(tables.table1([])) == 0
    assert len(tables.seeds_table({})) == 0


def test_a_missing_arm_and_a_missing_task_are_dashes(records):
    kept = [r for r in records if r["arm"] != "llama-base-nf4"]
    del kept[2]["stages"]["evaluate"]["tasks"]["task_of_hellaswag"]
    table = tables.table2(kept, MICRO)
    assert set(table[MICRO["llama-base-nf4"].label].iloc[1:]) == {"-"}
    assert kept[2]["arm"] == "llama-2k"
    label = MICRO["llama-2k"].label
    assert set(rows_of(table, label, MICRO.task_labels["hellaswag"]).values()) == {"-"}
    assert "-" not in rows_of(table, label, MICRO.task_labels["gsm8k"]).values()


def test_without_its_partner_an_arm_has_scores_and_no_loss(records):
    table = tables.table2([r for r in records if r["arm"] == "llama-2k"], MICRO)
    assert "±" in cell(table, "llama-2k", "gsm8k", "flexible")
    assert cell(table, "llama-2k", "gsm8k", "FR (%)") == "-"
    assert cell(table, "llama-2k", "gsm8k", "p, t-test") == "-"


def test_a_started_evaluation_has_no_results(records):
    records[0]["stages"]["evaluate"] = {"status": "started"}
    table = tables.table2(records, MICRO)
    assert cell(table, "llama-instruct", "gsm8k", "flexible") == "-"


def test_one_record_given_twice_is_named(records):
    with pytest.raises(ValueError, match="study micro, arm llama-base, seed 0"):
        tables.table2([*records, make_record("llama-base")], MICRO)
    with pytest.raises(ValueError, match="arm llama-base, seed 0"):
        tables.table1([*records, make_record("llama-base")])


def test_studies_do_not_mix(records):
    other = make_record("llama-base", get_study("smoke"))
    for table in (tables.table1, lambda r: tables.table2(r, MICRO)):
        with pytest.raises(ValueError, match="micro, smoke"):
            table([*records, other])
    with pytest.raises(ValueError, match="smoke.*table of micro"):
        tables.table2([other], MICRO)
    with pytest.raises(ValueError, match="table of micro"):
        figures.plot_scores([other], MICRO, "gsm8k")


def test_an_arm_that_the_study_does_not_have_is_named(records):
    records[0]["arm"] = "llama-9k"
    with pytest.raises(ValueError, match="no arm llama-9k"):
        tables.table2(records, MICRO)


def test_different_documents_are_not_paired(records):
    set_scores(records[3], "gsm8k", [1, 0] * 10)
    with pytest.raises(ValueError, match="task_of_gsm8k"):
        tables.table2(records, MICRO)


def test_as_many_but_other_documents_are_not_compared_unpaired(records):
    """The tables say "paired": the weaker test must not stand in without a word."""
    records[3]["stages"]["evaluate"]["tasks"]["task_of_mmlu_cs"]["documents"] = "another revision"
    message = "llama-base and llama-2k answered different documents of task_of_mmlu_cs; evaluate"
    with pytest.raises(ValueError, match=message):
        tables.table2([records[1], records[3]], MICRO)
    with pytest.raises(ValueError, match="different documents of task_of_mmlu_cs"):
        attribution_of([records[1], records[3]], MICRO)


def test_base_of_zero_has_no_forgetting_rate(records):
    for record in records:
        set_scores(record, "gsm8k", [0] * N)
    table = tables.table2(records, MICRO)
    assert cell(table, "llama-2k", "gsm8k", "FR (%)") == "undefined"
    assert cell(table, "llama-2k", "gsm8k", "flexible") == "0.0 ± 0.0"
    assert cell(table, "llama-2k", "gsm8k", "p, exact McNemar") == "1.000"


def test_a_score_without_standard_error_stands_alone(records):
    results = records[0]["stages"]["evaluate"]["tasks"]["task_of_mmlu_cs"]["metrics"]
    results[benchmarks.ACC]["stderr"] = None
    assert "±" not in cell(tables.table2(records, MICRO), "llama-instruct", "mmlu_cs", "acc")


# ---- Table 2 ----


def test_cells_worked_by_hand():
    """Base 8 of 10, tuned 2 of these; 10 documents: one decimal."""
    base, tuned = [1] * 8 + [0] * 2, [1] * 2 + [0] * 8
    pair = [make_record("llama-base", n=10), make_record("llama-2k", n=10)]
    for record, scores in zip(pair, (base, tuned), strict=True):
        for role in ROLES:
            set_scores(record, role, scores)
    table = tables.table2(pair, MICRO)
    got = {
        (role, row): cell(table, "llama-2k", role, row)
        for role in ROLES
        for row in tables.row_titles(role)
    }
    assert got["gsm8k", "flexible"] == "20.0 ± 13.3"
    assert got["gsm8k", "FR (%)"] == "75.0"
    assert got["gsm8k", "FR 95 % interval"] == "[27.0, 95.6]"
    assert got["gsm8k", "p, exact McNemar"] == "0.031"  # 2 / 2^6
    assert got["gsm8k", "p, t-test"] == "0.005"
    assert got["hellaswag", "dA (points)"] == "-60.0"
    assert (
        got["hellaswag", "dA 95 % interval"] == "[-85.8, -15.6]"
    )  # Tango's and a mid-p limit, of 6 lost in 10
    assert got["mmlu_cs", "dK (points)"] == "+60.0 ± 37.0"  # 1.96 * sqrt(2) * 13.33
    assert got["mmlu_cs", "dK 95 % interval"] == "[+15.6, +85.8]"
    assert cell(table, "llama-2k", "", "compared with") == MICRO["llama-base"].label


def test_columns_are_the_studys_arms_in_order(records):
    table = tables.table2(records[::-1], MICRO)
    assert list(table) == [arm.label for arm in MICRO.arms]
    assert not any("paper" in column for column in table)


def shown(records, width=160):
    return tables.document(tables.table2(records, MICRO)).to_text(width)


def test_rows_and_title_say_micro(records):
    text = shown(records)
    for words in ("arithmetic (as GSM8K)", "stories (as HellaSwag)", "facts (as MMLU-CS)"):
        assert words in text
    assert "micro" in text.splitlines()[0]
    assert MICRO.note.split(".")[0] in text


def test_published_columns_stand_beside_the_same_arm():
    study = get_study("paper")
    table = tables.table2([make_record("llama-2k", study)], study)
    columns = list(table)
    for arm, column in study.paper_columns.items():
        assert columns.index(published.COLUMN_LABELS[column]) == (
            columns.index(study[arm].label) + 1
        )
    name = published.COLUMN_LABELS["llama-2k"]
    tuned = {role: rows_of(table, name, study.task_labels[role]) for role in ROLES}
    assert tuned["gsm8k"]["flexible"] == "3.71 ± 0.52"
    assert tuned["gsm8k"]["FR (%)"] == "88.92*"
    assert tuned["hellaswag"]["dA (points)"] == "+0.43"
    assert tuned["mmlu_cs"]["dK (points)"] == "+13.00 ± 6.93*"
    assert "Instruct" in rows_of(table, name, "")["compared with"]


def test_a_thousand_documents_earn_a_second_decimal():
    table = tables.table2([make_record("llama-base", n=1319)], MICRO)
    task = make_record("llama-base", n=1319)["stages"]["evaluate"]["tasks"]["task_of_gsm8k"]
    value = 100 * np.mean(unpack_scores(task["metrics"][benchmarks.STRICT]["scores"]))
    assert cell(table, "llama-base", "gsm8k", "strict").startswith(f"{value:.2f} ± ")


@pytest.mark.parametrize("width", [80, 120, 160])
def test_rendered_table_keeps_to_the_terminal(records, width):
    text = shown(records, width)
    assert max(map(len, text.splitlines())) <= width
    for arm in MICRO.arms:
        assert arm.label.split()[-1] in text


def test_micro_fits_one_block(records):
    text = shown(records)
    assert text.count("FR (%)") == 1


def test_truncated_prompts_are_shown(records):
    task = records[1]["stages"]["evaluate"]["tasks"]["task_of_gsm8k"]
    assert "truncated" not in shown(records)
    task["truncated"] = 3
    text = shown(records)
    assert f"{MICRO['llama-base'].label}: 3 prompts of task_of_gsm8k were truncated" in text


# ---- seeds ----


def test_seeds_are_shown_as_mean_and_sd():
    tuned = [make_record("llama-2k", seed=seed) for seed in (0, 1, 2)]
    for record, right in zip(tuned, (20, 40, 60), strict=True):
        set_scores(record, "gsm8k", [1] * right + [0] * (N - right))
    base = set_scores(make_record("llama-base"), "gsm8k", [1] * 100 + [0] * 100)
    table = tables.table2([base, *tuned], MICRO)
    label = f"{MICRO['llama-2k'].label} (3 seeds)"
    rows = rows_of(table, label, MICRO.task_labels["gsm8k"])
    assert rows["flexible"] == "20.0 ± 10.0"  # 10, 20, 30 %
    assert rows["FR (%)"] == "60.0 ± 20.0"  # 80, 60, 40 %
    assert rows["p, exact McNemar"] == "-"
    # between seeds 10^2 / 3, 2 degrees of freedom; over documents far less
    assert rows["p, t-test"] == "0.034"


def test_seeds_table_is_numbers_that_metrics_gives():
    by_seed = {s: [make_record(a, seed=s) for a in ("llama-base", "llama-2k")] for s in (0, 1, 2)}
    table = tables.seeds_table(by_seed)
    assert table[["seed", "role"]].to_numpy().tolist() == [[s, r] for s in by_seed for r in ROLES]
    tasks = [record["stages"]["evaluate"]["tasks"]["task_of_gsm8k"] for record in by_seed[1]]
    scores = [unpack_scores(task["metrics"][benchmarks.FLEXIBLE]["scores"]) for task in tasks]
    row = table[(table.seed == 1) & (table.role == "gsm8k")].iloc[0]
    assert (row.difference, row.low, row.high) == metrics.paired_difference(*scores)
    assert (row.measure_value, row.measure_low, row.measure_high) == metrics.forgetting_interval(
        *scores
    )
    assert row.p_value == metrics.mcnemar_test(*scores).p_value
    assert row.p_t == metrics.paired_t_test(*scores).p_value
    assert (row.arm, row.compared_with, row.n) == ("llama-2k", "llama-base", N)


def test_mcnemars_p_is_only_of_single_answers():
    """Half points: the p-value is the t-test's, and Table 2's row of McNemar's stays empty."""
    base, tuned = (make_record(a) for a in ("llama-base", "llama-2k"))
    set_scores(tuned, "gsm8k", [0.5] * 60 + [0] * 140)
    row = tables.seeds_table({0: [base, tuned]}).set_index("role").loc["gsm8k"]
    assert row.test == "paired t" and row.p_value == row.p_t < 0.05
    assert cell(tables.table2([base, tuned], MICRO), "llama-2k", "gsm8k", "p, exact McNemar") == "-"


def test_seeds_table_refuses_a_record_under_another_seed(records):
    with pytest.raises(ValueError, match="llama-instruct of seed 0 is under 7"):
        tables.seeds_table({7: records})


# ---- Table 1 and the files ----


def test_table1_has_bases_and_trained_arms(records):
    table = tables.table1(records)
    arms = [a for a in MICRO.arms if a.trains or not a.writes_weights]
    assert list(table.index) == [("micro", arm.label) for arm in arms]
    tuned = table.loc["micro", MICRO["llama-2k"].label]
    rows, r = MICRO["llama-2k"].data.n, MICRO["llama-2k"].adapter.r
    assert tuned.to_list() == ["1.82M", "world", f"{rows:,}", f"QLoRA, r {r}"]
    assert table.loc["micro", MICRO["llama-base"].label].to_list() == ["1.82M", "none", "-", "-"]
    instruct = table.loc["micro", MICRO["llama-instruct"].label]
    assert instruct["size"] == "-"  # no stage counted its parameters


def test_table1_names_a_mixture_and_billions(records):
    tuned = records[3]
    tuned["config"]["data"]["mixture"] = {"alpaca": 0.5, "gsm8k": 0.5}
    tuned["stages"]["finetune"]["parameters"] = 1_235_814_400
    row = tables.table1([tuned]).iloc[0]
    assert (row["data"], row["size"]) == ("50 % alpaca + 50 % gsm8k", "1.24B")


def test_tables_are_written_as_csv(records, tmp_path):
    paths = tables.write_tables(records, MICRO, tmp_path / "new")
    assert [path.name for path in paths] == ["table1.csv", "table2.csv"]
    table = pd.read_csv(paths[1], keep_default_na=False, dtype=str)
    assert set(table["study"]) == {"micro"}
    assert table.iloc[:, 3:].to_numpy().tolist() == tables.table2(records, MICRO).values.tolist()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "table1.csv",
        "table2.csv",
    ]


def test_two_tables_of_the_same_records_are_the_same_bytes(records, tmp_path):
    first, second = (
        [path.read_bytes() for path in tables.write_tables(records, MICRO, tmp_path / name)]
        for name in ("a", "b")
    )
    assert first == second


# ---- figures ----


@pytest.fixture
def logs() -> dict[str, list[dict]]:
    loss = 1.3 + np.random.default_rng(0).random(40)
    rows = [{"step": i, "epoch": i / 20, "loss": float(x)} for i, x in enumerate(loss, 1)]
    return {"llama-2k": rows, "tinyllama-50k": rows[:1]}


def texts(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


@pytest.fixture
def ax():
    from matplotlib.figure import Figure

    return Figure().subplots()


def test_scores_plot_shows_every_arm_and_chance(records, ax):
    assert figures.plot_scores(records, MICRO, "mmlu_cs", ax) is ax
    labels = [label.get_text().replace("\n", " ") for label in ax.get_yticklabels()]
    assert labels == [arm.label for arm in MICRO.arms]
    values = [r["stages"]["evaluate"]["tasks"]["task_of_mmlu_cs"]["metrics"] for r in records]
    assert [f"{100 * v[benchmarks.ACC]['value']:.1f}" for v in values] == texts(ax)[:-1]
    assert texts(ax)[-1] == "chance"


def test_generated_answers_have_no_chance_level(records, ax):
    figures.plot_scores(records, MICRO, "gsm8k", ax)
    assert not any("chance" in text for text in texts(ax))


def test_scores_interval_is_wilsons(ax):
    record = set_scores(make_record("llama-instruct"), "gsm8k", [1] * 94 + [0] * 106)
    figures.plot_scores([record], MICRO, "gsm8k", ax)
    drawn = tuple(ax.lines[0].get_xdata())
    assert drawn == pytest.approx(metrics.wilson_interval(94, 200)[1:])
    assert texts(ax).count("-") == len(MICRO.arms) - 1


def test_a_missing_rung_goes_to_the_next_step(records, ax):
    kept = [r for r in records if r["arm"] != "llama-base-nf4"]
    attribution_of(kept, MICRO).plot("gsm8k", ax)
    assert "- (in the next step)" in texts(ax)


def test_waterfall_without_its_last_rung_has_no_result(records, ax):
    kept = [r for r in records if r["arm"] != MICRO.ladder[-1]]
    attribution_of(kept, MICRO).plot("gsm8k", ax)
    assert len(ax.patches) == 4  # the first bar and three steps
    assert texts(ax)[-1] == "-"


def test_waterfall_colours_say_lost_gained_or_chance(ax):
    ladder = [make_record(arm, n=100, roles=()) for arm in MICRO.ladder]
    for record, right in zip(ladder, (90, 90, 40, 41, 80), strict=True):
        set_scores(record, "gsm8k", [1] * right + [0] * (100 - right))
    attribution_of(ladder, MICRO).plot("gsm8k", ax)
    from matplotlib.colors import to_hex

    drawn = [to_hex(patch.get_facecolor()).upper() for patch in ax.patches]
    steps = [plots.NOISE, plots.LOST, plots.NOISE, plots.GAINED]
    assert drawn == [plots.TOTAL, *steps, plots.TOTAL]
    lost, gained = texts(ax)[2], texts(ax)[4]
    assert lost.startswith("-50.0 [") and lost.endswith("] lost")
    assert gained.startswith("+39.0 [") and gained.endswith("] gained")


def test_no_connector_and_no_bar_runs_through_a_waterfall_s_numbers(records, ax):
    attribution_of(records, MICRO).plot("gsm8k", ax)
    assert all(text.get_position()[0] > 1 for text in ax.texts)  # right of the axes
    assert all(text.get_transform() == ax.get_yaxis_transform() for text in ax.texts)


def test_the_waterfall_s_title_names_what_is_shown_and_no_more():
    ladder = [make_record(arm, n=100, roles=()) for arm in MICRO.ladder]
    for record, right in zip(ladder, (90, 90, 40, 41, 80), strict=True):
        set_scores(record, "gsm8k", [1] * right + [0] * (100 - right))
    label = MICRO.task_labels["gsm8k"]
    assert attribution_of(ladder, MICRO).message() == (
        f"Lost by quantisation to NF4: {label}. Gained by merging into 4 bit: {label}. "
        "No other step is shown to change anything."
    )
    same = [set_scores(make_record(arm, roles=()), "gsm8k", [1] * 50) for arm in MICRO.ladder]
    assert attribution_of(same, MICRO).message() == "No step is shown to change anything."


def colours_of(study) -> dict[str, str]:
    return {arm: colour for arm, (_, colour) in figures.arm_styles(study).items()}


def test_an_arm_has_one_colour_in_every_study_and_selection():
    colours = colours_of(MICRO)
    assert len({*colours.values()}) == len(colours)  # eight arms, eight colours
    assert colours_of(get_study("paper")) == colours
    few = get_study("micro", arms="llama-base,llama-500-r8,tinyllama-50k")
    assert colours_of(few) == {arm.name: colours[arm.name] for arm in few.arms}
    smol = colours_of(get_study("smol"))
    same = {"base": "llama-base", "nf4": "llama-base-nf4", "qlora": "llama-2k"}
    same |= {"qlora-requantised": "llama-2k-requantised", "noise-3": "llama-base-nf4"}
    assert {arm: smol[arm] for arm in same} == {arm: colours[other] for arm, other in same.items()}
    own = colours_of(mine("micro:base", "rows.jsonl"))
    assert own[BASE] == colours["llama-base"] and own[TUNED] == colours["llama-2k"]
    assert own[QUANTISED] == colours["llama-base-nf4"]


def test_the_scores_title_counts_the_arms_that_lost():
    arms = ("llama-base", "llama-base-nf4", "llama-2k")
    records = [make_record(arm, n=100, roles=()) for arm in arms]
    for record, right in zip(records, (90, 89, 40), strict=True):
        set_scores(record, "gsm8k", [1] * right + [0] * (100 - right))
    assert figures.scores_message(records, MICRO) == (
        "1 of 2 arms are shown to score less on some benchmark than the one that they come from; "
        "not so: micro base, NF4"
    )
    assert figures.scores_message(records[:1], MICRO) == (
        "No arm stands beside the one that it comes from"
    )


def test_loss_plot_keeps_colours_and_labels(logs, ax):
    figures.plot_losses(logs, MICRO, ax)
    colours = colours_of(MICRO)
    curves = [line for line in ax.lines if line.get_linewidth() == 2]
    assert [line.get_color() for line in curves] == [colours[arm] for arm in logs]
    named = {text.get_text().replace("\n", " "): text.get_color() for text in ax.texts}
    for arm in logs:
        (label,) = [name for name in named if name.startswith(MICRO[arm].label)]
        assert named[label] == colours[arm]
    assert not [text for text in named if text.startswith("uniform")]  # beyond all losses


def test_a_loss_above_a_uniform_guess_is_drawn_with_it(ax):
    figures.plot_losses({"llama-2k": [{"epoch": 0.5, "loss": 8.0}]}, MICRO, ax)
    (guess,) = [text for text in ax.texts if text.get_text().startswith("uniform")]
    assert guess.get_text() == "uniform guess over 1,024 tokens: 6.93"  # ln 1,024


def test_loss_plot_of_an_unknown_arm_is_an_error(ax):
    with pytest.raises(ValueError, match="no arm llama-9k"):
        figures.plot_losses({"llama-9k": []}, MICRO, ax)


def test_without_an_arm_of_the_ladder_there_is_no_waterfall(records, logs):
    """`slimlib run --study smol --set arms=lora` ended in a traceback when all was done."""
    alone = replace(MICRO, ladder=())
    assert "waterfall" not in figures.study_figures(records, alone, logs)
    with pytest.raises(ValueError, match="study micro has no arm of its ladder here"):
        attribution_of(records, alone).plot("hellaswag")


def test_colours_of_a_study_need_no_data_folder(monkeypatch):
    monkeypatch.delenv("SLIMLIB_DATA", raising=False)
    with_data = replace(MICRO, name="rehearsal")
    assert figures.arm_styles(with_data)["llama-2k"][1] == colours_of(MICRO)["llama-2k"]


def test_a_plot_without_axes_makes_a_figure_that_says_micro(records):
    from matplotlib import pyplot as plt

    plt.switch_backend("agg")
    figure = attribution_of(records, MICRO).plot("hellaswag").figure
    assert "micro" in figure.get_suptitle()
    plt.close(figure)


def test_figures_are_written_say_micro_and_repeat_byte_for_byte(records, logs, tmp_path):
    small = replace(MICRO, task_labels={"gsm8k": MICRO.task_labels["gsm8k"]})  # one panel
    paths = figures.make_figures(records, small, tmp_path / "a", logs)
    assert sorted(p.name for p in paths) == sorted(p.name for p in (tmp_path / "a").iterdir())
    assert {p.stem for p in paths} == {"scores", "waterfall", "losses"}
    again = figures.make_figures(records, small, tmp_path / "b", logs)
    assert [p.read_bytes() for p in paths] == [p.read_bytes() for p in again]
    for svg in (p for p in paths if p.suffix == ".svg"):
        assert MICRO.title in svg.read_text() and "dc:date" not in svg.read_text()
    for png in (p for p in paths if p.suffix == ".png"):
        assert png.read_bytes().startswith(b"\x89PNG")


def test_figures_of_nothing_are_drawn_empty(ax):
    attribution_of([], MICRO).plot("gsm8k", ax)
    assert set(texts(ax)) == {"-"} and not ax.patches
    ax.clear()
    figures.plot_losses({}, MICRO, ax)
    assert not ax.lines and not ax.texts


def test_a_failed_picture_leaves_nothing_behind(tmp_path):
    from matplotlib.figure import Figure

    class Broken(Figure):
        def savefig(self, path, **_):
            path.write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        style.save_figure(Broken(), tmp_path, "scores")
    assert list(tmp_path.iterdir()) == []


# ---- laws ----


def test_every_task_of_every_study_can_be_reported():
    for name in ("paper", "micro", "smoke"):
        study = get_study(name)
        tasks = {task.role for arm in study.arms for task in arm.evaluate.tasks}
        assert tasks == set(study.task_labels) <= set(BENCHMARKS)
        assert set(study.paper_columns.values()) <= set(published.TABLE2)
        assert len({arm.label for arm in study.arms}) == len(study.arms)


def test_importing_the_modules_draws_in_nothing_heavy():
    code = (
        "import sys, json, slimlib.metrics, slimlib.papers.slimming.published, "
        "slimlib.comparison.arms, slimlib.report.tables, slimlib.comparison.plots; "
        "print(json.dumps(sorted(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    heavy = {"torch", "transformers", "datasets", "matplotlib", "statsmodels"}
    assert heavy.isdisjoint(json.loads(loaded))


def test_an_untouched_record_is_left_untouched(records):
    before = json.dumps(records)
    study = replace(MICRO, note="")
    tables.results_document(records, study).to_text(80)
    assert json.dumps(records) == before


def test_probes_are_drawn_below_the_loss_with_wilson_s_limits():
    """4 of 8 right: 50 %, 21.5 to 78.5; 8 of 8: 100 %, 67.6 to 100."""
    study, task = MICRO, "micro_facts"
    probes = [(0, 0.0, 0.5), (4, 1.0, 1.0)]
    logs = {
        "llama-2k": [
            {"step": 2, "epoch": 0.5, "loss": 1.0},
            *({"step": s, "epoch": e, "probe": {task: p}, "n": {task: 8}} for s, e, p in probes),
        ]
    }
    figure = figures._losses_figure(logs, study)
    loss, below = figure.axes
    assert below.get_title(loc="left") == "probe of facts (as MMLU-CS), n = 8"
    line, *_ = below.lines
    assert line.get_xdata().tolist() == [0, 1] and line.get_ydata().tolist() == [50, 100]
    (limits,) = below.containers[0].lines[2]
    found = [segment[:, 1].tolist() for segment in limits.get_segments()]
    assert found == [pytest.approx([21.5, 78.5], abs=0.1), pytest.approx([67.6, 100], abs=0.1)]
    assert len(loss.lines) == 2 and len(figures._losses_figure({}, study).axes) == 1
