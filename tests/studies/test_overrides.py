"""KEY=VALUE: which arms a key reaches, how a value is read, and what is refused in one line."""

import pytest

from slimlib.config import AdapterConfig
from slimlib.studies.get import get_study
from slimlib.studies.overrides import keys, settable_keys

LADDER = ("llama-instruct", "llama-base", "llama-base-nf4", "llama-2k", "llama-2k-requantised")


def refuse(values: dict, message: str) -> str:
    """The error of a study with these values: one line, with a text of ours."""
    with pytest.raises(ValueError, match=message) as caught:
        get_study("paper", **values)
    text = str(caught.value)
    assert "\n" not in text and "pydantic" not in text and len(text) < 700
    return text


def test_override_reaches_every_arm_that_has_the_field():
    study = get_study("paper", **{"adapter.r": "32"})
    assert [a.adapter.r for a in study.arms if a.adapter] == [32] * 4
    assert get_study("paper")["llama-2k"].adapter.r == 16


def test_override_of_one_arm_leaves_the_others():
    study = get_study("paper", **{"llama-500-r8.data.n": "100"})
    assert study["llama-500-r8"].data.n == 100
    assert study["llama-2k"].data.n == 2000


def test_override_of_an_adapter_follows_to_the_arm_that_takes_it():
    """Else the record of llama-2k-requantised would show an adapter that it has not."""
    study = get_study("paper", **{"llama-2k.adapter.r": "8", "llama-2k.merge.dtype": "float32"})
    assert study["llama-2k-requantised"].adapter.r == 8
    assert study["llama-2k-requantised"].merge.dtype == "float16"


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("adapter.r", "8", 8),
        ("adapter.target_modules", "q_proj, v_proj", ("q_proj", "v_proj")),
        ("train.learning_rate", "1e-5", 1e-5),
        ("train.max_steps", "-1", -1),
        ("data.append_eos", "True", True),
        ("data.n", "none", None),
        ("data.mixture", '{"alpaca": 0.5, "gsm8k": 0.5}', {"alpaca": 0.5, "gsm8k": 0.5}),
        ("model.revision", "main", "main"),
        ("evaluate.max_length", "512", 512),
        ("merge.merge_base", "16bit", "16bit"),
        ("seed", "7", 7),
    ],
)
def test_text_becomes_the_field_s_type(key, text, value):
    overrides = {"data.n": "9"} if key == "data.mixture" else {}
    found = get_study("paper", **overrides, **{key: text})["llama-2k"]
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("pair", [("r", "adapter.r"), ("n", "data.n"), ("dataset", "data.dataset")])
def test_short_keys_are_the_long_ones(pair):
    short, full = pair
    value = "rows.jsonl" if short == "dataset" else "9"
    assert get_study("paper", **{short: value}) == get_study("paper", **{full: value})


def test_values_from_python_are_taken_as_they_are():
    study = get_study("paper", **{"adapter.r": 8, "adapter.target_modules": ["q_proj"], "limit": 3})
    assert study["llama-2k"].adapter.target_modules == ("q_proj",)
    assert {t.limit for arm in study.arms for t in arm.evaluate.tasks} == {3}


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("adapter.rank", r"unknown key 'adapter\.rank'; did you mean adapter\.r or "),
        ("learning_rate", r"did you mean train\.learning_rate\?"),
        ("lam", r"did you mean adapter\.lam\?"),
        ("data", r"unknown key 'data'; did you mean data\.dataset or data\.path or data\.n\?"),
        ("name", r"unknown key 'name'; did you mean model\.name\?"),
        ("llama-3k.adapter.r", r"did you mean llama-2k\.adapter\.r"),
        ("nothing.like.it", "unknown key 'nothing.like.it'; `slimlib keys` lists all"),
        ("llama-2k.model", r"give model without an arm; llama-2k\.model\.name is one arm's"),
        ("llama-2k.limit", "give limit without an arm; it is of all arms"),
        ("\x1b[2J", r"unknown key ''\\x1b\[2J''"),
    ],
)
def test_an_unknown_key_is_named_with_a_near_one(key, message):
    refuse({key: "x"}, message)


