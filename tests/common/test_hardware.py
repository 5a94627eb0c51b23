"""The machine: dtype by compute capability, the preflight's reds, Colab's secret."""

import subprocess
import sys
import types

import pytest
import torch

from slimlib.common import hardware
from slimlib.common.hardware import Device, find_device, resolve_dtype

T4 = Device("cuda", "Tesla T4", (7, 5), 14.7, 14.5)
CPU = Device("cpu", "x86_64, 2 cores", None, 8.0, 6.0)
SECRET = "hf_" + "x" * 34


@pytest.mark.parametrize(
    ("capability", "dtype", "why"),
    [
        ((7, 5), "float16", "7.5 is below 8.0"),  # a T4
        ((7, 0), "float16", "7.0 is below 8.0"),
        ((8, 0), "bfloat16", "8.0 has it in hardware"),
        ((8, 9), "bfloat16", "8.9"),
        ((10, 0), "bfloat16", "10.0"),  # compared as numbers, not as text
    ],
)
def test_bfloat16_from_capability_8_up(capability, dtype, why):
    device = Device("cuda", "a GPU", capability, 16, 16)
    assert device.dtype == dtype and device.reason.startswith(dtype) and why in device.reason


def test_a_t4_says_float16_although_torch_says_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (14 * 2**30, 15 * 2**30))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    assert find_device() == Device("cuda", "Tesla T4", (7, 5), 15, 14)
    assert resolve_dtype("auto") is torch.float16


def test_a_cpu_computes_in_float32():
    assert CPU.dtype == "float32" and CPU.reason.startswith("float32")


def test_this_machine_s_memory_is_plausible(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    device = find_device()
    assert 0 < device.free_gb <= device.memory_gb < 10_000


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32"])
def test_dtypes_by_name(name):
    assert resolve_dtype(name) is getattr(torch, name)


def test_an_unknown_dtype_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown dtype 'int8'; known: auto, float16, bfloat16"):
        resolve_dtype("int8")


def test_versions_are_of_what_is_installed():
    found = hardware.versions()
    assert found["torch"] == torch.__version__
    assert {"python", "transformers", "lm_eval"} <= set(found)


def test_the_git_revision_is_the_checkout_s():
    folder = hardware.PACKAGE.parent
    if not (folder / ".git").exists():
        assert hardware.git_revision() is None
        return
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    head = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    assert hardware.git_revision() in (head[:12], None) and len(head) in (0, 40)


# ------------------------------------------------------------------------------------------- Colab


@pytest.fixture
def colab(monkeypatch):
    """A stand-in for google.colab whose secrets are a dict."""

    class SecretNotFoundError(Exception):
        pass

    def get(name):
        if name not in secrets:
            raise SecretNotFoundError(name)
        return secrets[name]

    secrets = {}
    userdata = types.SimpleNamespace(
        get=get, SecretNotFoundError=SecretNotFoundError, NotebookAccessError=PermissionError
    )
    module = types.ModuleType("google.colab")
    module.userdata = userdata
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", module)
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.delenv("HF_TOKEN")
    return secrets


def test_colab_s_secret_reaches_the_environment_and_not_the_screen(colab, capsys):
    colab["HF_TOKEN"] = SECRET
    assert hardware.use_colab_secret()
    assert hardware.os.environ["HF_TOKEN"] == SECRET
    assert SECRET not in "".join(capsys.readouterr())


def test_no_secret_in_colab_is_said_and_is_no_error(colab, capsys):
    assert not hardware.use_colab_secret()
    assert "no secret HF_TOKEN" in capsys.readouterr().out


def test_outside_colab_nothing_is_asked(monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert not hardware.use_colab_secret()
