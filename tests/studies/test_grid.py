"""The grid of the key variables: what its cells are, that each exists once, and that each fits."""

import random
import re

import pytest

from slimlib.config import AdapterConfig, Rule
from slimlib.methods import compile_plan
from slimlib.methods.shapes import SHAPES
from slimlib.studies.design import Bar
from slimlib.studies.get import get_design
from slimlib.studies.grid import RANDOM_HALVES, Cells, Scale, cell_name, changed, divided
from slimlib.studies.key_variables import DESIGNS, MMLU_SUBJECTS, TASKS

MICRO = get_design("key_variables_micro")


def shape_of(arm):
    names = {"micro:base": "micro", "unsloth/Llama-3.2-1B": "Llama-3.2-1B"}
    return SHAPES[names.get(arm.model.name, "TinyLlama-1.1B")]


@pytest.mark.parametrize("name", DESIGNS)
class TestEveryGrid:
    def test_every_cell_compiles_on_its_model(self, name):
        for arm in get_design(name).study.arms:
            if arm.adapter:
                plan = compile_plan(shape_of(arm).modules(), arm.adapter)
                assert len(plan) == 7 * shape_of(arm).layers

    def test_no_two_cells_are_the_same(self, name):
        arms = get_design(name).study.arms
        values = [(arm.model, arm.adapter, arm.quantise) for arm in arms]
        assert len({*map(repr, values)}) == len(arms)

    def test_every_fine_tuned_cell_stands_in_an_experiment_and_every_bar_shows_a_cell(self, name):
        design = get_design(name)
        shown = {bar.cell for experiment in design.experiments for bar in experiment.bars}
        assert shown == {arm.name for arm in design.study.arms if arm.trains}

    def test_each_cell_is_compared_with_the_untuned_model_quantised_alike(self, name):
        study = get_design(name).study
        for arm in study.arms:
            if arm.trains:
                untuned = study[arm.compared_with]
                assert untuned.quantise and not untuned.trains
                assert untuned.model.quantiser == arm.model.quantiser
                assert untuned.model.name == arm.model.name

    def test_the_seven_experiments_are_there(self, name):
        ids = [experiment.id for experiment in get_design(name).experiments]
        assert ids == ["E1", "E2", "E3", "E4", "E5", "E6", "E7"]

    def test_get_study_knows_it(self, name):
        from slimlib.studies.get import get_study

        assert get_study(name) == get_design(name).study


def test_e1_is_the_article_s_five_bars_a_rank_and_the_controls():
    bars = MICRO["E1"].bars
    plain = [bar.label for bar in bars if bar.r == 16 and not bar.control]
    assert plain == ["baseline", "attention /2", "attention /4", "MLP /2", "MLP /4"]
    equal = [bar.cell for bar in bars if bar.control == "equal parameters"]
    # micro: attention 1,344 r and MLP 2,112 r parameters a layer. Attention 16 -> 8 saves 10,752,
    # as the MLP at 16 - 10,752 / 2,112 = 10.9; 16 -> 4 saves 16,128, as the MLP at 8.4
    assert equal[-2:] == ["qlora-r16-mlp-r11", "qlora-r16-mlp-r8"]
    assert equal[:2] == ["qlora-r4-mlp-r3", "qlora-r4-mlp-r2"]
    fixed = [MICRO.study[bar.cell].adapter for bar in bars if bar.control == "fixed scale"]
    assert len(fixed) == 4 and all(adapter.keep_scale for adapter in fixed)


def test_cells_that_two_experiments_share_exist_once():
    assert MICRO.experiments_of("qlora-r16") == ("E1", "E2")
    assert MICRO.experiments_of("qa-lora-r16-g32") == ("E3", "E7")
    assert MICRO.experiments_of("base") == ()
    assert "q-bara-r16-lam2" in MICRO["E5"].cells and "q-bara-r16-lam2" in MICRO["E4"].cells


def test_the_quantiser_follows_qa_hira_s_tiles_or_stays():
    study = MICRO.study
    assert study["qa-hira-4x8-mlp-8x8"].model.block_size is None
    assert study["qa-hira-4x8-mlp-8x8-block32"].model.block_size == 32
    rule = study["qa-hira-4x8-mlp-8x8"].adapter.rules
    assert rule == (Rule(layer_type="mlp", lam1=8, lam2=8),)
    assert study["qa-lora-r16-g64"].model.block_size is None
    assert study["qa-lora-r16-g64"].adapter.group_size == 64