def test_every_listed_key_can_be_set():
    """Each key that an error message offers is one that `override` takes."""
    values = {
        "arms": "llama-base",
        "tasks": "hellaswag",
        "model": "some/model",
        "hyperparameters": "as-written",
        "dataset": "x.jsonl",
        "data.mixture": '{"alpaca": 1}',
        "adapter.target_modules": "q_proj",
        "adapter.lora_dropout": "0.5",
        "data.subset": "random",
        "data.template": "alpaca",
        "data.append_eos": "true",
        "data.learn": "answer",
        "data.held_out": "0.05",
        "data.system": "to-user",
        "merge.merge_base": "16bit",
        "merge.keep_merged": "false",
        "merge.scale": "0.5",
        "train.padding_free": "true",
        "train.probes": "hellaswag",
        "adapter.rslora": "true",
        "model.load_in_4bit": "false",
        "train.warmup_ratio": "0.5",
        "adapter.method": "q-bara",
        "adapter.keep_scale": "true",
        "adapter.iec_beta": "0.5",
        "model.backend": "transformers",
        "train.optim": "sgd",
        "train.lr_scheduler_type": "linear",
        "train.weight_decay": "0.5",
        "adapter.rules": '[{"layer_type": "mlp", "r": 8}]',
        "model.quantiser": "int4",
        "model.block_size": "32",
        "evaluator": "hf",
        "evaluate.evaluator": "hf",
    }
    # the study's own re-quantised arm goes with NF4 alone, and NF4 with blocks of 64
    needs = {"model.quantiser": {"arms": "llama-base,llama-2k"}}
    needs |= dict.fromkeys(
        ("model.load_in_4bit", "model.block_offset", "model.error_scale"), needs["model.quantiser"]
    )
    needs["model.block_size"] = needs["model.quantiser"] | {"model.quantiser": "int4"}
    needs["data.replay"] = {"data.replay_from": "digits"}
    owners = {"ir-qlora": ["iec_beta"], "qa-lora": ["group_size"], "q-bara": ["lam"]}
    for method, own in owners.items():
        needs |= {f"adapter.{name}": {"adapter.method": method} for name in own}
    needs |= {f"adapter.{name}": {"adapter.method": "qa-hira"} for name in ("lam1", "lam2")}
    dtypes = ("model.dtype", "merge.dtype", "evaluate.dtype")
    for key in settable_keys():
        value = "float32" if key in dtypes else values.get(key, "3")
        given = needs.get(key, {})
        assert get_study("paper", **given, **{key: value}) != get_study("paper", **given), key


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("adapter.r", "0", r"adapter\.r=0 \(arm llama-2k\): must be a whole number, 1 to 8,192"),
        ("adapter.r", "eight", r"r=eight \(arm llama-2k\): must be a whole number"),
        ("adapter.r", 8.5, r"r=8\.5 .*must be a whole number"),
        ("adapter.r", True, "r=true .*must be a whole number"),
        ("adapter.r", "100000", "r=100000 .*1 to 8,192"),
        ("adapter.r", "1" * 5_000, r"r=1{77}\.\.\. .*must be a whole number"),
        ("adapter.lora_dropout", "1", "lora_dropout=1 .*must be a number, 0 or more and below 1"),
        ("adapter.lora_alpha", "0", "lora_alpha=0"),
        ("adapter.method", "hira", "adapter.method=hira .*must be qlora"),
        ("data.n", "0", "data.n=0"),
        ("data.template", "chatml", "data.template=chatml .*must be as-run or alpaca"),
        ("data.subset", "tail", "data.subset=tail"),
        ("data.append_eos", "maybe", "append_eos=maybe .*must be true or false"),
        ("data.mixture", "alpaca", "mixture=alpaca .*must be shares above 0, at .*, as {"),
        ("data.mixture", '{"alpaca": 0}', "data.mixture.alpaca=0 .*must be shares above 0"),
        ("data.mixture", '{"a": 1e308}', "data.mixture.a=1e\\+308 .*must be .* at most 1,000,000"),
        ("data.mixture", '{"a":null}', "data.mixture.a=none .*must be shares above 0"),
        ("data.replay", "0.1", "data.replay_from=none .*must be given with replay, as digits"),
        ("data.replay", "-1", "data.replay=-1 .*must be a number, 0 to 100"),
        ("adapter.target_modules", "mlp,all-linear", "must be names of modules, as q_proj,v_proj"),
        ("train.learning_rate", "0", "learning_rate=0 "),
        ("train.learning_rate", "nan", "learning_rate=nan"),
        ("train.learning_rate", "inf", "learning_rate=inf"),
        ("train.learning_rate", "1e300", "learning_rate=1e300 .*above 0 and at most 1,000,000"),
        ("train.max_steps", "0", "max_steps=0"),
        ("train.num_train_epochs", "-1", "num_train_epochs=-1 .*above 0"),
        ("train.num_train_epochs", "1e300", "num_train_epochs=1e300 .*at most 10,000"),
        ("train.per_device_train_batch_size", "0", "batch_size=0"),
        ("train.warmup_ratio", "2", "warmup_ratio=2 .*0 to 1"),
        ("train.save_steps", "0", "save_steps=0"),
        ("merge.merge_base", "8bit", "merge_base=8bit .*dequant_nf4 or 16bit or requantised"),
        ("merge.dtype", "int8", "merge.dtype=int8 .*float16"),
        ("evaluate.dtype", "half", "evaluate.dtype=half .*float16"),
        ("model.dtype", "fp16", "model.dtype=fp16 .*auto"),
        ("model.max_seq_length", "0", "max_seq_length=0"),
        ("evaluate.max_length", "0", "max_length=0"),
        ("limit", "0", "limit=0"),
        ("limit", "ten", "limit=ten .*must be a whole number, 1 to 10,000,000, or none"),
        ("batch_size", "0", "batch_size=0"),
        ("seed", "-1", "seed=-1"),
        ("seed", "99999999999", "seed=99999999999 .*0 to 4,294,967,295"),
        (
            "hyperparameters",
            "as-told",
            "hyperparameters=as-told .*must be as-run or as-written or as-article",
        ),
        ("train.optim", "adam", r"\(arm llama-2k\): must be adamw_torch or .* mean adamw_torch or"),
        ("train.lr_scheduler_type", "cosin", "must be linear or .*; did you mean cosine or "),
        ("train.weight_decay", "nan", "weight_decay=nan .*must be a number, 0 to 1"),
        ("train.max_grad_norm", "-1", "max_grad_norm=-1 .*must be a number, 0 or more"),
        ("model", "", "model='' .*must be a hub id or a folder"),
        ("model", "x\x1b[2J", r"model='x\\x1b\[2J' .*must be one line of text"),
        ("model", "https://me:secret@host/x", r"model=https://\*\*\*@host/x .*no address"),
        ("model.quantiser", "int", "quantiser=int .*must be nf4 or .*; did you mean int4"),
        (
            "model.quantiser",
            "int4",
            "merge_base=requantised .*arm llama-2k-requantised.*only bitsandbytes",
        ),
        ("model.block_size", "48", "block_size=48 .*must be 32, 64, .* for nf4, as bitsandbytes"),
        ("model.block_size", "32", "merge.merge_base=requantised .*llama-2k-requantised"),
        ("model.block_offset", "64", "block_offset=64 .*must be 0, or with nf4 less than block"),
        ("model.error_scale", "-1", "error_scale=-1 .*must be a number, 0 to 4"),
        ("model.quantiser", "noise:x", "quantiser=noise:x .*must be .* or noise:SEED or gptq"),
        (
            "tasks",
            "hellaswg",
            "tasks=hellaswg .*must be names of tasks among hellaswag, gsm8k.*check and",
        ),
        ("hellaswag.limit", "0", r"limit=0 \(arm llama-instruct\): must be a whole number"),
        ("model.backend", "vllm", "backend=vllm .*must be auto or unsloth or transformers"),
        ("data.dataset", f"hf_{'a1' * 17}", r"dataset=\*\*\* .*must hold no token"),
        ("data.dataset", "[" * 100_000, "dataset=.* must be a name, a file or a hub id"),
        ("adapter.rules", "[" * 100_000, r"rules=.*\.\.\. .*must be a list of rules"),
        ("adapter.rules", "mlp", 'rules=mlp .*must be a list of rules, as .{"layer_type": "mlp"'),
        ("adapter.rules", '[{"projection":5}]', r"rules\[0\]\.projection=5 .*must be names as"),
        ("adapter.rules", '[{"layer_typ":"mlp"}]', "no such field; did you mean layer_type"),
        ("adapter.rules", '[{"lam":4}]', r"rules=Rule\(lam=4\) .*a rule of qlora sets r"),
        ("adapter.method", "q-bora", "did you mean q-bara"),
        (
            "adapter.lam",
            "4",
            "has a field 'adapter.lam': qlora has no lam; it is a value of q-bara",
        ),
        ("adapter.iec_beta", "1", "qlora has no iec_beta; it is a value of ir-qlora"),
        ("adapter.target_modules", "", "target_modules='' .*names of modules, as q_proj,v_proj"),
        ("evaluate.fewshot_seed", "-1", "fewshot_seed=-1 "),
        ("arms", "llama-9k", "no arm 'llama-9k'"),
        ("arms", 5, "arms=5: must be names of arms among llama-instruct"),
        ("arms", "llama-2k-requantised", "takes its adapter from 'llama-2k': keep both"),
        ("arms", "llama-base,llama-base", "llama-base.*twice"),
        ("llama-base.adapter.r", "8", "no arm of study 'paper' has a field 'llama-base.adapter.r'"),
    ],
)
def test_bad_values_are_named_with_the_way_out(key, text, message):
    refuse({key: text}, message)


