"""The compiled plan: who gets what by which rule, what is refused, and what the table says."""

import itertools
import json
import random
import re
import subprocess
import sys

import pytest

from slimlib.adapters.layers import SlimLoraConfig, patterns, peft_config
from slimlib.config import ADAPTERS, ALL_LINEAR, ATTENTION, AdapterConfig, Rule
from slimlib.methods import METHODS, compile_plan
from slimlib.methods.plan import check_names, kept

MLP = ("gate_proj", "up_proj", "down_proj")
ORDINALS = ("first", "second")
SHAPES = {  # (d_in, d_out)
    "self_attn.q_proj": (64, 64),
    "self_attn.k_proj": (64, 32),
    "self_attn.v_proj": (64, 32),
    "self_attn.o_proj": (64, 64),
    "mlp.gate_proj": (64, 96),
    "mlp.up_proj": (64, 96),
    "mlp.down_proj": (96, 64),
}


def modules(layers=4):
    return {f"model.layers.{i}.{n}": dims for i in range(layers) for n, dims in SHAPES.items()}


def plan_of(*rules, layers=4, **values):
    values = {"method": "qlora", "r": 8, "lora_alpha": 16} | values
    if values["method"] == "qa-lora":
        values = {"group_size": 16} | values
    return compile_plan(modules(layers), AdapterConfig(rules=rules, **values))


def where(plan, key, value):
    """{(layer, module)} of the entries that have a value."""
    found = [e.name for e in plan.values() if getattr(e, key) == value]
    return {(int(name.split(".")[2]), name.rsplit(".", 1)[1]) for name in found}


def cells(layers, names=ALL_LINEAR):
    return set(itertools.product(layers, names))


# ---------------------------------------------------------------------------------------- rules


def test_without_rules_every_target_has_the_configs_values():
    plan = plan_of(method="q-bara", lam=4, target_modules=("q_proj", "down_proj"))
    assert list(plan) == [
        f"model.layers.{i}.{name}"
        for i in range(4)
        for name in ("self_attn.q_proj", "mlp.down_proj")
    ]
    assert {(e.r, e.lam, e.lora_alpha, e.method) for e in plan.values()} == {(8, 4, 16, "q-bara")}
    down = plan["model.layers.2.mlp.down_proj"]
    assert (down.d_in, down.d_out) == (96, 64)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(layer_type="attention", r=2), cells(range(4), ATTENTION)),
        (Rule(layer_type="mlp", r=2), cells(range(4), MLP)),
        (Rule(projection=("q_proj", "down_proj"), r=2), cells(range(4), ("q_proj", "down_proj"))),
        (Rule(layers="first_half", r=2), cells((0, 1))),
        (Rule(layers="second_half", r=2), cells((2, 3))),
        (Rule(layers="1-2", r=2), cells((1, 2))),
        (Rule(layers="3", r=2), cells((3,))),
        (Rule(layer_type="mlp", layers="second_half", r=2), cells((2, 3), MLP)),
        (
            Rule(layer_type="mlp", projection=("up_proj", "q_proj"), layers="0-0", r=2),
            {(0, "up_proj")},
        ),
    ],
)
def test_a_rule_reaches_these_modules_and_no_others(rule, expected):
    plan = plan_of(rule)
    assert where(plan, "r", 2) == expected
    assert where(plan, "r", 8) == cells(range(4)) - expected


@pytest.mark.parametrize(("layers", "first"), [(2, 1), (3, 1), (5, 2), (22, 11)])
def test_the_halves_of_any_depth_are_a_whole(layers, first):
    """Of an odd number the second half has the middle layer."""
    halves = [plan_of(Rule(layers=f"{half}_half", r=2), layers=layers) for half in ORDINALS]
    assert where(halves[0], "r", 2) == cells(range(first)) == where(halves[1], "r", 8)
    assert where(halves[1], "r", 2) == cells(range(first, layers)) == where(halves[0], "r", 8)


