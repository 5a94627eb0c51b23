"""The hub, small and on loopback: what is asked of it, what it refuses, its bad days.

Slimlib's own doors are opened, in one process whose hub it is.
"""

import json
import os
import subprocess
import sys

import hub_doors
import pytest
from small_hub import MEMBER, STRANGER, SmallHub

from slimlib.common.hub import WAITS, at_hand
from slimlib.data.micro import CHECKPOINTS

WRONG = "hf_" + "w" * 34
WEIGHTS = "model.safetensors"
TASK = """task: {name}
dataset_path: {repository}
test_split: train
output_type: multiple_choice
doc_to_text: "{{{{instruction}}}}"
doc_to_target: 0
doc_to_choice: ["1", "2"]
"""


def files_of(name):
    return {path.name: path.read_bytes() for path in CHECKPOINTS[name].iterdir()}


def rows(count, word="say"):
    made = [{"instruction": f"{word} {n}", "input": "", "output": str(n)} for n in range(count)]
    return {"train.jsonl": "".join(json.dumps(row) + "\n" for row in made).encode()}


@pytest.fixture(scope="module")
def hub():
    with SmallHub() as hub:
        hub.add("org/base", files_of("tiny"))
        hub.add("org/gated", files_of("tiny"), gated=True)
        hub.add("org/rows", rows(5), "datasets")
        hub.add("org/gated-rows", rows(5), "datasets", gated=True)
        yield hub


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def doors(hub, home):
    with hub_doors.at(hub.address, home) as call:
        yield call


@pytest.fixture
def call(hub, doors):
    """Open a door; the hub has good days afterwards."""
    yield doors
    hub.faults.clear()


@pytest.fixture(scope="module")
def expected(doors):
    """The logits of the checkpoint itself."""
    found, _ = doors(hub_doors.ask_model, str(CHECKPOINTS["tiny"]))
    return found


# ----------------------------------------------------------------------------- what moves, and not


def test_a_model_of_the_hub_is_the_model_of_its_files(call, hub, expected):
    assert call(hub_doors.ask_model, "org/base")[0] == expected
    assert call(hub_doors.load_model, "org/base")[0] == "org/base"
    assert call(hub_doors.preflight_model, "org/base", "runs")[0] == []


def test_what_was_opened_is_what_is_loaded_though_the_branch_moves(call, hub, expected):
    first = hub.add("org/moving", files_of("tiny"))
    (opened, identity), _ = call(hub_doors.open_model, "org/moving")
    assert opened.revision == first
    second = hub.add("org/moving", files_of("base"))
    assert call(hub_doors.ask_model, opened)[0] == expected
    (later, other), _ = call(hub_doors.open_model, "org/moving")
    assert later.revision == second and other != identity
    assert call(hub_doors.ask_model, later)[0] != expected
    (pinned, same), _ = call(hub_doors.open_model, f"org/moving@{first}")
    assert pinned.revision == first and same == identity
    assert call(hub_doors.ask_model, f"org/moving@{first}")[0] == expected


def test_an_adapter_that_comes_onto_main_is_not_put_on_a_pinned_model(call, hub, expected):
    """transformers looks for one on main, whatever the revision."""
    first = hub.add("org/later-adapter", files_of("tiny"))
    config = json.dumps({"base_model_name_or_path": "org/base", "peft_type": "LORA"}).encode()
    hub.add("org/later-adapter", {"adapter_config.json": config})
    before = len(hub.asked)
    assert call(hub_doors.ask_model, f"org/later-adapter@{first}")[0] == expected
    assert not [a for a in hub.asked[before:] if "/main/" in a.path]


def test_an_adapter_of_the_hub_goes_on_its_base_of_the_hub(call, hub, expected, tmp_path):
    wanted, _ = call(hub_doors.save_adapter, "org/base", tmp_path / "adapter")
    names = ("adapter_config.json", "adapter_model.safetensors")
    saved = {name: (tmp_path / "adapter" / name).read_bytes() for name in names}
    assert json.loads(saved[names[0]])["base_model_name_or_path"] == "org/base"
    commit = hub.add("org/adapter", saved)
    (opened, _), _ = call(hub_doors.open_model, "org/adapter")
    assert (opened.base, opened.adapter_revision) == ("org/base", commit)
    found, _ = call(hub_doors.ask_model, "org/adapter")
    assert found == pytest.approx(wanted, abs=1e-5) and found != pytest.approx(expected, abs=1e-3)


def test_pickled_weights_are_refused_and_not_downloaded(call, hub):
    files = {name: data for name, data in files_of("tiny").items() if name != WEIGHTS}
    hub.add("org/pickled", {**files, "pytorch_model.bin": b"pickle"})
    found, _ = call(hub_doors.ask_model, "org/pickled")
    assert "org/pickled: has no weights in safetensors" in found
    assert not hub.count("pytorch_model.bin")


