"""The tokenizer and the checkpoints: what stock transformers loads, and what the pipeline needs."""

import json

import pytest

torch = pytest.importorskip("torch")

import pretrain  # noqa: E402
from safetensors import safe_open  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

from slimlib.data.micro import CHECKPOINTS, world  # noqa: E402

NAMES = list(CHECKPOINTS)


@pytest.fixture(scope="module", params=NAMES)
def checkpoint(request):
    return CHECKPOINTS[request.param]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(CHECKPOINTS["base"])


@pytest.mark.parametrize(
    "text", ["", "Tom has 37 apples.\n#### 37", "naïve — 東京 \t x", "<|user|>"]
)
def test_text_survives_the_tokenizer_behind_exactly_one_bos(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id and ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_every_digit_is_a_token_of_its_own(tokenizer):
    ids = tokenizer("1234 * 56 = 69104", add_special_tokens=False)["input_ids"]
    pieces = [tokenizer.decode([i]) for i in ids]
    assert [p for p in pieces if p.strip().isdigit()] == list("12345669104")


def test_bos_end_pad_and_turn_end_are_four_different_tokens(tokenizer):
    marks = [pretrain.BOS, pretrain.EOS, pretrain.PAD, pretrain.EOT]
    ids = tokenizer.convert_tokens_to_ids(marks)
    assert len(set(ids)) == 4
    assert [tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token] == marks[:3]
    for mark, i in zip(marks, ids, strict=True):
        assert tokenizer(mark, add_special_tokens=False)["input_ids"] == [i]


def test_a_retrained_tokenizer_is_the_shipped_one(tokenizer):
    made = pretrain.train_tokenizer()
    assert made.get_vocab() == tokenizer.get_vocab()
    text = "Question: Anna buys 3 bags of 12 shells.\nAnswer:"
    assert made(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_checkpoint_loads_with_stock_transformers(checkpoint):
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    ids = tokenizer("Question:", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logits = model(input_ids=ids).logits
    assert logits.shape == (1, ids.shape[1], pretrain.VOCABULARY) and logits.isfinite().all()
    assert len(tokenizer) == model.config.vocab_size == pretrain.VOCABULARY
    assert model.config.max_position_embeddings == pretrain.CONTEXT


def test_checkpoint_is_a_few_megabytes_of_bf16(checkpoint):
    assert sum(path.stat().st_size for path in checkpoint.iterdir()) < 5_000_000
    with safe_open(checkpoint / "model.safetensors", framework="pt") as tensors:
        assert {tensors.get_tensor(key).dtype for key in tensors.keys()} == {torch.bfloat16}  # noqa: SIM118


def test_linear_shapes_suit_nf4_blocks_and_pooling(checkpoint):
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    for layer in (m for m in model.model.layers.modules() if isinstance(m, torch.nn.Linear)):
        assert layer.in_features % 64 == 0 and layer.out_features % 32 == 0


@pytest.mark.parametrize(("name", "end"), [("base", "EOS"), ("tiny", "EOS"), ("instruct", "EOT")])
def test_only_instruct_ends_with_the_turn_token(name, end):
    token = getattr(pretrain, end)
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINTS[name])
    assert tokenizer.eos_token == token
    for file in ("config.json", "generation_config.json"):
        config = json.loads((CHECKPOINTS[name] / file).read_text(encoding="utf-8"))
        assert config["eos_token_id"] == tokenizer.convert_tokens_to_ids(token)
        assert config["pad_token_id"] == tokenizer.pad_token_id


def test_windows_are_packed_documents_between_their_marks(tokenizer):
    recipe = pretrain.Recipe(steps=2, learning_rate=0.0, batch_size=1, window=8)
    batches = pretrain.windows(["a", "b c"] * 20, pretrain.EOS, tokenizer, recipe)
    assert batches.shape == (2, 1, 8)
    assert tokenizer.decode(batches.flatten()[:3]).replace(" ", "") == "".join(
        [pretrain.BOS, "a", pretrain.EOS]
    )


def test_windows_refuse_too_little_text(tokenizer):
    recipe = pretrain.Recipe(steps=9, learning_rate=0.0, batch_size=1, window=8)
    with pytest.raises(ValueError, match="72 tokens"):
        pretrain.windows(["a"], pretrain.EOS, tokenizer, recipe)


def test_base_works_a_sum_of_its_own_training_split():
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINTS["base"])
    model = AutoModelForCausalLM.from_pretrained(CHECKPOINTS["base"], dtype=torch.float32)
    rows = world.maths_rows(3, seed=11)
    shots = [f"Question: {row['question']}\nAnswer: {row['answer']}" for row in rows]
    prompt = "\n\n".join(shots)[: -len(rows[-1]["answer"]) - 1]
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    new = model.generate(input_ids=ids, max_new_tokens=40, do_sample=False)[0, ids.shape[1] :]
    assert "#### " in tokenizer.decode(new)


@pytest.mark.slow
def test_thirty_steps_lower_the_loss_the_same_way_twice(tmp_path):
    first = pretrain.make("tiny", tmp_path / "a", scale=30 / pretrain.RECIPES["tiny"].steps)
    again = pretrain.make("tiny", tmp_path / "b", scale=30 / pretrain.RECIPES["tiny"].steps)
    assert len(first) == 30 and first == again
    assert first[0] > 6.5 and sum(first[-5:]) / 5 < 5.5  # ln 1024 = 6.9 before the first step
