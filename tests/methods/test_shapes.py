"""Parameters from dimensions, against closed forms, PEFT's print-outs, checkpoints and by hand."""

import json
import struct
from dataclasses import replace
from math import prod

import pytest
from places import CHECKOUT

from slimlib.config import ALL_LINEAR, ATTENTION, AdapterConfig, Rule
from slimlib.methods.shapes import (
    SHAPES,
    Shape,
    base_parameters,
    count_parameters,
    equal_cut,
    get_shape,
    lora_parameters,
    parameter_table,
    saving,
    shape_of_folder,
)

CHECKPOINTS = CHECKOUT / "slimlib/data/micro/checkpoints"
SMALL = ("Llama-3.2-1B", "TinyLlama-1.1B")
# One layer: q, o 4 + 4 (2 + 2 each), k, v 2 + 1 each, gate and up 2 + 3, down 3 + 2.
BY_HAND = Shape(hidden=2, intermediate=3, kv_out=1, layers=1)


def mlp(**values: int) -> Rule:
    return Rule(layer_type="mlp", **values)


def test_the_paper_s_example():
    assert lora_parameters(1_000, 1_000, 10) == 20_000


# ----------------------------------------------------------------------------------- the models


def test_modules_are_the_checkpoint_s():
    """Names, shapes and order as transformers' own state dict has them; all linear but lm_head."""
    with (CHECKPOINTS / "base/model.safetensors").open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    header.pop("__metadata__", None)
    shapes = {name.removesuffix(".weight"): tuple(v["shape"]) for name, v in header.items()}
    linear = {n: s for n, s in shapes.items() if n.endswith("_proj")}
    assert {n: (d_out, d_in) for n, (d_in, d_out) in SHAPES["micro"].modules().items()} == linear
    assert base_parameters("micro") == sum(prod(shape) for shape in shapes.values())


def test_modules_come_in_the_model_s_order():
    names = list(SHAPES["Llama-3.2-1B"].modules())
    assert len(names) == 16 * 7
    assert [name.rpartition(".")[2] for name in names[:7]] == list(ALL_LINEAR)
    assert names[7] == "model.layers.1.self_attn.q_proj"
    assert names[-1] == "model.layers.15.mlp.down_proj"


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("Llama-3.2-1B", 1_235_814_400),
        ("TinyLlama-1.1B", 1_100_048_384),
        ("LLaMA-7B", 6_738_415_616),
        ("LLaMA-13B", 13_015_864_320),
    ],
)
def test_base_parameters(model, expected):
    """As the checkpoints have them: Meta's "1.23B", the "6.7B" and "13.0B" of LLaMA's Table 2."""
    assert base_parameters(model) == base_parameters(SHAPES[model]) == expected


def test_base_parameters_by_hand():
    """Linear 4 + 4 + 2 + 2 + 18, two norms in the layer and one at the end, embeddings 5 x 2."""
    untied = BY_HAND._replace(vocab_size=5)
    assert base_parameters(untied) == 30 + 3 * 2 + 2 * 10
    assert base_parameters(untied._replace(tied=True)) == 30 + 3 * 2 + 10


def test_an_unknown_shape_is_refused():
    with pytest.raises(ValueError, match="shape 'Llama-3-8B' is not known; .*LLaMA-7B, LLaMA-13B"):
        get_shape("Llama-3-8B")


# ------------------------------------------------------------------------------------ the counts


@pytest.mark.parametrize(
    ("model", "r", "expected"),
    [
        ("Llama-3.2-1B", 16, 11_272_192),  # PEFT's own count, also in the author's notebook
        ("TinyLlama-1.1B", 16, 12_615_680),
        ("TinyLlama-1.1B", 32, 25_231_360),  # printed in Unsloth's TinyLlama notebook
        ("LLaMA-7B", 64, 159_907_840),
        ("LLaMA-13B", 64, 250_347_520),
    ],
)
def test_known_counts(model, r, expected):
    assert count_parameters(model, AdapterConfig(r=r)) == expected