@pytest.mark.parametrize(
    "odd", [{"block_size": 128}, {"error_scale": 0.5}, {"quantiser": "int4", "block_size": 32}]
)
def test_what_is_requantised_is_bitsandbytes_own_nf4_and_what_is_odd_is_named(odd):
    named = ", ".join(f"{key}={value}" for key, value in odd.items())
    own = r"\(quantiser=nf4, block_size=64, block_offset=0, error_scale=1\) is requantised"
    refuse({f"model.{key}": str(value) for key, value in odd.items()}, f"with {named}; .*{own}")


def test_a_mixture_needs_the_number_of_rows():
    with pytest.raises(ValueError, match="data.n=none .*must be a number of rows, for a mixture"):
        get_study("paper", **{"data.n": "none", "data.mixture": '{"alpaca": 1, "gsm8k": 1}'})


def test_kept_arms_keep_only_what_stands():
    study = get_study("paper", arms="llama-base, llama-2k")
    assert [arm.name for arm in study.arms] == ["llama-base", "llama-2k"]
    assert study.ladder == ("llama-base", "llama-2k")
    assert study.comparisons == ()
    assert study["llama-base"].compared_with is None  # llama-instruct is gone
    assert study["llama-2k"].compared_with == "llama-base"


def test_another_model_takes_the_llama_arms_along():
    study = get_study("paper", model="me/my-1b")
    names = [arm.name for arm in study.arms]
    assert names == [
        "llama-base",
        "llama-base-nf4",
        "llama-2k",
        "llama-2k-requantised",
        "llama-500-r8",
    ]
    assert {(a.model.name, a.model.revision) for a in study.arms} == {("me/my-1b", None)}
    assert [arm.label for arm in study.arms] == [
        "my-1b base",
        "my-1b base, NF4",
        "my-1b fine-tuned",
        "my-1b fine-tuned, re-quantised",
        "my-1b minimal (r 8)",
    ]
    own = get_study("paper")["llama-instruct"].model  # pinned by the study
    assert get_study("paper", model=own.name)["llama-2k"].model.revision == own.revision
    grid = get_study("key_variables_micro", model="me/my-1b")
    assert "1.8M" not in grid.note and "learns less" in grid.note
    assert study.paper_columns == {}  # another model's numbers are not the paper's
    assert study.ladder == LADDER[1:]