def test_the_random_halves_are_neither_the_first_nor_the_second():
    for shape in ("micro", "Llama-3.2-1B", "TinyLlama-1.1B"):
        layers = SHAPES[shape].layers
        half = layers // 2
        draws = []
        for name in RANDOM_HALVES:
            adapter = changed(AdapterConfig(), name, r=8)
            plan = compile_plan(SHAPES[shape].modules(), adapter)
            cut = {int(re.search(r"\.(\d+)\.", n)[1]) for n, e in plan.items() if e.r == 8}
            seed = int(name.split(":")[1])
            assert cut == {*random.Random(seed).sample(range(layers), half)}
            draws.append(cut)
        assert draws[0] != draws[1]
        assert {*range(half)} not in draws and {*range(half, layers)} not in draws


def test_names_say_the_values():
    assert cell_name(AdapterConfig(r=16)) == "qlora-r16"
    cut = changed(AdapterConfig(r=16), "mlp", r=8)
    assert cell_name(cut) == "qlora-r16-mlp-r8"
    lam = changed(AdapterConfig(method="q-bara", r=4), "first_half", lam=1)
    assert cell_name(lam) == "q-bara-r4-lam2-first-lam1"
    kept = AdapterConfig(r=16, rules=cut.rules, keep_scale=True)
    assert cell_name(kept) == "qlora-r16-mlp-r8-keep"
    assert cell_name(AdapterConfig(method="qa-hira", lam1=8, lam2=8)) == "qa-hira-8x8"


def test_two_different_cells_under_one_name_are_refused():
    scale = Scale("m", "micro", MICRO.study["base"].model, "", (4,), 4, (32,))
    cells = Cells(scale, {})
    cells.add(AdapterConfig(r=4))
    with pytest.raises(ValueError, match="two different cells are called 'qlora-r4'"):
        cells.add(AdapterConfig(r=4, lora_alpha=99))


def test_a_rank_is_never_cut_below_one(capsys):
    assert (divided(16, 4), divided(4, 4), divided(2, 4)) == (4, 1, 1)
    assert capsys.readouterr().out == "rank 2 / 4 is below 1: taken as 1\n"


def test_bars_say_where_and_what():
    assert Bar("c", "m", "qlora", 4).label == "baseline"
    assert Bar("c", "m", "qlora", 4, "random_half:1", "/2").label == "random half 1 /2"
    assert Bar("c", "m", "q-bara", 4, change="lam 8").label == "lam 8"


def test_cells_are_chosen_by_name_or_by_experiment():
    assert MICRO.select("base,qlora-r16") == ("base", "qlora-r16")
    assert set(MICRO.select("E5,base")) == {*MICRO["E5"].cells, "base"}
    with pytest.raises(ValueError, match="has no arm 'E9'"):
        MICRO.select("E9")


def test_overrides_reach_every_cell_and_left_out_arms_leave_the_figures():
    design = get_design("key_variables_micro", limit=20, arms="base,qlora-r4,qlora-r4-mlp-r2")
    assert {task.limit for arm in design.study.arms for task in arm.evaluate.tasks} == {20}
    assert [experiment.id for experiment in design.experiments] == ["E1"]
    assert [bar.cell for bar in design["E1"].bars] == [
        "qlora-r4",
        "qlora-r4-mlp-r2",
        "qlora-r4-mlp-r2",  # as the equal-parameter control of attention / 4
    ]
    with pytest.raises(ValueError, match="is no grid; the grids are key_variables"):
        get_design("micro")


def test_mmlu_s_subjects_are_lm_eval_s():
    from pathlib import Path

    import lm_eval

    folder = Path(lm_eval.__file__).parent / "tasks" / "mmlu" / "default"
    stock = {path.stem.removeprefix("mmlu_") for path in folder.glob("mmlu_*.yaml")}
    assert len(MMLU_SUBJECTS) == 57 and {*MMLU_SUBJECTS} == stock


def test_every_task_of_the_t4_study_is_found_in_lm_eval():
    from slimlib.data.tasks import stock_yaml

    for task in TASKS[::8] + TASKS[-7:]:  # some of MMLU's, all of the others
        path = stock_yaml(task.name)
        assert f"task: {task.name}" in path.read_text("utf-8").replace('"', "")
    assert {task.num_fewshot for task in TASKS if task.role == "mmlu"} == {5}
    assert {task.num_fewshot for task in TASKS if task.role != "mmlu"} == {0}
