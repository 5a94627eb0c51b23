"""The five methods against their closed forms: forward, gradients, counts, start, rank, blocks."""

import copy

import bitsandbytes
import pytest
import torch
from closed_forms import ALPHA, Net, delta, elastic_matrix, randomise, trained_parts
from peft import get_peft_model
from torch import nn

from slimlib.adapters.layers import peft_config
from slimlib.config import AdapterConfig
from slimlib.methods import METHODS, compile_plan

DIMS = [(96, 160), (128, 320), (320, 128)]  # (d_in, d_out)
RANKS = [4, 8, 12]
LAMBDAS = [1, 2, 4, 8]
TILES = [(1, 1), (1, 8), (2, 4), (4, 8), (8, 2), (8, 8)]
GRIDS = {
    "qlora": [{}],
    "ir-qlora": [{}],
    "qa-lora": [{"group_size": g} for g in (1, 4, 16, 32)],
    "q-bara": [{"lam": lam} for lam in LAMBDAS],
    "qa-hira": [{"lam1": a, "lam2": b} for a, b in TILES],
}
# r divides neither, one or the other side: IR-QLoRA's paper has a form for it (gcd)
UNEVEN = [(90, 100, 8), (96, 160, 7), (96, 100, 12), (100, 96, 12), (30, 45, 20)]
GRID = [
    (method, *dims, {"r": r, **values})
    for method in METHODS
    for dims in DIMS
    for r in RANKS
    for values in GRIDS[method]
] + [("ir-qlora", d_in, d_out, {"r": r}) for d_in, d_out, r in UNEVEN]
BY_METHOD = {method: [case[1:] for case in GRID if case[0] == method] for method in METHODS}
SMALL = {  # one plain choice of each, on 96 -> 160
    "qlora": {"r": 8},
    "ir-qlora": {"r": 8},
    "qa-lora": {"r": 8, "group_size": 16},
    "q-bara": {"r": 8, "lam": 2},
    "qa-hira": {"r": 8, "lam1": 4, "lam2": 8},
}


def entry_of(method, d_in, d_out, values):
    config = AdapterConfig(method=method, lora_alpha=ALPHA, target_modules=("q_proj",), **values)
    return compile_plan({"q_proj": (d_in, d_out)}, config)["q_proj"]


def attached(net, method, values):
    """A net with its adapter, by PEFT itself."""
    layer = net.q_proj
    config = AdapterConfig(method=method, lora_alpha=ALPHA, target_modules=("q_proj",), **values)
    plan = compile_plan({"q_proj": (layer.in_features, layer.out_features)}, config)
    lora = {"r": values["r"], "lora_alpha": ALPHA, "target_modules": ["q_proj"], "bias": "none"}
    config = peft_config(plan, lora)
    config.task_type = None  # the net is no language model
    torch.manual_seed(0)
    return get_peft_model(net, config)


def with_adapter(method, d_in, d_out, values):
    """(base weight, model), both float64."""
    torch.manual_seed(1)
    net = Net(d_in, d_out)
    weight = net.q_proj.weight.detach().clone()
    return weight, attached(net, method, values).double()


