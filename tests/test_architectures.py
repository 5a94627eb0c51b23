"""Small models of many architectures through the whole way, by one adapter for all: all-linear.

Attached, trained two steps, saved, loaded again, merged, loaded by stock transformers, and scored
by SlimLM as by lm-eval's HFLM. Weights are random; everything else is real.
"""

from dataclasses import replace

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from slimlib.adapters.layers import attach
from slimlib.adapters.modules import adapted_layers, linear_shapes
from slimlib.adapters.saving import load_adapter, save_adapter
from slimlib.config import AdapterConfig, DataConfig, ModelConfig
from slimlib.data.tokens import tokenize_rows
from slimlib.model.load import load_model, load_tokenizer, resolve_name
from slimlib.pipeline.one_model import preflight_model
from slimlib.pipeline.trial import try_model
from slimlib.studies.get import get_study
from slimlib.train.finetune import make_trainer

pytestmark = pytest.mark.slow

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
HEADS = {**GROUPED, "head_dim": 8}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}
VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
VISION |= {"num_attention_heads": 2, "image_size": 16, "patch_size": 8}

# Config, settings, linear layers of its language model, and whether SlimLM computes it itself.
ARCHITECTURES = {
    "llama": ("LlamaConfig", GROUPED, 14, True),
    "qwen 2": ("Qwen2Config", GROUPED, 14, True),
    "qwen 3": ("Qwen3Config", HEADS, 14, True),
    "qwen 3, experts": ("Qwen3MoeConfig", {**HEADS, **EXPERTS}, 8, True),
    "gemma 2": ("Gemma2Config", HEADS, 14, False),
    "gemma 3": ("Gemma3TextConfig", {**HEADS, "sliding_window": 16}, 14, True),
    "gemma 3, multimodal": ("Gemma3Config", {**HEADS, "sliding_window": 16}, 14, True),
    "smollm 3": ("SmolLM3Config", GROUPED, 14, True),
    "mistral, window": ("MistralConfig", {**GROUPED, "sliding_window": 16}, 14, True),
    "granite": ("GraniteConfig", GROUPED, 14, True),
    "phi 3": ("Phi3Config", GROUPED, 8, True),
    "phi 2": ("PhiConfig", SIZES, 12, True),
    "gpt-2": ("GPT2Config", GPT2, 8, True),
    "gpt-neox": ("GPTNeoXConfig", SIZES, 8, True),
    "opt": ("OPTConfig", {**SIZES, "ffn_dim": 64, "word_embed_proj_dim": 32}, 12, True),
    "lfm 2": ("Lfm2Config", {**GROUPED, "layer_types": ["conv", "full_attention"]}, 12, False),
    "olmo 2": ("Olmo2Config", GROUPED, 14, True),
    "stablelm": ("StableLmConfig", GROUPED, 14, True),
}
ROWS = [
    {"instruction": f"Say {word}.", "input": "", "output": word}
    for word in ("yes", "no", "so", "it")
]
ALL = AdapterConfig(r=4, lora_alpha=32, target_modules="all-linear")
SENTENCE = "The dog ran to the old house and the cat was in the garden with a small red ball. "
PAIRS = [(SENTENCE * 2, " The dog"), (SENTENCE * 2, " A cat ran"), ("The", " cat")]


def make_folder(kind, folder):
    """A random model; its embedding has rows to spare, as many real ones do."""
    name, settings, _, _ = ARCHITECTURES[kind]
    tokenizer = AutoTokenizer.from_pretrained(resolve_name("micro:base"))
    special = {"vocab_size": len(tokenizer) + 8, "pad_token_id": tokenizer.pad_token_id}
    special |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    settings = {**settings, **special, "initializer_range": 0.2}
    if name == "Gemma3Config":
        settings = {"text_config": settings, "vision_config": VISION, "mm_tokens_per_image": 1}
    torch.manual_seed(0)
    config = getattr(transformers, name)(**settings)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def train(model, tokenizer, folder):
    """Two steps of the trainer at a rate that shows."""
    dataset, _ = tokenize_rows(ROWS, DataConfig(template="alpaca", append_eos=True), tokenizer, 256)
    arm = get_study("smoke")["llama-2k"]
    arm = replace(arm, train=replace(arm.train, max_steps=2, learning_rate=0.02, warmup_ratio=0.0))
    make_trainer(model, tokenizer, dataset, arm, folder).train()


