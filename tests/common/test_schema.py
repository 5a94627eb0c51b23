"""The record's format: scores as digits, the last loss, and what older records become."""

import copy

import numpy as np
import pytest
from places import SLIMLIB_0_1

from slimlib.common.files import read_json, read_jsonl, sha256
from slimlib.common.schema import (
    OWN_VALUES,
    SCHEMA,
    SHARED_VALUES,
    SchemaError,
    last_loss,
    pack_scores,
    unfinished,
    unpack_scores,
    upgrade,
)
from slimlib.config import AdapterConfig, to_dict
from slimlib.standing import LATER

# ----------------------------------------------------------------------------------------- scores


def test_right_and_wrong_are_a_digit_each():
    assert pack_scores([1, 0, 1.0, True, False]) == "10110"
    assert unpack_scores("10110").tolist() == [1, 0, 1, 1, 0]
    assert pack_scores([]) == "" and unpack_scores("").shape == (0,)


def test_other_scores_stay_a_list():
    assert pack_scores([1, 0.5]) == [1, 0.5]
    assert unpack_scores([1, 0.5]).tolist() == [1, 0.5]


@pytest.mark.parametrize("n", [1, 3, 200])
def test_scores_come_back(n):
    scores = np.random.default_rng(n).integers(0, 2, n).tolist()
    found = unpack_scores(pack_scores(scores))
    assert found.tolist() == scores and found.dtype == np.float64


@pytest.mark.parametrize("text", ["102", "1 0", "/0", "1\u0661"])
def test_other_letters_are_refused(text):
    with pytest.raises(ValueError, match="must be digits 0 and 1"):
        unpack_scores(text)


# ------------------------------------------------------------------------------------------- loss


def test_the_last_loss_is_the_mean_of_the_last_ten_steps():
    log = [{"step": s, "loss": float(s)} for s in (1, 20, 30, 38, 40)]
    assert last_loss(log) == 39.0  # steps 31 to 40
    assert last_loss([]) is None


# --------------------------------------------------------------------------------------- unfinished


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"stages": {}}, "not run"),
        ({"stages": {"finetune": {"status": "done"}}}, "cut off"),
        ({"stages": {"evaluate": {"status": "started"}}}, "cut off"),
        ({"stages": {"finetune": {"status": "started"}}, "failed": "OSError: x"}, "OSError: x"),
        ({"stages": {"evaluate": {"status": "done"}}}, ""),
    ],
)
def test_why_an_arm_is_not_evaluated(record, why):
    assert unfinished(record) == why


# --------------------------------------------------------------------------------- older schemas


def old(arm):
    return read_json(SLIMLIB_0_1 / "micro" / arm / "record.json")


def test_a_record_of_today_comes_back_as_it_is():
    record = upgrade(old("llama-2k"))
    assert record["schema"] == SCHEMA and upgrade(record) == record


@pytest.mark.parametrize("schema", [SCHEMA + 1, 0, "1b", None])
def test_an_unknown_schema_is_refused_in_words(schema):
    with pytest.raises(SchemaError, match=rf"schema {schema!r}.*up to {SCHEMA}: use a newer"):
        upgrade({"schema": schema, "stages": {}})


def test_numbers_scores_and_surroundings_stay_what_they_were():
    before = old("llama-2k")
    after = upgrade(before, log=read_jsonl(SLIMLIB_0_1 / "micro" / "llama-2k" / "log.jsonl"))
    for key in ("study", "arm", "label", "compared_with", "seed", "environment"):
        assert after[key] == before[key]
    for name, task in before["stages"]["evaluate"]["tasks"].items():
        new = after["stages"]["evaluate"]["tasks"][name]
        assert {**new, "metrics": None} == {**task, "metrics": None}
        for metric, result in task["metrics"].items():
            found = new["metrics"][metric]
            assert unpack_scores(found["scores"]).tolist() == result["scores"]
            assert isinstance(found["scores"], str)
            assert {**found, "scores": None} == {**result, "scores": None}
    finetune = after["stages"]["finetune"]
    assert finetune["last_loss"] == pytest.approx(1.054, abs=0.1)  # its log ends 1.05, 1.02
    own = {**finetune, "settings": None}
    del own["last_loss"]
    assert own == {**before["stages"]["finetune"], "settings": None}


def test_what_is_upgraded_is_left_as_it_was():
    before = old("llama-2k")
    kept = copy.deepcopy(before)
    upgrade(before)
    assert before == kept


def test_a_record_without_a_schema_is_of_the_first():
    record = old("llama-base")
    del record["schema"]
    assert upgrade(record) == upgrade(old("llama-base"))


def test_a_log_without_the_first_record_s_fine_tuning_adds_nothing():
    assert "finetune" not in upgrade(old("llama-base"), log=[{"step": 1, "loss": 2.0}])["stages"]


WHOLE = {  # the adapter of slimlib 0.1, with every method's values
    **{"method": "qlora", "r": 8, "lora_alpha": 16, "lora_dropout": 0.0},
    **{"target_modules": ["q_proj"], "lam": 4, "lam1": 4, "lam2": 8, "group_size": 32},
    **{"iec_beta": "learned", "keep_scale": False, "rules": []},
}


@pytest.mark.parametrize("method", OWN_VALUES)
def test_an_adapter_keeps_the_values_of_its_method(method):
    adapter = WHOLE | {"method": method}
    record = {"config": {"adapter": adapter, "seed": 1}, "stages": {}}
    found = upgrade(record)["config"]["adapter"]
    assert {*found} == {*SHARED_VALUES, *OWN_VALUES[method]}
    assert found.items() <= adapter.items()


def test_an_adapter_of_an_unknown_method_keeps_everything():
    record = {"config": {"adapter": WHOLE | {"method": "mine"}}, "stages": {}}
    assert upgrade(record)["config"]["adapter"] == WHOLE | {"method": "mine"}


def test_stages_still_name_those_that_they_stand_on():
    """Merge has the hash of fine-tuning's settings, evaluate that of merge's."""
    after = upgrade(old("llama-2k"))["stages"]
    assert "lam" not in after["finetune"]["settings"]["adapter"]
    assert after["merge"]["settings"]["adapter"] == sha256(after["finetune"]["settings"])
    assert after["evaluate"]["settings"]["weights"] == sha256(after["merge"]["settings"])


@pytest.mark.parametrize("rewritten", [False, True])
def test_an_adapter_taken_from_another_arm_is_named_by_its_settings(rewritten):
    source = upgrade(old("llama-2k")) if rewritten else old("llama-2k")
    after = upgrade(old("llama-2k-requantised"), source)["stages"]
    settings = upgrade(source)["stages"]["finetune"]["settings"]
    assert after["merge"]["settings"]["adapter"] == sha256(settings)
    assert after["evaluate"]["settings"]["weights"] == sha256(after["merge"]["settings"])


def test_a_name_that_fits_nothing_is_kept():
    """Another arm's settings made the adapter: `Run.done` must see that."""
    source = old("llama-2k")
    source["stages"]["finetune"]["settings"]["seed"] = 5
    before = old("llama-2k-requantised")
    after = upgrade(before, source)["stages"]
    for stage, key in (("merge", "adapter"), ("evaluate", "weights")):
        assert after[stage]["settings"][key] == before["stages"][stage]["settings"][key]


def test_today_s_adapters_have_the_values_that_are_kept():
    """A field that a method got later needs a schema of its own, or says what was done before."""
    for method, own in OWN_VALUES.items():
        assert {*to_dict(AdapterConfig(method))} - {*LATER["adapter"]} == {*SHARED_VALUES, *own}