def test_one_layer_has_a_second_half_only():
    assert where(plan_of(Rule(layers="second_half", r=2), layers=1), "r", 2) == cells((0,))
    with pytest.raises(ValueError, match="matches none of the 7 target modules"):
        plan_of(Rule(layers="first_half", r=2), layers=1)


def test_the_depth_is_the_models_even_where_few_modules_are_targets():
    linears = {n: d for n, d in modules(4).items() if not n.startswith("model.layers.3.mlp")}
    config = AdapterConfig(
        r=8, target_modules=("up_proj",), rules=(Rule(layers="second_half", r=2),)
    )
    assert where(compile_plan(linears, config), "r", 2) == {(2, "up_proj")}


def test_a_random_half_is_half_of_the_layers_and_the_seed_makes_it():
    def drawn(seed, layers=9):
        plan = plan_of(Rule(layers=f"random_half:{seed}", r=2), layers=layers)
        found = where(plan, "r", 2)
        assert found == cells({n for n, _ in found})  # whole layers
        return {n for n, _ in found}

    assert len(drawn(0)) == 4 and drawn(0) == drawn(0)
    assert drawn(7) == set(random.Random(7).sample(range(9), 4))
    assert len({frozenset(drawn(seed)) for seed in range(10)}) > 3


def test_two_rules_add_up():
    plan = plan_of(
        Rule(layer_type="mlp", r=2), Rule(layers="first_half", lam=4), method="q-bara", lam=2
    )
    assert where(plan, "r", 2) == cells(range(4), MLP)
    assert where(plan, "lam", 4) == cells((0, 1))
    entry = plan["model.layers.0.mlp.up_proj"]
    assert (entry.r, entry.lam) == (2, 4)


def test_each_of_the_two_lambdas_has_its_rule():
    plan = plan_of(Rule(layer_type="mlp", lam1=8), Rule(layer_type="mlp", lam2=4), method="qa-hira")
    assert {(e.lam1, e.lam2) for e in plan.values()} == {(8, 4), (4, 8)}
    assert plan["model.layers.1.mlp.gate_proj"].block == (4, 8)  # outputs x inputs
    assert plan["model.layers.1.self_attn.q_proj"].block == (8, 4)


def test_the_order_of_the_rules_is_nothing():
    rules = (
        Rule(layer_type="mlp", r=2),
        Rule(layers="first_half", lam=4),
        Rule(projection=("q_proj",), r=4),
        Rule(projection=("q_proj",), layers="0-1", lam=4),  # says the same again: no contradiction
        Rule(layers="2-3", lam=1),
    )
    plans = [plan_of(*order, method="q-bara") for order in itertools.permutations(rules)]
    assert all(list(plan.items()) == list(plans[0].items()) for plan in plans)
    assert len({(e.r, e.lam) for e in plans[0].values()}) == 6


@pytest.mark.parametrize(
    ("method", "rules", "message"),
    [
        (
            "qlora",
            (Rule(layer_type="mlp", r=2), Rule(layers="0", r=4)),
            r"model\.layers\.0\.mlp\.gate_proj: rules contradict each other, r is \[2, 4\]",
        ),
        (
            "q-bara",
            (Rule(layers="2", lam=2), Rule(projection=("o_proj",), lam=4)),
            r"model\.layers\.2\.self_attn\.o_proj: rules contradict each other, lam is \[2, 4\]",
        ),
    ],
)
def test_rules_that_contradict_each_other_are_refused_in_any_order(method, rules, message):
    for order in (rules, rules[::-1]):
        with pytest.raises(ValueError, match=message):
            plan_of(*order, method=method)


