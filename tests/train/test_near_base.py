"""KL to the base: by the closed form, of the model without its adapter, and none at weight 0."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, Gemma2Config, GraniteConfig

from slimlib.adapters.layers import attach
from slimlib.config import AdapterConfig, ModelConfig, TrainConfig
from slimlib.model.load import load_model
from slimlib.run import Run
from slimlib.studies.get import get_study
from slimlib.train.finetune import finetune_arm, make_trainer
from slimlib.train.near_base import CHUNK, base_states, divergence, near_base, plain_head

ARM = "llama-2k"


def study(checkpoint, **train):
    found = get_study("smoke", model=str(checkpoint), arms=ARM)
    base = TrainConfig(
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        max_steps=3,
        learning_rate=0.05,
        logging_steps=1,
    )
    arm = replace(found[ARM], train=replace(base, **train), data=replace(found[ARM].data, n=24))
    return replace(found, arms=(arm,))


def weights(checkpoint, folder, **train):
    run = Run(study(checkpoint, **train), folder)
    finetune_arm(run, ARM)
    return load_file(run.adapter_folder(ARM) / "adapter_model.safetensors"), run


def test_the_sum_over_tokens_by_hand():
    """Two next tokens: (1/2, 1/2) against (1/4, 3/4) is ln 2 - ln 3 / 2; the same is 0."""
    base = torch.log(torch.tensor([[0.5, 0.5]] * (CHUNK + 1)))
    tuned = torch.log(torch.tensor([[0.25, 0.75]] * (CHUNK + 1)))
    by_hand = torch.log(torch.tensor(2.0)) - 0.5 * torch.log(torch.tensor(3.0))
    found = divergence(base, tuned, torch.nn.Identity())
    assert found == pytest.approx((CHUNK + 1) * by_hand.item(), rel=1e-5)
    assert divergence(base, base, torch.nn.Identity()) == 0
    assert divergence(base[:0], tuned[:0], torch.nn.Identity()) == 0


def test_the_gradient_is_torch_s_own_and_reaches_the_tuned_model_alone():
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 50)
    base, tuned = torch.randn(2 * CHUNK + 3, 8), torch.randn(2 * CHUNK + 3, 8, requires_grad=True)
    divergence(base, tuned, head).backward()
    found, tuned.grad = tuned.grad, None
    oracle = torch.nn.functional.kl_div(
        head(tuned).log_softmax(-1), head(base).log_softmax(-1), reduction="sum", log_target=True
    )
    oracle.backward()
    assert torch.allclose(found, tuned.grad, atol=1e-5)


def test_the_reference_is_the_model_without_its_adapter(checkpoint):
    plain, _ = load_model(ModelConfig(str(checkpoint), load_in_4bit=False, dtype="float32"))
    ids = torch.arange(12).reshape(2, 6)
    expected = plain(input_ids=ids).logits
    adapted = attach(plain, AdapterConfig(lora_dropout=0.5), seed=1, max_seq_length=64).train()
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    states = base_states(adapted, {"input_ids": ids})
    head = plain_head(adapted, [3, 5, 1, 7])
    assert torch.allclose(head(states), expected, atol=1e-5) and adapted.training
    assert not torch.allclose(adapted(input_ids=ids).logits, expected, atol=1e-2)


@pytest.mark.parametrize("padding_free", [False, True])
def test_the_loss_is_the_cross_entropy_and_the_mean_divergence(checkpoint, tmp_path, padding_free):
    """Against both from the logits of the whole model, padding left out."""
    from datasets import Dataset

    rows = [[5, 9, 14, 3, 8], [7, 2], [11, 4, 6]]
    labels = [[-100, -100, 14, 3, 8], [7, 2], [-100, 4, 6]]
    arm = study(checkpoint, kl_weight=0.5, padding_free=padding_free)[ARM]
    model, tokenizer = load_model(ModelConfig(str(checkpoint), load_in_4bit=False, dtype="float32"))
    model = attach(model, AdapterConfig(), seed=1, max_seq_length=64)
    torch.manual_seed(2)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    dataset = Dataset.from_dict({"input_ids": rows, "labels": labels})
    trainer = make_trainer(model, tokenizer, dataset, arm, tmp_path)
    batch = trainer.data_collator([dataset[i] for i in range(3)])
    loss = trainer.compute_loss(model.train(), batch).item()
    crosses, kls = [], []
    for row, wanted in zip(rows, labels, strict=True):
        with torch.no_grad():
            tuned = model(input_ids=torch.tensor([row])).logits[0].log_softmax(-1)
            with model.disable_adapter():
                base = model(input_ids=torch.tensor([row])).logits[0].log_softmax(-1)
        for at in range(1, len(row)):
            if wanted[at] != -100:
                crosses.append(-tuned[at - 1, row[at]])
                kls.append((base[at - 1].exp() * (base[at - 1] - tuned[at - 1])).sum())
    expected = sum(crosses) / len(crosses) + 0.5 * sum(kls) / len(kls)
    assert sum(kls) / len(kls) > 0.01
    assert loss == pytest.approx(expected.item(), abs=1e-5)


def test_weight_0_changes_no_bit_and_a_heavy_weight_holds_the_model_at_its_base(
    checkpoint, tmp_path
):
    plain, _ = weights(checkpoint, tmp_path / "plain")
    none, _ = weights(checkpoint, tmp_path / "none", kl_weight=0.0)
    held, run = weights(checkpoint, tmp_path / "held", kl_weight=100.0)
    assert plain.keys() == none.keys() and all(torch.equal(plain[k], none[k]) for k in plain)
    settings = run.record(ARM)["stages"]["finetune"]["settings"]["train"]
    assert settings["kl_weight"] == 100.0

    def moved(tensors):  # ||B A||, summed over the modules
        pairs = ((k.replace("lora_B", "lora_A"), k) for k in tensors if "lora_B" in k)
        return sum((tensors[b] @ tensors[a]).norm().item() for a, b in pairs)

    assert moved(held) < 0.8 * moved(plain)


def test_the_log_has_the_cross_entropy_alone(checkpoint, tmp_path):
    """An adapter that hardly moves: a heavy KL must not show in what the log compares."""
    _, plain = weights(checkpoint, tmp_path / "plain", learning_rate=1e-9)
    _, held = weights(checkpoint, tmp_path / "held", learning_rate=1e-9, kl_weight=1000.0)
    losses = [[row["loss"] for row in run.logs()[ARM]] for run in (plain, held)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)


def test_the_reference_is_computed_in_the_precision_of_the_pass(checkpoint, tmp_path):
    """Under autocast as on a GPU; an adapter that changes nothing yet is at distance 0."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    config = ModelConfig(str(checkpoint), load_in_4bit=False, dtype="bfloat16")
    model, tokenizer = load_model(config)
    model = attach(model, AdapterConfig(), seed=1, max_seq_length=64)
    rows = Dataset.from_dict({"input_ids": [[5, 9, 14, 3, 8], [7, 2, 4]]})
    options = {"use_cpu": True, "bf16": True, "max_steps": 1, "learning_rate": 0.0}
    options |= {"gradient_checkpointing": False, "report_to": "none", "disable_tqdm": True}
    trainer = near_base(SFTTrainer, 1000.0)(
        model=model,
        args=SFTConfig(output_dir=str(tmp_path), **options),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    trainer.train()
    assert trainer.penalty == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ("kind", "bend"),
    [(Gemma2Config, {"head_dim": 8}), (GraniteConfig, {"logits_scaling": 8.0})],
)
def test_a_model_that_bends_its_logits_is_refused(kind, bend):
    config = kind(
        vocab_size=20,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=2.0,
        **bend,
    )
    model = AutoModelForCausalLM.from_config(config)
    adapted = attach(model, AdapterConfig(r=2), seed=1, max_seq_length=64)
    with pytest.raises(ValueError, match=f"kl_weight does not go with {config.model_type}, whose"):
        plain_head(adapted, [3, 5, 1, 7])
