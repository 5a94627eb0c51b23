"""The method diagram: its boxes are the methods' own matrices, and every label has its place."""

from itertools import combinations, pairwise
from math import prod

import numpy as np
import pytest
from adapters_of_all import adapter_with

from slimlib.adapters.structure import build_pair
from slimlib.methods.definitions import METHODS
from slimlib.methods.plan import compile_plan
from slimlib.report import diagram

SHAPES = [(2048, 512), (192, 512), (512, 192), (64, 64)]
CONFIGS = [
    {},
    {"r": 4, "lora_alpha": 8, "lam": 4, "lam1": 8, "lam2": 8, "group_size": 64},
    {"r": 1, "lam": 1, "lam1": 1, "lam2": 1, "group_size": 1, "iec_beta": 1.0},
]


def entry(method, shape, config=CONFIGS[0]):
    return compile_plan({"layers.0.q_proj": shape}, adapter_with(method, **config))[
        "layers.0.q_proj"
    ]


def path(method, shape, config=CONFIGS[0]):
    return diagram.stages_of(entry(method, shape, config))


@pytest.fixture(scope="module")
def figure():
    from matplotlib import pyplot as plt

    drawn = diagram.methods()
    drawn.canvas.draw()
    yield drawn
    plt.close(drawn)


def texts(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


# ----------------------------------------------------------------------------------- the boxes


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", METHODS)
class TestStages:
    def test_data_flow_from_d_in_to_d_out_without_a_gap(self, method, shape, config):
        main = [stage.box for stage in path(method, shape, config) if not stage.scalar]
        assert (main[0].d_in, main[-1].d_out) == shape
        assert all(before.d_out == after.d_in for before, after in pairwise(main))

    def test_a_way_past_a_box_has_the_box_s_ends(self, method, shape, config):
        for before, stage in pairwise(path(method, shape, config)):
            if stage.scalar:
                assert stage.box[1:3] == before.box[1:3] and stage.row == before.row

    def test_the_boxes_hold_the_parameters_of_the_plan(self, method, shape, config):
        total = sum(stage.box.parameters for stage in path(method, shape, config))
        assert total == entry(method, shape, config).parameters

    def test_the_boxes_multiply_to_the_pair_s_shapes(self, method, shape, config):
        """What is trained has as many numbers as lora_A and lora_B hold."""
        pytest.importorskip("torch")
        pair = build_pair(entry(method, shape, config))
        trained = [prod(p.shape) for module in pair for p in module.parameters()]
        counts = [n for stage in path(method, shape, config) for n in numbers(stage)]
        assert sorted(counts) == sorted(trained)


def numbers(stage):
    return [stage.box.parameters] if stage.box.parameters else []


def test_q_bara_by_hand():
    """2048 -> 1024 -> 32 -> 256 -> 512 for k of Llama-3.2-1B, r 16, lambda 2."""
    stages = path("q-bara", (2048, 512))
    assert [s.box.d_out for s in stages] == [1024, 32, 256, 512]
    assert [s.box.parameters for s in stages] == [0, 32_768, 8_192, 0]


# --------------------------------------------------------------------------------- the picture


def test_each_panel_says_its_method_its_count_and_its_widths(figure):
    counts = {"qlora": 40_960, "ir-qlora": 40_962, "qa-lora": 9_216}
    counts |= {"q-bara": 40_960, "qa-hira": 32_768}
    for ax, (method, count) in zip(figure.axes, counts.items(), strict=True):
        said = texts(ax)
        assert METHODS[method].label in said and f"{count:,} trained" in said
        for stage in path(method, (2048, 512)):
            assert stage.text in said
            assert stage.scalar or f"{stage.box.d_in:,}" in said
        assert said.count("512") >= 2  # beside the sum and beside y
    merges = [said[-1] for said in map(texts, figure.axes)]
    plain, blocks = "16 bit only", "4-bit blocks of "
    into = [plain, plain, blocks + "1 \u00d7 32", plain, blocks + "8 \u00d7 4"]
    assert merges == [f"merges into {what}" for what in into]


def test_boxes_lie_inside_their_panel_and_apart(figure):
    for ax in figure.axes:
        corners = [patch.get_xy() for patch in ax.patches if hasattr(patch, "get_xy")]
        assert all((c[:, 0] >= 0).all() and (c[:, 0] <= 10).all() for c in corners)
        for one, other in combinations(corners, 2):
            apart = [
                one[:, axis].max() <= other[:, axis].min()
                or other[:, axis].max() <= one[:, axis].min()
                for axis in (0, 1)
            ]
            assert any(apart)


def test_the_same_width_means_the_same_number_in_every_panel(figure):
    """W of each panel is one trapezoid: d_in above, d_out below, on one scale."""
    frozen = [np.asarray(ax.patches[0].get_xy()) for ax in figure.axes]
    assert all(np.allclose(frozen[0], other) for other in frozen)
    widths = frozen[0][1, 0] - frozen[0][0, 0], frozen[0][2, 0] - frozen[0][3, 0]
    assert widths[0] > widths[1]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_it_draws_any_shape_that_fits(shape, config):
    from matplotlib import pyplot as plt

    drawn = diagram.methods(shape, **config)
    assert len(drawn.axes) == 5
    plt.close(drawn)


def test_a_value_goes_to_the_methods_that_have_it():
    from matplotlib import pyplot as plt

    drawn = diagram.methods((64, 64), r=8, lam1=8)
    assert "1,024 trained" in texts(drawn.axes[0])  # 8 x (64 + 64)
    assert "64 trained" in texts(drawn.axes[4])  # (64 / 8) x (64 / 8)
    plt.close(drawn)


def test_a_shape_that_does_not_fit_is_refused_before_anything_is_drawn():
    from matplotlib import pyplot as plt

    before = plt.get_fignums()
    with pytest.raises(ValueError, match=r"QA-LoRA .*500 x 2000.*group_size=32"):
        diagram.methods((2000, 500))
    assert plt.get_fignums() == before