@pytest.mark.parametrize(
    ("method", "rule", "message"),
    [
        ("qlora", {}, "rules=Rule(): sets nothing; a rule of qlora sets r"),
        ("qlora", {"layer_type": "mlp"}, "sets nothing"),
        ("qlora", {"lam": 2}, "rules=Rule(lam=2): sets lam; a rule of qlora sets r"),
        ("q-bara", {"lam1": 2}, "sets lam1; a rule of q-bara sets r, lam"),
        ("qa-hira", {"r": 2}, "sets r; a rule of qa-hira sets lam1, lam2"),
        ("qlora", {"r": 0}, "r=0: must be a whole number, 1 to 8,192"),
        ("q-bara", {"lam": -1}, "lam=-1: must be a whole number, 1 to 1,024"),
        ("qlora", {"layer_type": "ffn", "r": 2}, "layer_type=ffn: must be attention or mlp"),
        ("qlora", {"layers": "upper", "r": 2}, "layers=upper: must be first_half"),
        ("qlora", {"layers": "random_half", "r": 2}, "layers=random_half: must be"),
        ("qlora", {"layers": "-3", "r": 2}, "layers=-3: must be"),
        ("qlora", {"layers": "4-7", "r": 2}, "matches none of the 28 target modules"),
        ("qlora", {"layers": "3-1", "r": 2}, "matches none"),
        ("qlora", {"projection": ("query",), "r": 2}, "matches none"),
        ("qlora", {"projection": "q_proj", "r": 2}, 'projection=q_proj: must be names as ("q_proj'),
        ("qlora", {"layer_type": "mlp", "projection": ("q_proj",), "r": 2}, "matches none"),
    ],
)
def test_a_rule_that_says_or_reaches_nothing_is_refused(method, rule, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        plan_of(Rule(**rule), method=method)


def test_a_rule_for_modules_that_are_no_targets_is_refused():
    with pytest.raises(ValueError, match="matches none of the 16 target modules"):
        plan_of(Rule(layer_type="mlp", r=2), target_modules=ATTENTION)


def test_the_scale_follows_the_rank_unless_it_is_kept():
    """lora_alpha stays as a rank is cut, as in the article: s = 16/8 becomes 16/2."""
    rule = Rule(layer_type="mlp", r=2)
    up, q = "model.layers.0.mlp.up_proj", "model.layers.0.self_attn.q_proj"
    plan = plan_of(rule)
    assert (plan[up].lora_alpha, plan[up].scaling, plan[q].scaling) == (16, 8, 2)
    kept = plan_of(rule, keep_scale=True)
    assert (kept[up].lora_alpha, kept[up].scaling, kept[q].scaling) == (4, 2, 2)
    assert kept.parameters == plan.parameters


@pytest.mark.parametrize("keep_scale", [False, True])
def test_a_rank_stabilised_scale_is_peft_s(keep_scale):
    """lora_alpha / sqrt(r), of each module's own rank."""
    from peft import LoraConfig, get_peft_model
    from torch import nn

    rule = Rule(layer_type="mlp", r=4)
    plan = plan_of(rule, r=16, rslora=True, keep_scale=keep_scale)
    model = nn.ModuleDict({"up_proj": nn.Linear(64, 64), "q_proj": nn.Linear(64, 64)})
    ranks = {"up_proj": 4, "q_proj": 16}
    alphas = {"up_proj": 4} if keep_scale else {}
    theirs = get_peft_model(
        model,
        LoraConfig(
            r=16,
            lora_alpha=16,
            use_rslora=True,
            rank_pattern=ranks,
            alpha_pattern=alphas,
            target_modules=[*ranks],
        ),
    )
    for name, layer in theirs.base_model.model.items():
        ours = next(entry for path, entry in plan.items() if path.endswith(name))
        assert ours.scaling == pytest.approx(layer.scaling["default"])
    assert plan["model.layers.0.self_attn.q_proj"].scaling == 4  # 16 / sqrt(16)


# ------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"r": 0}, "r=0: must be a whole number, 1 to 8,192"),
        ({"r": 0, "keep_scale": True}, "r=0: must be a whole number, 1 to 8,192"),
        ({"r": 33}, "QLoRA on model.layers.0.self_attn.k_proj (32 x 64): r=33 exceeds the layer"),
        ({"method": "ir-qlora", "r": 33}, "k_proj (32 x 64): r=33 exceeds the layer; at most 32"),
        ({"method": "ir-qlora", "iec_beta": "one"}, "iec_beta=one: must be learned or a number"),
        ({"method": "ir-qlora", "iec_beta": float("nan")}, "iec_beta=nan: must be learned or"),
        ({"method": "qa-lora", "r": 33}, "k_proj (32 x 64): r=33 exceeds the layer; at most 32"),
        (
            {"method": "qa-lora", "group_size": 24},
            "QA-LoRA on model.layers.0.self_attn.q_proj (64 x 64): group_size=24 does not divide "
            "its 64 inputs; choose a divisor, such as",
        ),
        ({"method": "qa-lora", "group_size": 0}, "group_size=0: must be a whole number, 1 to"),
        ({"method": "qa-lora", "group_size": 128}, "such as 64"),
        ({"method": "q-bara", "r": 33}, "k_proj (32 x 64): r=33 exceeds the layer; at most 32"),
        (
            {"method": "q-bara", "lam": 3},
            "Q-BaRA on model.layers.0.self_attn.q_proj (64 x 64): lam=3 does not divide its 64",
        ),
        (
            {"method": "q-bara", "lam": 64},
            "Q-BaRA on model.layers.0.self_attn.k_proj (32 x 64): lam=64 does not divide its 32 "
            "outputs; choose a divisor, such as 32",
        ),
        (
            {"method": "qa-hira", "lam1": 5},
            "q_proj (64 x 64): lam1=5 does not divide its 64 inputs",
        ),
        ({"method": "qa-hira", "lam2": 64}, "k_proj (32 x 64): lam2=64 does not divide its 32 out"),
        (
            {"method": "lora"},
            "method=lora: must be qlora or ir-qlora or qa-lora or q-bara or qa",
        ),
        (
            {"target_modules": ("query",)},
            "target_modules query: no such linear layer inside the decoder; there are q_proj",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name_and_shape(values, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        plan_of(**values)


def test_one_misfit_deep_in_the_model_is_found():
    linears = modules() | {"model.layers.3.mlp.down_proj": (99, 64)}
    with pytest.raises(ValueError, match=r"model\.layers\.3\.mlp\.down_proj \(64 x 99\): lam=2"):
        compile_plan(linears, AdapterConfig(method="q-bara", r=8, lam=2))


def test_a_rule_can_make_a_method_fit():
    linears = modules(1) | {"model.layers.0.mlp.down_proj": (99, 64)}
    config = AdapterConfig(
        method="q-bara", r=8, lam=2, rules=(Rule(projection=("down_proj",), lam=1),)
    )
    assert compile_plan(linears, config)["model.layers.0.mlp.down_proj"].parameters == 8 * 163


def test_no_model_has_no_modules():
    with pytest.raises(ValueError, match="no such linear layer .*; there are ;"):
        compile_plan({}, AdapterConfig())


# ----------------------------------------------------------------------- parameters, saturation


@pytest.mark.parametrize(
    ("method", "hand"),
    [
        # sums over q, k, v, o, gate, up, down: of d_in + d_out 128 + 96 + 96 + 128 + 3 x 160 = 928,
        # of d_in / 16 + d_out 68 + 36 + 36 + 68 + 100 + 100 + 70 = 478,
        # of d_in d_out / 32 128 + 64 + 64 + 128 + 3 x 192 = 960
        ("qlora", 8 * 928),
        ("ir-qlora", 8 * 928 + 14),
        ("q-bara", 8 * 928),
        ("qa-lora", 8 * 478),
        ("qa-hira", 960),
    ],
)
def test_parameters_by_hand(method, hand):
    plan = plan_of(method=method)
    assert plan.parameters == 4 * hand == sum(e.parameters for e in plan.values())


@pytest.mark.parametrize(
    ("lam", "r", "saturated"),
    # lam^2 r against min(d_in, d_out), which is 32 for k and v and 64 for the others
    [(2, 8, set()), (4, 2, set()), (2, 9, {"k", "v"}), (4, 4, {"k", "v"}), (4, 5, set("kvqoudg"))],
)
def test_saturation_is_lambda_squared_r_beyond_the_smaller_side(lam, r, saturated):
    plan = plan_of(method="q-bara", lam=lam, r=r)
    assert {n.rsplit(".", 1)[1][0] for n in plan.saturated} == saturated
    assert all(
        entry.saturated == (lam**2 * r > min(entry.d_in, entry.d_out)) for entry in plan.values()
    )
    assert bool(plan.warning()) == bool(saturated)


def test_the_warning_names_a_module_and_both_numbers():
    warning = plan_of(method="q-bara", lam=4, r=4).warning()
    assert "8 of 28 modules" in warning
    assert "model.layers.0.self_attn.k_proj: width 16, rank at most 8" in warning


def test_qa_lora_is_saturated_beyond_its_groups():
    """d_in / 16 groups: 4, and 6 for down."""
    plan = plan_of(method="qa-lora", r=5)
    assert {n.rsplit(".", 1)[1] for n in plan.saturated} == set(ALL_LINEAR) - {"down_proj"}
    assert plan["model.layers.0.self_attn.q_proj"].max_rank == 4
    assert not plan_of(method="qa-lora", r=4).saturated


@pytest.mark.parametrize("method", ["qlora", "ir-qlora", "qa-hira"])
def test_the_others_are_never_saturated(method):
    assert not plan_of(method=method, r=32).saturated


# ---------------------------------------------------------------------------------------- table


def test_the_table_has_a_row_a_module():
    table = plan_of(Rule(layer_type="mlp", r=5), method="q-bara", lam=4, r=2).table()
    assert list(table.index) == list(modules())
    row = table.loc["model.layers.1.self_attn.k_proj"]
    assert row["shape"] == "32 x 64" and (row["r"], row["lam"], row["width"]) == (2, 4, 8)
    assert (row["s"], row["rank at most"], row["parameters"], row["saturated"]) == (8, 8, 192, "")
    row = table.loc["model.layers.1.mlp.gate_proj"]
    assert (row["s"], row["width"], row["rank at most"]) == (16 / 5, 20, 16)
    assert (row["parameters"], row["saturated"]) == (800, "yes")


@pytest.mark.parametrize(
    ("method", "columns"),
    [
        ("qlora", {"r"}),
        ("ir-qlora", {"r"}),
        ("qa-lora", {"r"}),
        ("q-bara", {"r", "lam"}),
        ("qa-hira", {"lam1", "lam2"}),
    ],
)
def test_the_table_shows_what_a_rule_can_set(method, columns):
    table = plan_of(method=method).table()
    assert {*table.columns} & {"r", "lam", "lam1", "lam2"} == columns
    assert table["parameters"].sum() == plan_of(method=method).parameters


def test_a_plan_prints_as_its_table_with_the_total_and_the_warning():
    plan = plan_of(method="q-bara", lam=4, r=4)
    for text in (repr(plan), plan._repr_html_()):
        assert "model.layers.3.mlp.down_proj" in text
        assert f"{plan.parameters:,} parameters in 28 modules" in text
        assert plan.warning() in text
    quiet = repr(plan_of())
    assert "wider than the rank" not in quiet and quiet == quiet.rstrip()


def test_a_plan_needs_no_torch():
    code = (
        "import sys\nfrom slimlib.methods import compile_plan\n"
        "from slimlib.config import AdapterConfig\n"
        "config = AdapterConfig(method='qa-hira', target_modules=('q_proj',))\n"
        "plan = compile_plan({'q_proj': (64, 64)}, config)\n"
        "print(plan.parameters, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["128", "False"], done.stderr


# ------------------------------------------------------------------------------- PEFT's configs


RULES = (  # keys of which one is a prefix of another, and alphas that are not sorted as the layers
    Rule(layer_type="mlp", r=2),
    Rule(projection=("q_proj",), layers="1-1", r=16),
    Rule(projection=("q_proj",), layers="10-11", r=4),
)


def matched(pattern, name, default):
    """PEFT's lookup: the first key that matches the end of the path, else the default."""
    for key, value in pattern.items():
        if re.match(rf"(.*\.)?({key})$", name):
            return value
    return default


@pytest.mark.parametrize("keep_scale", [False, True])
def test_plain_patterns_mean_the_same_in_any_order(keep_scale):
    """PEFT saves its patterns sorted and takes the first that matches: each must match alone."""
    plan = plan_of(*RULES, layers=12, keep_scale=keep_scale)
    found = patterns(plan, 8, 16)
    as_saved = json.loads(json.dumps(found, sort_keys=True))
    backwards = {k: dict(reversed(v.items())) for k, v in found.items()}
    for version in (found, as_saved, backwards):
        for entry in plan.values():
            assert matched(version["rank_pattern"], entry.name, 8) == entry.r
            assert matched(version["alpha_pattern"], entry.name, 16) == entry.lora_alpha
    for key in found["rank_pattern"]:
        assert sum(bool(re.match(rf"(.*\.)?({key})$", name)) for name in plan) == 1
    assert bool(found["alpha_pattern"]) is keep_scale


LORA = {"r": 8, "lora_alpha": 16, "target_modules": list(ALL_LINEAR), "bias": "none"}


@pytest.mark.parametrize("method", [name for name in METHODS if name != "qlora"])
def test_a_structured_plan_survives_its_file(method, tmp_path):
    rule = Rule(layer_type="mlp", layers="second_half", **{ADAPTERS[method].ruled[-1]: 4})
    plan = plan_of(rule, method=method)
    config = peft_config(plan, LORA)
    config.save_pretrained(str(tmp_path))
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert saved["peft_type"] == "SLIMLIB_LORA"
    again = SlimLoraConfig.from_pretrained(str(tmp_path))
    assert again.slim == config.slim and again.peft_type == config.peft_type == "LORA"
    for name, entry in plan.items():
        layer = type("Layer", (), {"in_features": entry.d_in, "out_features": entry.d_out})
        assert again.entry(name, layer) == entry


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("use_rslora", True),
        ("use_dora", True),
        ("lora_bias", True),
        ("init_lora_weights", False),
        ("init_lora_weights", "gaussian"),
        ("init_lora_weights", "pissa"),
        ("init_lora_weights", "olora"),
    ],
)
@pytest.mark.parametrize("method", [name for name in METHODS if name != "qlora"])
def test_what_rescales_or_reads_the_plain_matrices_is_refused(method, name, value):
    message = rf"model\.layers\.0\.self_attn\.q_proj \(64 x 64\): {name}={value} does not go"
    with pytest.raises(ValueError, match=message):
        peft_config(plan_of(method=method), LORA | {name: value})


def test_plain_lora_stays_pefts_own():
    config = peft_config(plan_of(), LORA | {"use_rslora": True})
    assert type(config).__name__ == "LoraConfig" and config.use_rslora


# ---------------------------------------------------------------- the names of other architectures

PHI3 = {f"model.layers.0.self_attn.{n}": (64, 64) for n in ("o_proj", "qkv_proj")} | {
    f"model.layers.0.mlp.{n}": (64, 64) for n in ("gate_up_proj", "down_proj")
}
GPT2 = {f"transformer.h.0.{n}": (64, 64) for n in ("attn.c_attn", "attn.c_proj", "mlp.c_proj")}
MOE = {
    "model.layers.0.self_attn.q_proj": (64, 64),
    "model.layers.0.mlp.experts.3.up_proj": (64, 64),
    "model.layers.0.mlp.shared_expert_gate": (64, 1),
}


def names_of(linears, *rules, **values):
    return [*compile_plan(linears, AdapterConfig(r=4, rules=rules, **values))]


@pytest.mark.parametrize("linears", [PHI3, GPT2])
def test_all_linear_takes_every_module_of_any_architecture(linears):
    assert names_of(linears, target_modules="all-linear") == [*linears]
    assert AdapterConfig(target_modules="all-linear").target_modules == ("all-linear",)


def test_all_linear_leaves_out_what_chooses_among_experts():
    assert names_of(MOE, target_modules="all-linear") == [*MOE][:2]


def test_a_partial_match_is_refused_with_the_names_that_there_are():
    """Of the seven names Phi-3 has two: the others would have stayed untrained, unsaid."""
    words = "q_proj, k_proj, v_proj, gate_proj, up_proj: no such .*there are o_proj, qkv_proj, gate"
    with pytest.raises(ValueError, match=f"target_modules {words}"):
        check_names(PHI3, AdapterConfig().target_modules)


def test_a_name_may_be_more_of_a_path_s_end():
    assert names_of(GPT2, target_modules=("mlp.c_proj",)) == ["transformer.h.0.mlp.c_proj"]
    assert len(names_of(GPT2, target_modules=("c_proj",))) == 2
    with pytest.raises(ValueError, match="ttn.c_attn: no such"):  # parts of a path, not letters
        names_of(GPT2, target_modules=("ttn.c_attn",))


@pytest.mark.parametrize(("linears", "attention"), [(PHI3, 2), (GPT2, 2), (MOE, 1)])
@pytest.mark.parametrize("layer_type", ["attention", "mlp"])
def test_a_rule_for_a_layer_type_reads_the_path(layer_type, linears, attention):
    config = AdapterConfig(
        r=4, target_modules="all-linear", rules=(Rule(layer_type=layer_type, r=2),)
    )
    ruled = [name for name, entry in compile_plan(linears, config).items() if entry.r == 2]
    targets = names_of(linears, target_modules="all-linear")
    assert ruled == (targets[:attention] if layer_type == "attention" else targets[attention:])


def test_a_convolution_s_projections_are_of_neither_type():
    linears = {"model.layers.0.conv.in_proj": (64, 192), "model.layers.0.feed_forward.w1": (64, 64)}
    config = AdapterConfig(target_modules="all-linear", rules=(Rule(layer_type="mlp", r=2),))
    assert [entry.r for entry in compile_plan(linears, config).values()] == [16, 2]


def test_a_misspelt_projection_of_a_rule_is_refused_though_another_matches():
    with pytest.raises(ValueError, match="matches none .* by the name kproj"):
        plan_of(Rule(projection=("q_proj", "kproj"), r=2))


def test_all_linear_stands_alone():
    with pytest.raises(ValueError, match="all-linear is every linear module already"):
        AdapterConfig(target_modules=("all-linear", "q_proj"))


# ------------------------------------------------------------------------------- left un-quantised


@pytest.mark.parametrize(
    ("keep", "count", "first"),
    [
        ((), 0, None),
        (("attention",), 24, "model.layers.0.self_attn.q_proj"),
        (("mlp",), 18, "model.layers.0.mlp.gate_proj"),
        (("first_third",), 14, "model.layers.0.self_attn.q_proj"),
        (("middle_third",), 14, "model.layers.2.self_attn.q_proj"),
        (("last_third",), 14, "model.layers.4.self_attn.q_proj"),
        (("1-2",), 14, "model.layers.1.self_attn.q_proj"),
        (("down_proj", "attention"), 30, "model.layers.0.self_attn.q_proj"),
        (("layers.5.mlp.down_proj",), 1, "model.layers.5.mlp.down_proj"),
    ],
)
def test_what_is_kept_by_type_depth_and_name(keep, count, first):
    """Six layers of four attention modules and three of the MLP."""
    found = kept(modules(6), keep)
    assert len(found) == count and found[:1] == ([first] if first else [])


def test_the_thirds_are_the_whole_whatever_the_number_of_layers():
    for layers in (3, 4, 5, 30):
        names = [*modules(layers)]
        thirds = [kept(names, (f"{third}_third",)) for third in ("first", "middle", "last")]
        assert sorted(sum(thirds, [])) == sorted(names)
        assert max(map(len, thirds)) - min(map(len, thirds)) <= len(SHAPES)


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        (
            ("c_attn",),
            "model.keep=c_attn matches no linear layer; there are q_proj, k_proj",
        ),
        (("7-9",), "model.keep=7-9 matches no linear layer"),
        (("attention", "mlp"), "leaves nothing to quantise: set model.load_in_4bit=false"),
    ],
)
def test_a_keep_that_matches_nothing_or_all_is_refused(keep, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        kept(modules(), keep)