def test_rows_by_branch_move_and_by_commit_do_not(call, hub):
    first = hub.add("org/moving-rows", rows(3), "datasets")
    assert len(call(hub_doors.rows, "org/moving-rows")[0]) == 3
    assert call(hub_doors.moving_rows, "org/moving-rows")[0] == {"org/moving-rows": first}
    second = hub.add("org/moving-rows", rows(4), "datasets")
    assert len(call(hub_doors.rows, "org/moving-rows")[0]) == 4
    assert call(hub_doors.moving_rows, "org/moving-rows")[0] == {"org/moving-rows": second}
    assert call(hub_doors.moving_rows, "org/gated-rows")[0] == {}
    assert len(call(hub_doors.rows, f"org/moving-rows@{first}")[0]) == 3


def test_a_task_s_documents_are_known_by_their_commit(call, hub, tmp_path):
    def piqa(word):
        row = {"goal": f"{word} it", "sol1": "now", "sol2": "never", "label": 0}
        lines = "".join(json.dumps(row | {"goal": f"{word} {n}"}) + "\n" for n in range(3))
        return {f"{split}.jsonl": lines.encode() for split in ("train", "validation")}

    model, first = str(CHECKPOINTS["tiny"]), hub.add("baber/piqa", piqa("do"), "datasets")
    entry, commit, before = call(hub_doors.evaluate, model, tmp_path / "first")[0]
    assert (commit, before.word) == (first, "not done")
    again, _, before = call(hub_doors.evaluate, model, tmp_path / "first")[0]
    assert again == entry and before.done
    second = hub.add("baber/piqa", piqa("undo"), "datasets")
    call(hub_doors.documents, "piqa", tmp_path)  # whoever reads it anew
    new, commit, before = call(hub_doors.evaluate, model, tmp_path / "first")[0]
    assert (commit, before) == (second, ("stale", "documents changed"))
    assert new["documents"] != entry["documents"] and new["key"] != entry["key"]


def test_a_task_s_documents_are_those_of_its_own_part_of_a_data_set(call, hub):
    """ARC-Easy was read at one commit, ARC-Challenge later at another."""

    def arc(word):
        row = {"id": "1", "question": word, "choices": {"text": ["a", "b"], "label": ["A", "B"]}}
        line = (json.dumps(row | {"answerKey": "A"}) + "\n").encode()
        parts = ("ARC-Challenge", "ARC-Easy")
        configs = [f"- config_name: {part}\n  data_files: {part}.jsonl\n" for part in parts]
        card = f"---\nconfigs:\n{''.join(configs)}---\n".encode()
        return {"README.md": card, **{f"{part}.jsonl": line for part in parts}}

    first = hub.add("allenai/ai2_arc", arc("One?"), "datasets")
    assert call(hub_doors.read_task, "arc_easy")[0] == first
    second = hub.add("allenai/ai2_arc", arc("Two?"), "datasets")
    assert call(hub_doors.read_task, "arc_challenge")[0] == second
    assert call(hub_doors.documents_of, "arc_easy")[0] == first
    assert call(hub_doors.read_task, "arc_easy")[0] == second


# -------------------------------------------------------------------------------- what is refused

GATED = {
    None: ("org/gated is gated", "/org/gated, and set HF_TOKEN"),
    STRANGER: ("the token that is set has no access", "with the account whose token HF_TOKEN is"),
    WRONG: ("the hub does not know the token that is set", "/settings/tokens"),
}


@pytest.mark.parametrize("token", GATED, ids=["none", "stranger", "wrong"])
def test_a_gated_model_says_the_way_out(call, hub, home, token):
    problem, way_out = GATED[token]
    found, said = call(hub_doors.open_model, "org/gated", token=token)
    assert found.startswith("HubError: ") and problem in found and way_out in found
    check = call(hub_doors.preflight, "org/gated", None, "org/rows", home / "runs", token=token)
    check = check[0]["org/gated"]
    assert not check.ok and problem in check.detail and way_out in check.way_out
    red, more = call(hub_doors.preflight_model, "org/gated", home / "runs", token=token)
    assert problem in str(red)
    everything = found + said + str(check) + str(red) + more
    assert "\n" not in found and (token is None or token not in everything)


def test_with_the_right_token_a_gated_model_is_read(call, hub, home, expected):
    checks, _ = call(
        hub_doors.preflight, "org/gated", None, "org/gated-rows", home / "runs", token=MEMBER
    )
    assert all(c.ok for c in checks.values()) and "commit" in checks["org/gated"].detail
    found, said = call(hub_doors.ask_model, "org/gated", token=MEMBER)
    assert found == expected
    assert len(call(hub_doors.rows, "org/gated-rows", token=MEMBER)[0]) == 5
    stored = [path for path in home.rglob("*") if path.is_file()]
    assert stored and not [path for path in stored if MEMBER.encode() in path.read_bytes()]
    assert MEMBER not in said + str(checks)
    elsewhere = [a for a in hub.asked if a.path.startswith("/storage")]
    assert elsewhere and not any(a.token for a in elsewhere)