QKV, QKVO = ATTENTION[:3], ATTENTION
COUNTS = {  # (model, modules): r = 8, 16, 64 as (parameters, per cent of the base's)
    ("Llama-3.2-1B", QKV): ((1_179_648, 0.095), (2_359_296, 0.191), (9_437_184, 0.764)),
    ("Llama-3.2-1B", QKVO): ((1_703_936, 0.138), (3_407_872, 0.276), (13_631_488, 1.103)),
    ("Llama-3.2-1B", ALL_LINEAR): ((5_636_096, 0.456), (11_272_192, 0.912), (45_088_768, 3.649)),
    ("TinyLlama-1.1B", QKV): ((1_531_904, 0.139), (3_063_808, 0.279), (12_255_232, 1.114)),
    ("TinyLlama-1.1B", QKVO): ((2_252_800, 0.205), (4_505_600, 0.410), (18_022_400, 1.638)),
    ("TinyLlama-1.1B", ALL_LINEAR): ((6_307_840, 0.573), (12_615_680, 1.147), (50_462_720, 4.587)),
}


@pytest.mark.parametrize(("model", "modules"), COUNTS)
def test_lora_on_some_modules(model, modules):
    adapters = {r: AdapterConfig(r=r, target_modules=modules) for r in (8, 16, 64)}
    table = parameter_table([model], adapters)
    for r, (count, share) in zip(adapters, COUNTS[model, modules], strict=True):
        row = table.loc[(model, r)]
        assert row["trainable"] == count
        assert round(row["% of base"], 3) == share


def test_the_share_as_peft_prints_it():
    table = parameter_table(SMALL, {"r=64": AdapterConfig(r=64)})
    assert [round(share, 3) for share in table["% of all"]] == [3.520, 4.386]
    assert list(table.index) == [(model, "r=64") for model in SMALL]


HIRA = AdapterConfig(method="qa-hira", lam1=4, lam2=8)


@pytest.mark.parametrize(
    ("adapter", "llama", "tinyllama"),
    [
        (AdapterConfig(method="q-bara", r=16, lam=2), 11_272_192, 12_615_680),
        (AdapterConfig(method="ir-qlora", r=16), 11_272_192 + 2 * 112, 12_615_680 + 2 * 154),
        (AdapterConfig(method="ir-qlora", r=16, iec_beta=1.0), 11_272_192, 12_615_680),
        (AdapterConfig(method="qa-lora", r=16, group_size=32), 6_193_152, 6_504_960),
        (AdapterConfig(method="qa-lora", r=64, group_size=32), 24_772_608, 26_019_840),
        (HIRA, 30_408_704, 30_277_632),
        (replace(HIRA, lam1=8), 15_204_352, 15_138_816),
        (replace(HIRA, rules=(mlp(lam1=8),)), 17_825_792, 18_382_848),
    ],
)
def test_the_methods_counts(adapter, llama, tinyllama):
    assert [count_parameters(model, adapter) for model in SMALL] == [llama, tinyllama]


def test_qa_hira_s_share_of_the_base():
    table = parameter_table(SMALL, {"(4, 8)": HIRA})
    assert [round(share, 3) for share in table["% of base"]] == [2.461, 2.752]


def test_a_count_by_hand():
    """Rank 1 on the seven matrices: 4 + 3 + 3 + 4 of the attention, 5 + 5 + 5 of the MLP."""
    assert count_parameters(BY_HAND, AdapterConfig(r=1)) == 29


def test_a_table_of_one_s_own_shapes():
    table = parameter_table({"mine": BY_HAND._replace(vocab_size=5)}, {"r=1": AdapterConfig(r=1)})
    row = table.loc[("mine", "r=1")]
    assert list(row) == [29, 100 * 29 / 56, 100 * 29 / 85]


# ----------------------------------------------------------------------------------- the savings

