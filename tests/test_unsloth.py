"""The Unsloth backend for real, on a CPU: the whole pipeline once, and each method's adapter.

Unsloth patches transformers and TRL for the whole process, so it runs in some of its own
(unsloth_path.py, unsloth_methods.py), over this environment's packages with Unsloth's two wheels in
a folder before them: they are fetched once and kept in the user's cache folder. The tests skip
where the registry cannot be reached for that. SLIMLIB_UNSLOTH_PYTHON names an interpreter that has
Unsloth already.
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import unsloth_methods
import unsloth_path
from places import CHECKOUT

from slimlib.common.files import atomic_path, read_json, read_jsonl
from slimlib.methods import METHODS
from slimlib.model.load import load_transformers
from slimlib.run import Run

pytestmark = pytest.mark.slow

VERSION = "2026.10.9"
UNREACHABLE = ("from versions: none", "Max retries exceeded", "Read timed out")
ARM = unsloth_path.ARM
# Of the logits' range. Both sides compute in float32 from the same codes; only the order of the
# sums differs, which came to 8e-7. A wrong weight or scale shows at 1e-2 and more.
TOLERANCE = 1e-5


def unsloth_folder() -> Path:
    """The folder with Unsloth's wheels, fetched if it is not there.

    Without their dependencies: those are this environment's own, and of the rest (triton, xformers,
    torchvision) a CPU needs none, while triton would send TRL to kernels that a CPU cannot run.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "slimlib-tests" / f"unsloth-{VERSION}"
    if folder.is_dir():
        return folder
    wheels = [f"unsloth=={VERSION}", f"unsloth_zoo=={VERSION}"]
    with atomic_path(folder) as temporary:
        install = ["install", "--quiet", "--no-deps", "--retries", "2", "--target", str(temporary)]
        done = subprocess.run(
            [sys.executable, "-m", "pip", *install, *wheels], capture_output=True, text=True
        )
        if done.returncode and any(sign in done.stdout + done.stderr for sign in UNREACHABLE):
            pytest.skip("the package registry cannot be reached to fetch Unsloth")
        assert done.returncode == 0, done.stderr
    return folder


def interpreter() -> tuple[str, list[str]]:
    """A Python that can import Unsloth, and the folders that must be on its path for it."""
    if ready := os.environ.get("SLIMLIB_UNSLOTH_PYTHON"):
        return ready, [str(CHECKOUT)]
    return sys.executable, [str(unsloth_folder()), str(CHECKOUT)]


def in_unsloth(script: Any, *arguments: str, folder: Path) -> None:
    """Run a script's own process with Unsloth on its path, in a folder that it writes to."""
    python, path = interpreter()
    done = subprocess.run(
        [python, script.__file__, *arguments, str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "CUDA_VISIBLE_DEVICES": ""},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]


# --------------------------------------------------------------------------------- one arm, entire


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run folder that the Unsloth process leaves behind."""
    folder = tmp_path_factory.mktemp("unsloth")
    in_unsloth(unsloth_path, folder=folder)
    return Run(unsloth_path.study(), folder)


@pytest.fixture(scope="module")
def report(run: Run) -> dict[str, Any]:
    return read_json(run.root / "report.json")


@pytest.fixture(scope="module")
def unsloth_logits(run: Run) -> list[Any]:
    from safetensors.torch import load_file

    logits = load_file(run.root / "logits.safetensors")
    return [logits[str(i)] for i in range(len(logits))]


@pytest.fixture(scope="module")
def tokenizer(run: Run) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(run.adapter_folder(ARM))


def distance(found: list[Any], expected: list[Any]) -> float:
    """The largest difference of two lists of logits, as a share of the expected ones' range."""
    pairs = list(zip(found, expected, strict=True))
    span = max(b.max().item() for _, b in pairs) - min(b.min().item() for _, b in pairs)
    return max((a - b).abs().max().item() for a, b in pairs) / span


def test_rows_reach_the_patched_trainer_unchanged(report: dict[str, Any]) -> None:
    bos, eos, pad = report["special"]
    assert len(report["rows"]) == 40
    assert report["trainer_rows"] == report["rows"]
    assert all(row[0] == bos and row.count(bos) == 1 for row in report["rows"])
    assert all(row[-1] == eos and row.count(eos) == 1 for row in report["rows"])
    assert pad != eos


def test_every_token_up_to_the_end_is_trained_on(report: dict[str, Any]) -> None:
    _, eos, pad = report["special"]
    known = {tuple(row) for row in report["rows"]}
    for ids, labels in zip(report["batch"]["input_ids"], report["batch"]["labels"], strict=True):
        length = sum(label != -100 for label in labels)
        assert tuple(ids[:length]) in known
        assert labels[:length] == ids[:length]
        assert labels[length - 1] == eos
        assert set(ids[length:]) <= {pad}