def test_one_task_s_limit_is_over_that_of_all():
    for order in (("limit", "gsm8k.limit"), ("gsm8k.limit", "limit")):
        study = get_study("paper", **{key: {"limit": 5}.get(key, 7) for key in order})
        limits = {task.name: task.limit for task in study["llama-2k"].evaluate.tasks}
        assert limits.pop("gsm8k") == 7 and {*limits.values()} == {5}


def test_kept_tasks_keep_their_labels_alone():
    study = get_study("paper", tasks="gsm8k,hellaswag")
    assert {*study.task_labels} == {"gsm8k", "hellaswag"}
    assert all([t.name for t in a.evaluate.tasks] == ["hellaswag", "gsm8k"] for a in study.arms)


def test_values_that_only_fit_together_are_set_together():
    """Whichever of them comes first: block_size=32 alone would not fit NF4."""
    values = {"model.block_size": "32", "model.quantiser": "int4", "arms": "llama-base,llama-2k"}
    for order in (values, dict(reversed(values.items()))):
        assert get_study("paper", **order)["llama-2k"].model.block_size == 32


def test_an_empty_model_folder_is_refused_at_once(tmp_path):
    refuse({"model": str(tmp_path)}, "must be a hub id, or a folder with a config.json")
    (tmp_path / "adapter_config.json").write_text("{}")
    refuse({"model": str(tmp_path)}, "this folder holds an adapter of a model that it does not")
    (tmp_path / "adapter_config.json").unlink()
    (tmp_path / "config.json").write_text("{}")
    assert get_study("paper", model=str(tmp_path))["llama-base"].model.name == str(tmp_path)