LORA = AdapterConfig(r=64)
BARA = AdapterConfig(method="q-bara", r=64)
GROUPS = AdapterConfig(method="qa-lora", r=64, group_size=32)
SHARES = {  # model: the MLP's share, halved, quartered, of r (d_in + d_out), d_in d_out, QA-LoRA's
    "LLaMA-7B": ((58.03, 29.02, 43.52), (66.84, 33.42, 50.13), (61.25, 30.63, 45.94)),
    "LLaMA-13B": ((58.12, 29.06, 43.59), (66.94, 33.47, 50.21), (61.35, 30.67, 46.01)),
    "Llama-3.2-1B": ((69.77, 34.88, 52.33), (82.76, 41.38, 62.07), (77.78, 38.89, 58.33)),
    "TinyLlama-1.1B": ((64.29, 32.14, 48.21), (78.57, 39.29, 58.93), (73.68, 36.84, 55.26)),
}


@pytest.mark.parametrize("model", SHARES)
@pytest.mark.parametrize(
    ("column", "adapter", "halved", "quartered"),
    [
        (0, LORA, mlp(r=32), mlp(r=16)),
        (0, BARA, mlp(r=32), mlp(r=16)),
        (1, HIRA, mlp(lam1=8), mlp(lam1=16)),  # (4, 8) -> (8, 8), (16, 8)
        (2, GROUPS, mlp(r=32), mlp(r=16)),
    ],
)
def test_smaller_mlp_ranks(model, column, adapter, halved, quartered):
    share, half, quarter = SHARES[model][column]
    assert round(saving(model, adapter, halved), 2) == half
    assert round(saving(model, adapter, quartered), 2) == quarter
    assert round(2 * saving(model, adapter, halved), 2) == pytest.approx(share, abs=0.005)


@pytest.mark.parametrize(
    ("model", "expected"),
    [("LLaMA-7B", 20.98), ("LLaMA-13B", 20.94), ("Llama-3.2-1B", 15.12), ("TinyLlama-1.1B", 17.86)],
)
def test_the_attention_s_rank_halved(model, expected):
    assert round(saving(model, LORA, Rule(layer_type="attention", r=32)), 2) == expected


def test_savings_by_hand():
    assert saving(BY_HAND, AdapterConfig(r=1)) == 0
    wide = Shape(hidden=4, intermediate=8, kv_out=2, layers=1)  # attention 28 r, MLP 36 r
    rule = Rule(layer_type="mlp", r=1)
    assert saving(wide, AdapterConfig(r=2), rule) == pytest.approx(100 * 36 / 128)


# ----------------------------------------------------------------------------------- equal cuts


def test_an_equal_cut_by_hand():
    """Attention 14 and MLP 15 parameters a rank: 4 -> 2 in the MLP saves 30 = 2.14 x 14."""
    shape = Shape(hidden=2, intermediate=3, kv_out=1, layers=1)
    shape = shape._replace(hidden=8, intermediate=12, kv_out=4)  # 4 x as wide: 56 and 60
    cut = equal_cut(shape, AdapterConfig(r=4), "mlp", 2)
    assert (cut.r, cut.cut, cut.other) == (4, 2, "attention")
    assert cut.rank == pytest.approx(4 - 120 / 56)
    assert cut.saving == pytest.approx(100 * 120 / 464)
    assert cut.nearest == 2
    assert cut.nearest_saving == pytest.approx(100 * 112 / 464)
    assert cut.most == pytest.approx(100 * 168 / 464)
    assert cut.rule == Rule(layer_type="attention", r=2)
    assert str(cut) == (
        "MLP rank 4 -> 2 saves 25.86 %; so does attention rank 1.86, and rank 2 saves 24.14 %"
    )


def test_an_equal_cut_saves_as_many_parameters():
    """The rule that it gives, counted anew; the nearest rank is off by half a rank at most."""
    cut = equal_cut("LLaMA-7B", LORA, "mlp", 2)
    assert cut.rank == pytest.approx(64 - 32 * 45_312 / 32_768)
    assert cut.nearest == 20
    assert round(cut.saving, 2) == 29.02
    assert cut.nearest_saving == pytest.approx(saving("LLaMA-7B", LORA, cut.rule))
    per_rank = 100 * 32_768 / (64 * (32_768 + 45_312))
    assert abs(cut.saving - cut.nearest_saving) <= per_rank / 2