def inputs(d_in):
    return torch.randn(3, 5, d_in, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def relative(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


# ------------------------------------------------------------------------------ the closed form


@pytest.mark.parametrize("method", METHODS)
def test_forward_is_the_closed_form(method):
    for d_in, d_out, values in BY_METHOD[method]:
        weight, model = with_adapter(method, d_in, d_out, values)
        randomise(model)
        dw = delta(method, trained_parts(model), d_in, d_out, values)
        x = inputs(d_in)
        expected = x @ (weight + dw).T
        assert relative(x @ weight.T, expected) > 0.1, values  # the adapter is seen at all
        assert relative(model(x), expected) < 1e-12, values


@pytest.mark.parametrize("method", METHODS)
def test_gradients_are_those_of_the_closed_form(method):
    for d_in, d_out, values in BY_METHOD[method]:
        weight, model = with_adapter(method, d_in, d_out, values)
        parts = trained_parts(randomise(model))
        x = inputs(d_in)
        upstream = torch.randn(3, 5, d_out, dtype=torch.float64)
        (model(x) * upstream).sum().backward()
        leaves = {name: part.detach().clone().requires_grad_() for name, part in parts.items()}
        y = x @ (weight + delta(method, leaves, d_in, d_out, values)).T
        (y * upstream).sum().backward()
        for name, leaf in leaves.items():
            assert relative(parts[name].grad, leaf.grad) < 1e-12, (values, name)


@pytest.mark.parametrize("method", METHODS)
def test_what_consumers_read_is_the_same_pair(method):
    """`.weight` of lora_A and lora_B, and PEFT's own delta from them, which its merge adds."""
    for d_in, d_out, values in BY_METHOD[method]:
        weight, model = with_adapter(method, d_in, d_out, values)
        dw = delta(method, trained_parts(randomise(model)), d_in, d_out, values)
        layer = model.base_model.model.q_proj
        a, b = layer.lora_A["default"], layer.lora_B["default"]
        assert (a.weight.shape[1], b.weight.shape[0]) == (d_in, d_out)
        assert a.bias is None and b.bias is None
        assert relative(layer.scaling["default"] * b.weight @ a.weight, dw) < 1e-12, values
        assert relative(layer.get_delta_weight("default"), dw) < 1e-12, values
        merged = model.merge_and_unload().q_proj.weight
        assert relative(merged, weight + dw) < 1e-12, values


def as_the_authors_write_it(method, parts, x, values):
    """The adapter's part of y in the terms of the published code: pooling layers, repetitions."""
    d_in, r = x.shape[-1], values["r"]
    if method == "ir-qlora":
        u = x @ parts["A"].T + parts["b1"] * nn.AvgPool1d(d_in // r)(x)
        d_out = parts["B"].shape[0]
        out = u @ parts["B"].T + parts["b2"] * u.repeat_interleave(d_out // r, -1)
    elif method == "qa-lora":
        out = nn.AvgPool1d(values["group_size"])(x) @ parts["A"].T @ parts["B"].T
    elif method == "q-bara":
        inner = nn.AvgPool1d(values["lam"])(x) @ parts["A"].T @ parts["B"].T
        out = inner.repeat_interleave(values["lam"], -1)
    else:
        out = nn.AvgPool1d(values["lam1"])(x) @ parts["B"].T
        out = out.repeat_interleave(values["lam2"], -1)
    return ALPHA / r * out


@pytest.mark.parametrize("method", [name for name in METHODS if name != "qlora"])
def test_forward_is_the_published_one(method):
    values = SMALL[method]
    weight, model = with_adapter(method, 96, 160, values)
    parts = trained_parts(randomise(model))
    x = inputs(96)
    expected = x @ weight.T + as_the_authors_write_it(method, parts, x, values)
    assert relative(model(x), expected) < 1e-12


def test_the_uneven_elastic_connection_by_hand():
    """r = 4, d = 6, g = 2: means of inputs 0, 2, 4 and of 1, 3, 5, in turn; back out likewise."""
    third = 1 / 3
    row = [[third, 0, third, 0, third, 0], [0, third, 0, third, 0, third]]
    assert elastic_matrix(4, 6).tolist() == row + row
    assert elastic_matrix(6, 4).tolist() == [[0.5, 0, 0.5, 0], [0, 0.5, 0, 0.5]] * 3
    values = {"r": 4, "iec_beta": 1.0}
    torch.manual_seed(0)
    net = Net(6, 6)
    weight = net.q_proj.weight.detach().clone()
    model = attached(net, "ir-qlora", values).double()
    parts = trained_parts(model)
    parts["A"].data.zero_()
    x = torch.arange(6, dtype=torch.float64)  # means 2 and 3; two pairs each, averaged again
    passed = model(x) - x @ weight.T
    torch.testing.assert_close(passed, torch.tensor([2.0, 3, 2, 3, 2, 3]).double() * ALPHA / 4)


# ---------------------------------------------------------------------------------- parameters


def formula(method, d_in, d_out, values):
    r = values["r"]
    return {
        "qlora": r * (d_in + d_out),
        "ir-qlora": r * (d_in + d_out) + 2,
        "qa-lora": r * (d_in // values.get("group_size", 1) + d_out),
        "q-bara": r * (d_in + d_out),
        "qa-hira": d_in * d_out // (values.get("lam1", 1) * values.get("lam2", 1)),
    }[method]


@pytest.mark.parametrize("method", METHODS)
def test_parameters_are_the_formula(method):
    for d_in, d_out, values in BY_METHOD[method]:
        _, model = with_adapter(method, d_in, d_out, values)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        expected = formula(method, d_in, d_out, values)
        assert trained == expected == entry_of(method, d_in, d_out, values).parameters, values


def test_a_fixed_beta_is_not_trained():
    values = {"r": 8, "iec_beta": 0.5}
    _, model = with_adapter("ir-qlora", 96, 160, values)
    assert set(trained_parts(model)) == {"A", "B"}
    assert entry_of("ir-qlora", 96, 160, values).parameters == 8 * (96 + 160)


@pytest.mark.parametrize("method", METHODS)
def test_max_rank_is_reached_and_not_exceeded(method):
    for d_in, d_out, values in BY_METHOD[method]:
        _, model = with_adapter(method, d_in, d_out, values)
        dw = delta(method, trained_parts(randomise(model)), d_in, d_out, values)
        rank = torch.linalg.matrix_rank(dw.detach()).item()
        assert rank == entry_of(method, d_in, d_out, values).max_rank, (d_in, d_out, values)


@pytest.mark.parametrize("method", METHODS)
def test_dw_is_constant_on_its_blocks_and_on_no_larger_ones(method):
    values = SMALL[method]
    _, model = with_adapter(method, 96, 160, values)
    dw = delta(method, trained_parts(randomise(model)), 96, 160, values).detach()
    block = entry_of(method, 96, 160, values).block
    assert block == {"qa-lora": (1, 16), "qa-hira": (8, 4)}.get(method)

    def spread(rows, columns):
        tiles = dw.reshape(160 // rows, rows, 96 // columns, columns)
        return (tiles.amax((1, 3)) - tiles.amin((1, 3))).amin().item()

    if block:
        assert spread(*block) < 1e-12
        assert spread(2 * block[0], block[1]) > 1e-6
        assert spread(block[0], 2 * block[1]) > 1e-6
    elif method != "q-bara":  # whose dW is constant on lam x lam, but no quantiser has such blocks
        assert spread(1, 2) > 1e-6


# ---------------------------------------------------------------------------------------- start


@pytest.mark.parametrize("method", METHODS)
def test_a_new_adapter_is_no_change_at_all(method):
    for d_in, d_out, values in BY_METHOD[method]:
        weight, model = with_adapter(method, d_in, d_out, values)
        x = inputs(d_in)
        assert torch.equal(model(x), nn.functional.linear(x, weight)), values


def test_the_articles_fixed_beta_changes_the_model_before_the_first_step():
    """Its equation 4 has no betas, that is 1: then dW = s R (A + P) although B = 0."""
    values = {"r": 8, "iec_beta": 1.0}
    weight, model = with_adapter("ir-qlora", 96, 160, values)
    one = torch.ones(1, dtype=torch.float64)
    parts = trained_parts(model) | {"b1": one, "b2": one}
    assert parts["B"].abs().max() == 0
    dw = delta("ir-qlora", parts, 96, 160, values)
    assert dw.abs().max() > 0.1
    x = inputs(96)
    assert relative(model(x), x @ (weight + dw).T) < 1e-12
    assert relative(model(x), x @ weight.T) > 0.1


@pytest.mark.parametrize(("beta", "same"), [(0.0, True), (0, True), (-0.25, False)])
def test_any_number_can_be_the_fixed_beta(beta, same):
    values = {"r": 8, "iec_beta": beta}
    weight, model = with_adapter("ir-qlora", 96, 160, values)
    x = inputs(96)
    assert (relative(model(x), x @ weight.T) < 1e-12) is same
    randomise(model)
    number = torch.tensor(float(beta), dtype=torch.float64)
    parts = trained_parts(model) | {"b1": number, "b2": number}
    dw = delta("ir-qlora", parts, 96, 160, values)
    assert relative(model(x), x @ (weight + dw).T) < 1e-12


def test_the_first_gradients_of_the_elastic_connection():
    """With B = b2 = 0 nothing reaches A and b1; B and b2 move first."""
    _, model = with_adapter("ir-qlora", 96, 160, {"r": 8})
    model(inputs(96)).square().sum().backward()
    sizes = {name: part.grad.abs().max().item() for name, part in trained_parts(model).items()}
    assert sizes["A"] == sizes["b1"] == 0
    assert sizes["B"] > 0 and sizes["b2"] > 0


@pytest.mark.parametrize(
    ("method", "bound"),
    [
        # kaiming_uniform(a = sqrt 5) of a matrix with n columns is U(-1/sqrt n, 1/sqrt n)
        ("qlora", 1 / 96**0.5),
        ("ir-qlora", 1 / 96**0.5),
        ("q-bara", 1 / 48**0.5),
        ("qa-lora", (6 / (8 + 6)) ** 0.5),  # xavier of 8 x 6: sqrt(6 / (rows + columns))
    ],
)
def test_the_initial_a_has_its_papers_spread(method, bound):
    _, model = with_adapter(method, 96, 160, SMALL[method])
    parts = trained_parts(model)
    largest = parts["A"].abs().max().item()
    assert 0.9 * bound < largest <= bound
    assert all(part.abs().max() == 0 for name, part in parts.items() if name != "A")


# ------------------------------------------------------------------------------ 4 bit and 16 bit


class Net4bit(nn.Module):
    """The same net, its layer in bitsandbytes' NF4."""

    def __init__(self, weight):
        super().__init__()
        layer = bitsandbytes.nn.Linear4bit(
            weight.shape[1], weight.shape[0], bias=False, quant_type="nf4", compute_dtype=None
        )
        layer.weight = bitsandbytes.nn.Params4bit(weight, requires_grad=False, quant_type="nf4")
        self.q_proj = layer.to("cpu")

    def forward(self, x):
        return self.q_proj(x)


@pytest.mark.parametrize("method", METHODS)
def test_on_a_4_bit_layer_it_is_added_to_the_dequantised_weight(method):
    values = SMALL[method]
    torch.manual_seed(1)
    net = Net4bit(torch.randn(160, 96))
    stored = net.q_proj.weight
    weight = bitsandbytes.functional.dequantize_4bit(stored.data, stored.quant_state).double()
    model = attached(net, method, values)
    parts = trained_parts(randomise(model))
    assert {part.dtype for part in parts.values()} == {torch.float32}
    parts = {name: part.detach().double() for name, part in parts.items()}
    x = inputs(96)
    found = model(x.float().requires_grad_())
    assert relative(found.double(), x @ (weight + delta(method, parts, 96, 160, values)).T) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", METHODS)
def test_a_16_bit_base_takes_a_float32_adapter(method, dtype):
    """PEFT keeps what is trained in float32; what is not trained must go along with it."""
    values = SMALL[method] | ({"iec_beta": 0.3} if method == "ir-qlora" else {})
    torch.manual_seed(1)
    net = Net(96, 160).to(dtype)
    weight = net.q_proj.weight.detach().double()
    model = attached(net, method, values)
    parts = trained_parts(randomise(model))
    assert {part.dtype for part in parts.values()} == {torch.float32}
    parts = {name: part.detach().double() for name, part in parts.items()}
    if method == "ir-qlora":  # 0.3 as it is, not as 16 bit would round it (0.30078 in bfloat16)
        parts |= {"b1": torch.tensor(0.3).double(), "b2": torch.tensor(0.3).double()}
    dw = delta(method, parts, 96, 160, values)
    layer = model.base_model.model.q_proj
    pair = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    assert pair.dtype == torch.float32
    assert relative(layer.scaling["default"] * pair.double(), dw) < 1e-6
    x = inputs(96).to(dtype)
    expected = x.double() @ (weight + dw).T
    assert relative(model(x).double(), expected) < 3 * torch.finfo(dtype).eps


@pytest.mark.parametrize("method", METHODS)
def test_a_copy_is_independent(method):
    _, model = with_adapter(method, 96, 160, SMALL[method])
    randomise(model)
    x = inputs(96)
    before = model(x)
    twin = copy.deepcopy(model).float()
    randomise(twin, seed=5)
    assert twin(x.float()).dtype == torch.float32
    assert torch.equal(model(x), before)
    assert relative(twin(x.float()).double(), before) > 0.1