def test_only_the_adapter_of_q_k_v_is_trained_in_float32(report: dict[str, Any], run: Run) -> None:
    from safetensors.torch import load_file

    config = read_json(Path(run.model_path("llama-base")) / "config.json")
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    values = config["num_key_value_heads"] * config["head_dim"]
    r = run.study[ARM].adapter.r
    # r (d_in + d_out) for each of q, k and v
    assert report["numbers"] == layers * r * (2 * hidden + 2 * (hidden + values))
    assert len(report["trained"]) == layers * 3 * 2
    assert set(report["trained"].values()) == {"float32"}
    assert all(".self_attn." in name and ".lora_" in name for name in report["trained"])
    saved = load_file(run.adapter_folder(ARM) / "adapter_model.safetensors")
    assert {str(weight.dtype) for weight in saved.values()} == {"torch.float32"}
    assert sum(weight.numel() for weight in saved.values()) == report["numbers"]


def test_the_loss_falls(run: Run) -> None:
    log = read_jsonl(run.arm_folder(ARM) / "log.jsonl")
    losses = [row["loss"] for row in log]
    assert [row["step"] for row in log] == list(range(1, 13))
    assert sum(losses[-3:]) / 3 < 0.9 * sum(losses[:3]) / 3


def test_plain_peft_reloads_the_adapter_on_the_4_bit_base(
    run: Run, unsloth_logits: list[Any], tokenizer: Any
) -> None:
    from peft import PeftModel

    from slimlib.merge.plain import _logits

    assert "unsloth" not in sys.modules
    base = load_transformers(run.study[ARM].model)
    before = _logits(base, tokenizer)
    tuned = PeftModel.from_pretrained(base, run.adapter_folder(ARM))
    assert distance(_logits(tuned, tokenizer), unsloth_logits) < TOLERANCE
    assert distance(before, unsloth_logits) > 1000 * TOLERANCE  # else equality would show nothing


def test_plain_peft_reloads_the_adapter_on_the_dequantised_base(
    run: Run, unsloth_logits: list[Any], tokenizer: Any
) -> None:
    from peft import PeftModel

    from slimlib.merge.plain import _logits

    base = load_transformers(run.study[ARM].model).dequantize().float()
    tuned = PeftModel.from_pretrained(base, run.adapter_folder(ARM))
    assert distance(_logits(tuned, tokenizer), unsloth_logits) < TOLERANCE


def test_the_merged_model_is_the_trained_one_to_stock_transformers(
    run: Run, unsloth_logits: list[Any], tokenizer: Any
) -> None:
    from slimlib.merge.plain import saved_logits

    merged = Path(run.model_path(ARM))
    assert distance(saved_logits(merged, tokenizer), unsloth_logits) < TOLERANCE


def test_merging_and_evaluation_left_the_unsloth_process(run: Run, report: dict[str, Any]) -> None:
    # the driver forbids both in its own process (`not_here`), so a record means a clean one
    record = run.record(ARM)
    assert {name: s["status"] for name, s in record["stages"].items()} == {
        "finetune": "done",
        "merge": "done",
        "evaluate": "done",
    }
    assert report["unsloth"] == record["environment"]["versions"]["unsloth"]
    assert record["stages"]["finetune"]["optimizer_steps"] == 12
    assert record["stages"]["finetune"]["trainable_parameters"] == report["numbers"]
    assert record["stages"]["merge"]["logit_check"]["equal"]
    assert [t["n"] for t in record["stages"]["evaluate"]["tasks"].values()] == [10, 10, 10]


def test_scores_are_those_of_a_process_without_unsloth(run: Run, tmp_path: Path) -> None:
    from slimlib.evaluate.harness import evaluate_model

    config = run.study[ARM].evaluate
    facts = [task for task in config.tasks if task.role == "mmlu_cs"]
    config = replace(config, tasks=tuple(facts))
    here = evaluate_model(run.model_path(ARM), config, tmp_path, run.data_folder())
    there = run.record(ARM)["stages"]["evaluate"]["tasks"]
    for name, entry in here.items():
        assert entry["metrics"] == there[name]["metrics"]
        assert entry["documents"] == there[name]["documents"]


# -------------------------------------------------------------------- each method: fused functions


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Each method's differences between Unsloth's functions and PEFT's own forward, as shares."""
    folder = tmp_path_factory.mktemp("fused")
    in_unsloth(unsloth_methods, "fused", folder=folder)
    return read_json(folder / "fused.json")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("block", "node", "modules"),
    [("qkv", "LoRA_QKVBackward", 3), ("o", "LoRA_WBackward", 1), ("mlp", "LoRA_MLPBackward", 3)],
)
def test_the_fused_training_functions_are_pefts_forward(
    fused: dict[str, Any], method: str, block: str, node: str, modules: int
) -> None:
    found = fused[method]["blocks"][block]
    assert found["node"] == node  # else it had fallen back to PEFT's forward
    # A and B; with IR-QLoRA their betas too; QA-HiRA has one matrix
    assert found["weights"] == modules * {"ir-qlora": 4, "qa-hira": 1}.get(method, 2)
    assert found["effect"] > 0.1  # of the adapter, else equality would show nothing
    assert found["forward"] < TOLERANCE
    assert found["gradients"] < TOLERANCE
    # as installed by the patch for a GPU, on a base in bfloat16, which rounds by 0.004
    installed = fused[method]["blocks in 16 bit"][block]
    assert installed["node"] == node
    assert installed["forward"] < 0.03
    assert installed["gradients"] < 0.1