def test_the_cut_the_other_way_round():
    cut = equal_cut("Llama-3.2-1B", LORA, "attention", 2)
    assert round(cut.saving, 2) == 15.12
    assert cut.rank == pytest.approx(64 - 32 * 30 / 69.23, abs=0.5)
    assert cut.rank == pytest.approx(64 - 32 * 13_312 / 30_720)  # a rank of each, per layer
    assert cut.rule == Rule(layer_type="mlp", r=50)
    assert str(cut).startswith("attention rank 64 -> 32 saves 15.12 %; so does MLP rank 50.13")


def test_a_cut_that_the_attention_cannot_match():
    """Llama's attention has 30.23 % of the parameters, half of the MLP's is 34.88 %."""
    cut = equal_cut("Llama-3.2-1B", LORA, "mlp", 2)
    assert not cut.possible
    assert cut.rank < 0
    assert cut.most == pytest.approx(30.23 * 63 / 64, abs=0.01)
    assert str(cut) == (
        "MLP rank 64 -> 32 saves 34.88 %; no attention rank saves as much: rank 1 saves 29.76 %"
    )
    with pytest.raises(ValueError, match="no attention rank saves as much"):
        cut.rule  # noqa: B018


@pytest.mark.parametrize(
    ("r", "rank", "nearest", "possible"), [(8, 0.8, 1, True), (4, 0.4, 1, False)]
)
def test_a_cut_at_the_lowest_rank(r, rank, nearest, possible):
    """TinyLlama: the attention must keep a tenth of its rank, which may be less than rank 1."""
    cut = equal_cut("TinyLlama-1.1B", AdapterConfig(r=r), "mlp", 2)
    assert cut.rank == pytest.approx(rank)
    assert (cut.nearest, cut.possible) == (nearest, possible)
    assert cut.nearest_saving == pytest.approx(cut.most)


def test_an_equal_cut_counts_what_does_not_depend_on_the_rank():
    """IR-QLoRA's two constants a module are never saved, so the ranks come out as LoRA's."""
    plain, learned = (
        equal_cut("LLaMA-7B", AdapterConfig(method=method, r=64))
        for method in ("qlora", "ir-qlora")
    )
    assert learned.rank == pytest.approx(plain.rank, abs=1e-9)
    assert learned.saving < plain.saving


def test_bad_cuts_are_refused():
    with pytest.raises(ValueError, match="divisor=0: must be 2 or more and divide r=64"):
        equal_cut("LLaMA-7B", LORA, "mlp", 0)
    with pytest.raises(ValueError, match="divisor=4: must be 2 or more and divide r=2"):
        equal_cut("LLaMA-7B", AdapterConfig(r=2), "mlp", 4)
    with pytest.raises(ValueError, match="layer_type='head': must be one of mlp, attention"):
        equal_cut("LLaMA-7B", LORA, "head")
    with pytest.raises(ValueError, match="1 rules; start from one rank for all"):
        equal_cut("LLaMA-7B", replace(LORA, rules=(mlp(r=8),)))
    with pytest.raises(ValueError, match="sets r; a rule of qa-hira sets lam1, lam2"):
        equal_cut("LLaMA-7B", AdapterConfig(method="qa-hira", r=64))
    with pytest.raises(ValueError, match="matches none of the 64 target modules"):
        equal_cut("Llama-3.2-1B", replace(LORA, target_modules=ATTENTION))


def test_a_shape_is_read_from_a_checkpoints_config(tmp_path):
    from slimlib.common.files import write_json
    from slimlib.model.load import resolve_name

    assert shape_of_folder(resolve_name("micro:base")) == SHAPES["micro"]
    llama = {"model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192}
    llama |= {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64}
    llama |= {"num_hidden_layers": 16, "vocab_size": 128_256, "tie_word_embeddings": True}
    write_json(tmp_path / "config.json", llama)
    assert shape_of_folder(tmp_path) == SHAPES["Llama-3.2-1B"]
    write_json(tmp_path / "config.json", {"model_type": "gpt2"})
    assert shape_of_folder(tmp_path) is None