def logits(model, tokenizer):
    ids = tokenizer(SENTENCE, return_tensors="pt").input_ids
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits


@pytest.mark.parametrize("four_bit", [False, True], ids=["float32", "nf4"])
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_from_a_folder_to_a_merged_model_and_its_scores(kind, four_bit, tmp_path):
    _, _, layers, fast = ARCHITECTURES[kind]
    folder = make_folder(kind, tmp_path / "base")
    config = ModelConfig(str(folder), dtype="float32", load_in_4bit=four_bit)
    if kind == "gpt-2" and four_bit:
        with pytest.raises(ValueError, match="Conv1D.*load_in_4bit=false"):
            load_model(config, "transformers")
        return
    base, tokenizer = load_model(config, "transformers")
    shapes = linear_shapes(base)
    before = logits(base, tokenizer)
    model = attach(base, ALL, seed=0, max_seq_length=256)
    assert [path for path, _ in adapted_layers(model)] == [*shapes] and len(shapes) == layers
    torch.testing.assert_close(logits(model, tokenizer), before)
    train(model, tokenizer, tmp_path)
    for path, layer in adapted_layers(model):
        assert layer.lora_B["default"].weight.abs().max() > 0, path  # every one was trained
    trained = logits(model, tokenizer)
    assert (trained - before).abs().max() > 0.01
    save_adapter(model, tmp_path / "adapter")
    again = load_adapter(load_model(config, "transformers")[0], tmp_path / "adapter")
    assert [path for path, _ in adapted_layers(again)] == [*shapes]
    torch.testing.assert_close(logits(again, tokenizer), trained)
    merge(config, tmp_path)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="float32")
    torch.testing.assert_close(logits(merged, tokenizer), trained, atol=2e-4, rtol=1e-4)
    assert_same_scores(merged.eval(), tokenizer, fast)


TRIED = ("gemma 3, multimodal", "lfm 2", "phi 3", "opt", "qwen 3, experts", "gpt-neox")


@pytest.mark.parametrize("kind", TRIED)
def test_the_trial_of_one_model_takes_its_first_layer(kind, tmp_path):
    arm = get_study("smoke")["llama-2k"]
    model = replace(arm.model, name=str(make_folder(kind, tmp_path)))
    assert not [c for c in preflight_model(model, ALL, tmp_path) if not c.ok]
    arm = replace(arm, model=model, adapter=ALL)
    dataset, _ = tokenize_rows(ROWS, arm.data, load_tokenizer(arm.model), 256)
    checks = try_model(arm, dataset, layers=1)
    kinds = {"lfm 2": 2}.get(kind, 1)  # one layer of each kind
    assert checks[0].detail == f"{kinds} of 2 layers" and len(checks) == 3
    assert all(check.ok for check in checks), checks


def merge(config, folder):
    """Into the weights that the adapter was trained on, dequantised, as slimlib.merge does."""
    base, tokenizer = load_model(config, "transformers")
    plain = base.dequantize() if config.load_in_4bit else base
    load_adapter(plain, folder / "adapter").merge_and_unload().save_pretrained(folder / "merged")
    tokenizer.save_pretrained(folder / "merged")


def assert_same_scores(model, tokenizer, fast):
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from slimlib.scoring import SlimLM

    asked = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(PAIRS)]
    lms = [kind(model, tokenizer=tokenizer, max_length=256) for kind in (SlimLM, HFLM)]
    ours, theirs = (lm.loglikelihood(asked, disable_tqdm=True) for lm in lms)
    for (mine, greedy), (stock, also) in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(stock, abs=2e-3) and greedy == also
    assert (lms[0].stock_reason is None) == fast, lms[0].stock_reason