def test_a_token_is_not_repeated_in_an_error():
    token = f"hf_{'Zx9' * 12}"
    for key in ("data.dataset", "data.path", "model", "adapter.r", token):
        assert token not in refuse({key: token}, "must|unknown key")


def test_another_method_keeps_what_was_set_of_the_shared_values():
    """tinyllama-50k has r 8, lora_alpha 32 and dropout; llama-2k the defaults."""
    study = get_study("paper", **{"adapter.method": "q-bara", "adapter.lam": "4"})
    tiny, llama = study["tinyllama-50k"].adapter, study["llama-2k"].adapter
    assert (tiny.method, tiny.r, tiny.lora_alpha, tiny.lora_dropout) == ("q-bara", 8, 32, 0.05)
    assert llama == AdapterConfig("q-bara", lam=4) and tiny.lam == 4
    assert study["llama-2k-requantised"].adapter == llama
    back = tiny.as_method("qlora")
    assert back == AdapterConfig(r=8, lora_alpha=32, lora_dropout=0.05)  # lam is gone


def test_a_value_of_one_method_reaches_the_cells_that_have_it():
    arms = get_study("key_variables_micro", **{"adapter.lam": "8"}).arms
    lams = {arm.adapter.lam for arm in arms if arm.adapter and arm.adapter.method == "q-bara"}
    assert lams == {8}


# ----------------------------------------------------------------------------------------- keys


def test_keys_say_what_they_take_and_where_it_comes_from():
    (rank,) = [key for key in keys("adapter.r") if key.name == "adapter.r"]
    assert rank == ("adapter.r", "a whole number, 1 to 8,192", "16", rank.about)
    assert "typically r = 8" in rank.about
    assert [key.name for key in keys("GROUP_SIZE")] == ["adapter.group_size"]
    assert {key.name for key in keys()} == {*settable_keys()}
    (method,) = keys("adapter.method")
    assert method.allowed == "qlora or ir-qlora or qa-lora or q-bara or qa-hira"
    assert keys("no such thing") == []


def test_every_key_has_a_word_about_it():
    assert [key.name for key in keys() if not key.about or not key.allowed] == []
