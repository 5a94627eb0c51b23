"""A layer's formulas by hand; attention against transformers; what four ways train."""

import numpy as np
import pytest

from slimlib.data.micro import CHECKPOINTS
from slimlib.explain.transformer import (
    adapter_layer,
    attention,
    attention_shares,
    block,
    first_attention,
    four_ways,
    softmax,
    ways,
)

TEXT = "Tom has 3 apples and buys 4"


def test_softmax_by_hand():
    np.testing.assert_allclose(softmax(np.log([[1.0, 3.0]])), [[0.25, 0.75]])
    np.testing.assert_allclose(softmax(np.array([1e9, 0.0])), [1, 0])


def test_a_token_sees_none_that_come_later():
    shares = attention_shares(np.eye(3), np.eye(3))
    assert shares[0].tolist() == [1, 0, 0] and (np.triu(shares, 1) == 0).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1)


def test_an_adapter_layer_begins_as_nothing():
    x = np.array([1.0, -2.0])
    assert (adapter_layer(x, np.ones((1, 2)), np.zeros((2, 1))) == x).all()
    moved = adapter_layer(x, np.array([[100.0, 0.0]]), np.array([[1.0], [0.0]]))
    np.testing.assert_allclose(moved, [101, -2])  # GeLU(100) = 100


def test_attention_is_transformers_own():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = CHECKPOINTS["base"]
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(TEXT, return_tensors="pt").input_ids
    with torch.no_grad():
        official = model(ids, output_attentions=True).attentions[0][0].numpy()
    for head in range(official.shape[0]):
        _, shares = first_attention(folder, TEXT, head)
        np.testing.assert_allclose(shares, official[head], atol=1e-5)


def test_no_such_head_is_said():
    with pytest.raises(ValueError, match="head=6: must be 0 to 5"):
        attention(CHECKPOINTS["base"], TEXT, head=6)


def test_the_pictures_say_what_was_computed():
    tokens, shares = first_attention(CHECKPOINTS["base"], TEXT)
    said = attention(CHECKPOINTS["base"], TEXT).text
    assert f"{100 * shares[-1].max():.0f} %" in said and f"of {len(tokens)};" in said
    assert "10,485,760" in block("Llama-3.2-1B").text  # 2 x 2048 x 2048 + 2 x 2048 x 512


def test_what_four_ways_train_on_llama_3_2_1b():
    last, adapters, prefix, lora = (way.trained for way in ways(r=16, bottleneck=64, prefix=30))
    assert last == 128_256 * 2_048
    assert adapters == 16 * 2 * 2 * 2_048 * 64
    assert prefix == 16 * 2 * 30 * 512
    assert lora == 16 * 16 * ((2_048 + 2_048) + 2 * (2_048 + 512))
    assert f"LoRA {lora:,}" in four_ways().text
