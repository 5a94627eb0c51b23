"""The first layers of a model through one step of everything, before hours go into it."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from slimlib.common import progress
from slimlib.common.hub import fetched, hub_file
from slimlib.config import Arm
from slimlib.model.load import hub_revision, load_model, resolve_name
from slimlib.model.opened import CONFIG, WEIGHTS
from slimlib.model.stored import check_finite_files, load_whole, quiet
from slimlib.pipeline.preflight import Check, checked


def try_model(arm: Arm, dataset: Any, layers: int = 2) -> list[Check]:
    """Take a model's first layers through one step of everything, with its own rows.

    One step trained, saved, merged, loaded again by stock transformers and
    compared; what would fail after an hour fails here in seconds. Nothing of it is kept.

    Args:
        arm: model, adapter, data, training and merging as they shall be.
        dataset: the user's rows as `data.tokens.tokenize_rows` returns them; the first batch is
            trained on.
        layers: how many of the model's are taken.

    Example:

        dataset, _ = tokenize_rows(rows, arm.data, tokenizer, arm.model.max_seq_length)
        checks = try_model(arm, dataset)
    """
    from slimlib.merge.plain import write_merged

    with tempfile.TemporaryDirectory() as folder, progress.line("trial"), quiet():
        trial: list[Arm] = []
        place = Path(folder)
        adapter = place / "adapter"
        steps = {
            "first layers": lambda: _cut(arm, layers, place / "base", trial),
            "one step": lambda: _one_step(trial[0], dataset, place),
            "merge": lambda: _told(write_merged(trial[0], adapter, place / "merged")),
        }
        checks: list[Check] = []
        for name, step in steps.items():
            if all(check.ok for check in checks):
                checks.append(checked(name, step, "Take another checkpoint, or other settings"))
        own, cut = arm.model.name, str(place / "base")
        return [replace(check, detail=check.detail.replace(cut, own)) for check in checks]


def _cut(arm: Arm, layers: int, folder: Path, trial: list[Arm]) -> str:
    """Make a folder of the model's files whose config asks for its first layers alone.

    The files are linked, not written: whatever they hold, quantised weights and odd settings too,
    is tried as it is. `trial` gets the arm on it.
    """
    from transformers import AutoConfig

    name, revision = resolve_name(arm.model.name), hub_revision(arm.model)
    where = fetched(name, revision, weights=True)  # downloaded, where it is not here
    config = AutoConfig.from_pretrained(name, trust_remote_code=False, **where)
    text = config.get_text_config()
    whole = text.num_hidden_layers
    layers = _enough(text, layers)
    for key, value in text.to_dict().items():  # what is said layer by layer
        if isinstance(value, list) and len(value) == whole:
            setattr(text, key, value[:layers])
    text.num_hidden_layers = layers
    load_whole(name, revision, config=config, dtype="auto")
    files = hub_file(name, CONFIG, revision).parent
    check_finite_files(arm.model.name, sorted(files.glob(WEIGHTS)))
    folder.mkdir()
    for file in (path for path in files.iterdir() if path.is_file() and path.name != CONFIG):
        (folder / file.name).symlink_to(file.resolve())
    config.save_pretrained(folder)
    once = replace(arm.train, max_steps=1, gradient_accumulation_steps=1, warmup_ratio=0.0)
    model_config = replace(arm.model, name=str(folder), revision=None)
    trial.append(replace(arm, model=model_config, train=once))
    return f"{layers} of {whole} layers"


def _enough(config: Any, layers: int) -> int:
    """So many layers, or as many as it takes to have one of each kind (LFM2, Gemma 3)."""
    kinds = getattr(config, "layer_types", None) or []
    firsts = [kinds.index(kind) + 1 for kind in {*kinds}]
    return min(max([layers, *firsts]), config.num_hidden_layers)


def _one_step(arm: Arm, dataset: Any, folder: Path) -> str:
    from slimlib.adapters.layers import attach
    from slimlib.adapters.saving import save_adapter
    from slimlib.train.finetune import make_trainer

    length = arm.model.max_seq_length
    model, tokenizer = load_model(arm.model, "transformers", arm.adapter)
    count = min(arm.train.per_device_train_batch_size, len(dataset))
    dataset = dataset.select(range(count))
    model = attach(model, arm.adapter, arm.seed, length)
    trainer = make_trainer(model, tokenizer, dataset, arm, folder)
    loss = trainer.train().training_loss
    if not loss < float("inf"):
        raise ValueError(f"the loss of the first rows is {loss}")
    save_adapter(trainer.model, folder / "adapter")
    return f"{len(dataset['input_ids'][0])} tokens in the first row, loss {loss:.2f}"


def _told(entry: dict[str, Any]) -> str:
    """What the merge's record says of its check."""
    check = entry["logit_check"]
    return f"loaded again, logits apart by {check['share_of_range']:.1e} of their range"
