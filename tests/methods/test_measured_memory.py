"""The predicted memory against peaks measured on a CPU: real training steps, real libraries.

Two shapes, three numbers of rows, with and without checkpointing; padded rows, two passes a step,
two steps. Tensors alone are measured (helpers/tensor_peak.py).
"""

import pytest
from llama_shapes import embedded_tokenizer, random_llama
from tensor_peak import stored, tensor_peak

from slimlib.common.hardware import Device
from slimlib.config import AdapterConfig, Arm, DataConfig, ModelConfig, TrainConfig
from slimlib.methods.estimate import estimate

CPU = Device("cpu", "x86_64", None, 8.0, 8.0)
LONGEST = 128  # tokens
WITHIN = 0.15
HEADS = {"num_attention_heads": 8, "max_position_embeddings": 256}
CONFIGS = {
    "deep, untied": {
        **{"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 5, "head_dim": 16},
        **{"num_key_value_heads": 8, "vocab_size": 1_024, "tie_word_embeddings": False},
    },
    "wide, grouped heads, tied": {
        **{"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 2, "head_dim": 24},
        **{"num_key_value_heads": 2, "vocab_size": 8_192, "tie_word_embeddings": True},
    },
}


@pytest.fixture(scope="module", params=CONFIGS)
def folder(request, tmp_path_factory):
    """A random model of a shape, written as a checkpoint."""
    import torch

    folder, tokenizer = tmp_path_factory.mktemp("model"), embedded_tokenizer()
    config = CONFIGS[request.param] | HEADS
    random_llama(config, tokenizer, torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_arm(folder, rows, **values):
    model = {"load_in_4bit": False, "dtype": "float32", "max_seq_length": LONGEST}
    adapter = {"lora_dropout": values.pop("lora_dropout", 0.0)}
    return Arm(
        "measured",
        label="measured",
        model=ModelConfig(str(folder), backend="transformers", **(model | values)),
        adapter=AdapterConfig(**adapter),
        data=DataConfig(),
        train=TrainConfig(
            per_device_train_batch_size=rows, gradient_accumulation_steps=2, max_steps=2
        ),
    )


def measured(arm, place, checkpointing):
    """Bytes of tensors at the peak of two steps."""
    from datasets import Dataset

    from slimlib.adapters.layers import attach
    from slimlib.model.load import load_model
    from slimlib.train.finetune import make_trainer

    model, tokenizer = load_model(arm.model)
    model = attach(model, arm.adapter, arm.seed, LONGEST)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    rows = arm.train.per_device_train_batch_size
    lengths = [LONGEST if number % rows == 0 else LONGEST // 2 for number in range(4 * rows)]
    tokens = [[5 + (7 * n + i) % 900 for i in range(length)] for n, length in enumerate(lengths)]
    trainer = make_trainer(model, tokenizer, Dataset.from_dict({"input_ids": tokens}), arm, place)
    there = stored(trainer.model)
    return there + tensor_peak(trainer.train)


def check(arm, place, checkpointing):
    peak = measured(arm, place, checkpointing)
    found = estimate(arm, device=CPU, checkpointing=checkpointing)
    print(f"{arm.train.per_device_train_batch_size} rows: {found.total / peak:.3f} of {peak:,}")
    assert found.total == pytest.approx(peak, rel=WITHIN)


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 6])
def test_the_peak_of_two_steps(folder, rows, checkpointing, tmp_path):
    check(make_arm(folder, rows), tmp_path, checkpointing)


@pytest.mark.slow
@pytest.mark.parametrize("values", [{"load_in_4bit": True}, {"lora_dropout": 0.1}])
def test_the_peak_in_4_bit_and_with_dropout(folder, values, tmp_path):
    check(make_arm(folder, 3, **values), tmp_path, checkpointing=False)