def test_gated_rows_say_the_way_out(call, home):
    page = "/datasets/org/gated-rows"
    found, _ = call(hub_doors.rows, "org/gated-rows")
    assert "org/gated-rows is gated: accept the licence on" in found and page in found
    check, _ = call(hub_doors.preflight, "org/base", None, "org/gated-rows", home / "runs")
    assert check["org/base"].ok and page in check["org/gated-rows"].way_out


def test_a_task_s_gated_data_set_is_named(call, hub, tmp_path):
    path = tmp_path / "asked.yaml"
    hub.add("org/gated-task", rows(5), "datasets", gated=True)
    path.write_text(TASK.format(name="asked", repository="org/gated-task"))
    found, _ = call(hub_doors.documents, str(path), tmp_path)
    assert found.startswith("HubError: ") and "org/gated-task" in found and "HF_TOKEN" in found
    path.write_text(TASK.format(name="asked", repository="org/rows"))
    assert call(hub_doors.documents, str(path), tmp_path)[0] == {"asked": 5}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("org/nothing", "org/nothing: the hub has no such model, or it is private: check the name"),
        ("org/base@v9", "org/base has no revision v9: see"),
        ("o r g", "'o r g' does not exist here"),
    ],
)
def test_a_name_that_is_wrong_is_said_in_one_line(call, name, said):
    found, _ = call(hub_doors.open_model, name)
    assert found.startswith(f"HubError: {said}") and "\n" not in found


def test_wrong_rows_and_revisions_are_red_at_once(call, hub, home):
    checks, _ = call(hub_doors.preflight, "org/base", "v9", "org/nothing", home / "runs")
    assert checks["org/base"].detail == "org/base has no revision v9"
    assert "no such dataset" in checks["org/nothing"].detail
    assert "no such dataset" in call(hub_doors.rows, "org/nothing")[0]


# ---------------------------------------------------------------------------------------- bad days


@pytest.mark.parametrize("where", ["/revision/", "/tree/", "/config.json", "/storage/"])
def test_an_outage_that_passes_is_waited_for(call, hub, expected, where):
    name = f"org/busy{where.strip('/').replace('.', '-')}"
    hub.add(name, {**files_of("tiny"), "README.md": name.encode()})
    hub.fail(where, times=2)
    found, said = call(hub_doors.ask_model, name)
    assert found == expected
    heads = where == "/config.json"  # huggingface_hub asks for those again itself
    assert heads or f"asked again in {WAITS[0]:.0f} s" in said and "status 503" in said


@pytest.mark.parametrize("kind", ["cut", "reset"])
def test_a_file_cut_in_the_middle_goes_on_where_it_was(call, hub, expected, kind):
    hub.add(f"org/{kind}", {**files_of("tiny"), "README.md": kind.encode()})
    hub.fail("/storage/", times=2, kind=kind, value=300_000)
    before = len(hub.asked)
    assert call(hub_doors.ask_model, f"org/{kind}")[0] == expected
    ranges = [a.range for a in hub.asked[before:] if a.path.startswith("/storage")]
    begins = [int(r.removeprefix("bytes=").rstrip("-")) for r in ranges[1:]]
    assert ranges[0] is None and len(begins) == 2
    # what had come and was not read yet is lost with a reset
    assert (200_000 if kind == "cut" else 0) < begins[0] <= 300_000
    assert begins[0] < begins[1] <= begins[0] + 300_000


def test_a_reset_is_gone_on_after_though_the_session_was_lost(call, hub):
    """huggingface_hub closes its session at a ConnectError and in a fork, and makes another."""
    commit = hub.add("org/lost", {**files_of("tiny"), "README.md": b"lost"})
    hub.fail("/storage/", kind="reset", value=300_000)
    before = len(hub.asked)
    assert call(hub_doors.fetch_in_a_new_session, "org/lost")[0] == commit
    ranges = [a.range for a in hub.asked[before:] if a.path.startswith("/storage")]
    assert len(ranges) == 2 and ranges[1] is not None


def test_an_outage_that_stays_is_said_in_one_line(call, hub):
    hub.add("org/dark", files_of("tiny"))
    hub.fail("/storage/", times=999)
    found, said = call(hub_doors.ask_model, "org/dark")
    assert found.startswith("Outage: org/dark@") and "\n" not in found
    assert f"does not answer (status 503): it was asked {len(WAITS) + 1} times" in found
    assert said.count("asked again") == len(WAITS)
    hub.fail("", times=999)
    for name in ("org/unseen", "org/unseen-rows"):
        door = hub_doors.rows if name.endswith("rows") else hub_doors.open_model
        found, _ = call(door, name)
        assert f"{name}: the hub ({hub.address}) does not answer (status 503)" in found


