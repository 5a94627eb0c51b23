"""Which cells the claims compare."""

from slimlib.papers.key_variables.hypotheses import hypotheses, pair_up
from slimlib.studies.get import get_design


def test_pairs_agree_in_all_but_what_is_tested():
    design = get_design("key_variables_micro")
    for hypothesis in hypotheses(design):
        assert hypothesis.pairs, hypothesis.text
        for pair in hypothesis.pairs:
            first, second = (design.study[name] for name in pair)
            assert first.adapter.method == second.adapter.method
            assert first.adapter.r == second.adapter.r
    by_text = {h.text: h for h in hypotheses(design)}
    equal = by_text["MLP cut minus attention cut that saves as many parameters"].pairs
    assert ("qlora-r16-mlp-r11", "qlora-r16-attn-r8") in equal
    fixed = by_text["MLP cut minus attention cut, both at a fixed scale"].pairs
    assert ("qlora-r16-mlp-r8-keep", "qlora-r16-attn-r8-keep") in fixed
    assert by_text["First half cut minus second half cut"].pairs == [
        ("qlora-r16-first-r8", "qlora-r16-second-r8"),
        ("qlora-r16-first-r4", "qlora-r16-second-r4"),
    ]
    tiles = by_text["MLP at (8, 8) minus all at (4, 8), tiles kept at 32"].pairs
    assert tiles == [("qa-hira-4x8-mlp-8x8-block32", "qa-hira-4x8")]
    assert pair_up([], lambda bar: True, lambda bar: True, True) == []
