"""Reading one tensor of a checkpoint: as safetensors does, and what is refused."""

import numpy as np
import pytest

from slimlib.data.micro import CHECKPOINTS
from slimlib.explain.weights import read_weight

NAME = "model.layers.0.self_attn.q_proj.weight"


def test_bfloat16_is_read_as_safetensors_does():
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    official = safetensors.load_file(CHECKPOINTS["base"] / "model.safetensors")[NAME]
    assert official.dtype == torch.bfloat16
    found = read_weight(CHECKPOINTS["base"], NAME)
    assert found.dtype == np.float32 and (found == official.float().numpy()).all()


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16])
def test_other_floats_and_several_files(kind, tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    values = np.arange(6, dtype=kind).reshape(2, 3) / 4
    safetensors.save_file({"a": values, "b": values + 1}, tmp_path / "one.safetensors")
    safetensors.save_file({"c": values + 2}, tmp_path / "two.safetensors")
    assert (read_weight(tmp_path, "b") == values + 1).all()
    assert (read_weight(tmp_path, "c") == values + 2).all()


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(ValueError, match="has no .safetensors"):
        read_weight(tmp_path, NAME)
    with pytest.raises(ValueError, match="has no 'q'; it has model.embed_tokens.weight"):
        read_weight(CHECKPOINTS["base"], "q")


def test_integers_and_damaged_files_are_refused(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    safetensors.save_file({"a": np.arange(4)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="a is stored as I64; must be one of F64"):
        read_weight(tmp_path, "a")
    (tmp_path / "a.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(ValueError, match="is no file of safetensors"):
        read_weight(tmp_path, "a")