def test_what_is_here_already_needs_no_hub(call, hub, expected):
    assert call(hub_doors.ask_model, "org/base")[0] == expected
    hub.fail("", times=999)
    found, said = call(hub_doors.ask_model, "org/base")
    assert found == expected and "asked again" not in said


# ----------------------------------------------------------------------------------------- offline


def test_offline_the_cache_is_read_and_nothing_is_asked(call, hub, home, expected):
    assert call(hub_doors.ask_model, "org/base")[0] == expected
    assert len(call(hub_doors.rows, "org/rows")[0]) == 5
    before = len(hub.asked)
    assert call(hub_doors.ask_model, "org/base", offline=True)[0] == expected
    assert len(call(hub_doors.rows, "org/rows", offline=True)[0]) == 5
    checks, _ = call(hub_doors.preflight, "org/base", None, "org/rows", home / "runs", offline=True)
    assert all(check.ok for check in checks.values())
    assert "offline" in checks["org/rows"].detail
    assert len(hub.asked) == before


@pytest.mark.parametrize("door", [hub_doors.open_model, hub_doors.rows])
def test_offline_what_is_not_in_the_cache_is_said_with_the_way_out(call, door):
    found, _ = call(door, "org/never-seen", offline=True)
    assert "org/never-seen is not, or not whole, in this machine's cache" in found
    assert "HF_HUB_OFFLINE is set: unset it" in found and "\n" not in found


def test_offline_a_folder_that_is_not_there_is_not_taken_for_a_name_of_the_hub(call, home):
    (home / "my-qwen").mkdir()
    found, _ = call(hub_doors.open_model, "my-qwn", offline=True)
    assert "my-qwn is no folder here, and is not, or not whole, in this machine's cache" in found


def test_offline_rows_of_another_commit_are_not_taken_for_the_pinned(call, hub):
    """datasets takes the newest that it has, whatever the revision."""
    seen = hub.add("org/two", rows(3), "datasets")
    assert len(call(hub_doors.rows, "org/two")[0]) == 3
    unseen = hub.add("org/two", rows(4), "datasets")
    assert len(call(hub_doors.rows, f"org/two@{seen}", offline=True)[0]) == 3
    found, _ = call(hub_doors.rows, f"org/two@{unseen}", offline=True)
    assert f"commit {unseen[:12]} is not in this machine's cache" in found


# ------------------------------------------------------------------------- as a user starts it


@pytest.mark.slow
def test_check_and_tune_work_from_the_hub_and_from_its_cache(hub, tmp_path):
    hub.add("org/tuned", files_of("instruct"))
    hub.add("org/many", rows(60), "datasets")
    (tmp_path / "asked.yaml").write_text(TASK.format(name="asked", repository="org/many"))

    def slimlib(*arguments, offline=False):
        where = hub_doors.environment(hub.address, tmp_path / "home", offline)
        command = [sys.executable, "-m", "slimlib", *arguments]
        how = {"env": where, "cwd": tmp_path, "capture_output": True, "text": True}
        return subprocess.run(command, timeout=900, **how)

    options = ("--tasks", "asked.yaml", "--limit", "20")
    refused = slimlib("check", "org/base", "org/gated", *options, "--out", "refused")
    assert refused.returncode == 2 and not (tmp_path / "refused").exists()
    assert "slimlib: org/gated is gated: accept the licence on" in refused.stderr
    assert len(refused.stderr.splitlines()[-1].split("slimlib: ")) == 2
    for offline in (False, True):
        before = len(hub.asked)
        folder = ("--runs", f"runs-{offline}")
        out = ("--out", f"checked-{offline}")
        done = slimlib("check", "org/base", "org/tuned", *options, *out, offline=offline)
        assert done.returncode == 0, done.stderr[-3000:]
        assert "asked" in done.stdout
        tuned = slimlib("tune", "org/base", "org/many", *options, *folder, offline=offline)
        assert tuned.returncode == 0, tuned.stderr[-3000:]
        assert offline is (len(hub.asked) == before)
    assert os.listdir(tmp_path / "home" / "hub")


def test_a_model_at_hand_is_a_folder_with_weights_or_in_the_cache(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    assert at_hand("some/model") is None and at_hand("no/hub/id") is None
    assert at_hand(str(tmp_path)) is None  # a folder without weights
    (tmp_path / "model.safetensors").touch()
    assert at_hand(str(tmp_path)) == tmp_path