@pytest.mark.parametrize("method", METHODS)
def test_decoding_and_merging_read_the_matrices_in_effect(
    fused: dict[str, Any], method: str
) -> None:
    found = fused[method]
    assert found["decode"]["effect"] > 0.1
    assert found["decode"]["difference"] < TOLERANCE
    assert found["rewritten"] < TOLERANCE
    assert found["merge"]["live"] < TOLERANCE
    assert found["merge"]["by statistics"] < TOLERANCE


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("when", ["decode in 16 bit", "decode after a step"])
def test_decoding_keeps_no_other_layers_nor_older_matrices(
    fused: dict[str, Any], method: str, when: str
) -> None:
    """Unsloth keeps 16-bit copies of A and B on A; what is built for a layer must not be shared."""
    assert fused[method][when]["effect"] > 0.1
    assert fused[method][when]["difference"] < 0.03  # bfloat16 rounds by 0.004; a few sums of it


@pytest.mark.parametrize("method", METHODS)
def test_the_patch_for_a_gpu_takes_every_layer_and_freezes_nothing(
    fused: dict[str, Any], method: str
) -> None:
    assert fused[method]["patch"] == {"layers": 4, "qkv": 4, "o": 4, "mlp": 4}
    assert fused[method]["prepared"] == {"same": True, "dtypes": ["torch.float32"]}


# ------------------------------------------------------------- each method: trained, saved, merged


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with each method's and seed's run."""
    folder = tmp_path_factory.mktemp("methods")
    in_unsloth(unsloth_methods, "train", folder=folder)
    return folder


def run_of(runs: Path, method: str, seed: int = unsloth_methods.SEEDS[-1]) -> Run:
    return Run(unsloth_methods.study(method, seed), runs / f"{method}-{seed}")


def logits_of(runs: Path, method: str) -> dict[str, list[Any]]:
    """Unsloth's logits by what it loaded: the model as trained, its folder, the plain form."""
    from safetensors.torch import load_file

    found: dict[str, list[Any]] = {}
    for key, logits in sorted(load_file(runs / f"{method}.safetensors").items()):
        found.setdefault(key.split()[0], []).append(logits)
    return found


@pytest.mark.parametrize("seed", unsloth_methods.SEEDS)
@pytest.mark.parametrize("method", METHODS)
def test_each_method_learns_and_moves_every_tensor(runs: Path, method: str, seed: int) -> None:
    log = read_jsonl(run_of(runs, method, seed).arm_folder(ARM) / "log.jsonl")
    losses = [row["loss"] for row in log]
    assert len(losses) == 50
    assert sum(losses[-10:]) <= 0.8 * sum(losses[:10])
    found = read_json(runs / "train.json")[f"{method}-{seed}"]
    assert all(found["changed"].values()), found["changed"]
    # 4 layers of 7 modules, each with A and B; IR-QLoRA's betas; QA-HiRA's one matrix
    assert len(found["changed"]) == 28 * {"ir-qlora": 4, "qa-hira": 1}.get(method, 2)
    assert found["same"]
    assert found["dtypes"] == ["torch.float32"]


@pytest.mark.parametrize("method", METHODS)
def test_unsloth_loads_what_was_saved(runs: Path, method: str) -> None:
    logits = logits_of(runs, method)
    assert {*logits} == {"trained", "reloaded"} | ({"plain"} if METHODS[method].exports else set())
    for found in logits.values():
        assert distance(found, logits["trained"]) < TOLERANCE


@pytest.mark.parametrize("method", [name for name, m in METHODS.items() if m.exports])
def test_stock_peft_loads_the_plain_form(runs: Path, method: str) -> None:
    from peft import PeftModel

    from slimlib.merge.plain import _logits
    from slimlib.model.load import load_tokenizer

    run, expected = run_of(runs, method), logits_of(runs, method)["trained"]
    base = load_transformers(run.study[ARM].model)
    tokenizer = load_tokenizer(run.study[ARM].model)
    before = _logits(base, tokenizer)
    tuned = PeftModel.from_pretrained(base, run.adapter_folder(ARM))
    assert type(tuned.peft_config["default"]).__name__ == "LoraConfig"
    assert distance(_logits(tuned, tokenizer), expected) < TOLERANCE
    assert distance(before, expected) > 1000 * TOLERANCE


@pytest.mark.parametrize("method", METHODS)
def test_each_method_merges_in_a_process_without_unsloth(runs: Path, method: str) -> None:
    from slimlib.merge.plain import merge_arm, saved_logits
    from slimlib.model.load import load_tokenizer

    assert "unsloth" not in sys.modules
    run = run_of(runs, method)
    assert merge_arm(run, ARM)["logit_check"]["equal"]
    tokenizer = load_tokenizer(run.study[ARM].model)
    found = saved_logits(Path(run.model_path(ARM)), tokenizer)
    assert distance(found, logits_of(runs, method)["trained"]) < TOLERANCE
