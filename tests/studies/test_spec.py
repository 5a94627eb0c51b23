"""A sweep's file: which arms it makes, who trains for whom, and what is refused in one line."""

import json
from dataclasses import replace
from math import prod

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from slimlib import cli
from slimlib.common.checked import from_dict
from slimlib.config import to_dict
from slimlib.studies.get import get_study
from slimlib.studies.spec import MOST, Spec, compile_spec, read_spec, share_trainings

SMOKE = {"study": "smoke", "arm": "llama-2k"}


def compiled(**values):
    """The study of a spec that is written as JSON would be."""
    name = values.pop("name", "mine")
    text = json.dumps(SMOKE | values)
    return compile_spec(_spec(json.loads(text), name))


def _spec(values, name="mine"):
    return from_dict(Spec, {"name": name} | values)


# ------------------------------------------------------------------------------------------- arms


def test_a_grid_makes_each_combination_and_what_it_is_compared_with():
    study = compiled(grid={"adapter.r": [4, 8], "train.learning_rate": ["1e-3", 0.005]})
    assert [arm.name for arm in study.arms] == [
        "llama-base",
        "llama-2k-r=4-learning_rate=1e-3",
        "llama-2k-r=4-learning_rate=0.005",
        "llama-2k-r=8-learning_rate=1e-3",
        "llama-2k-r=8-learning_rate=0.005",
    ]
    last = study.arms[-1]
    assert (last.adapter.r, last.train.learning_rate) == (8, 0.005)
    assert last.label == "micro fine-tuned, r=8, learning_rate=0.005"
    assert last.compared_with == "llama-base" and study["llama-base"].compared_with is None
    assert all(arm.trains for arm in study.arms[1:])  # four trainings, each its own


def test_a_list_has_names_and_may_hold_the_arm_as_it_is():
    study = compiled(list=[{}, {"name": "small", "adapter.r": 4}], set={"data.n": 8})
    assert [arm.name for arm in study.arms] == ["llama-base", "llama-2k", "llama-2k-small"]
    assert study["llama-2k-small"].adapter.r == 4
    assert {arm.data.n for arm in study.arms if arm.data} == {8}
    plain = get_study("smoke", **{"data.n": 8})["llama-2k"]
    assert study["llama-2k"] == plain


def test_without_an_arm_it_is_the_one_that_the_study_is_about():
    spec = _spec({"study": "smoke", "grid": {"adapter.r": [4]}})
    assert compile_spec(spec).arms[-1].name == "llama-2k-r=4"


def test_what_is_merged_in_several_ways_is_trained_once():
    bases = ["dequant_nf4", "16bit", "requantised"]
    study = compiled(grid={"adapter.r": [4, 8], "merge.merge_base": bases})
    trained = [arm.name for arm in study.arms if arm.trains]
    assert trained == ["llama-2k-r=4-merge_base=dequant_nf4", "llama-2k-r=8-merge_base=dequant_nf4"]
    takers = {arm.name: arm.adapter_from for arm in study.arms if arm.adapter_from}
    assert len(takers) == 4
    for taker, source in takers.items():
        assert study[taker].adapter.r == study[source].adapter.r
        assert study[taker].merge.merge_base != study[source].merge.merge_base


def test_an_arm_that_takes_an_adapter_trains_its_own_where_it_is_another():
    study = compiled(arm="llama-2k-requantised", list=[{}, {"adapter.r": 4}])
    assert [(a.name, a.trains) for a in study.arms[1:]] == [
        ("llama-2k-requantised", True),
        ("llama-2k-requantised-r=4", True),
    ]
    both = compiled(arm=["llama-2k", "llama-2k-requantised"], grid={"adapter.r": [4]})
    assert both["llama-2k-requantised-r=4"].adapter_from == "llama-2k-r=4"


def test_names_are_short_safe_and_tell_keys_apart():
    keys = {"merge.dtype": ["float16"], "model.dtype": ["float32"]}
    long = {"adapter.target_modules": ["q_proj,v_proj", ["k_proj"] * 20]}
    names = [arm.name for arm in compiled(grid=keys | long).arms[1:]]
    assert names[0] == (
        "llama-2k-merge.dtype=float16-model.dtype=float32-target_modules=q_proj_v_proj"
    )
    assert len(names[1]) == 100 and names[1].startswith("llama-2k-merge.dtype=float16")
    mixed = compiled(list=[{"data.mixture": {"world": 1.0}}]).arms[-1]
    assert mixed.name == "llama-2k-mixture=world_1.0"


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 64), min_size=1, max_size=4, unique=True),
    st.lists(st.sampled_from([0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=4, unique=True),
    st.lists(st.integers(1, 50), min_size=1, max_size=2, unique=True),
)
def test_a_grid_has_an_arm_for_each_combination_and_a_training_for_each_that_differs(r, scale, n):
    """Oracle: the product of the values; trainings are those of r and n, whatever the scale."""
    study = compiled(grid={"adapter.r": r, "merge.scale": scale, "data.n": n})
    made = study.arms[1:]
    assert len(made) == prod((len(r), len(scale), len(n))) == len({arm.name for arm in made})
    assert {(a.adapter.r, a.merge.scale, a.data.n) for a in made} == {
        (x, y, z) for x in r for y in scale for z in n
    }
    assert sum(arm.trains for arm in made) == len(r) * len(n)
    order = [arm.name for arm in study.arms]
    for arm in made:
        source = study[arm.adapter_from or arm.name]
        assert (source.adapter, source.data, source.train) == (arm.adapter, arm.data, arm.train)
        assert source.trains and order.index(source.name) <= order.index(arm.name)


def test_arms_with_the_same_training_but_another_seed_train_both():
    arm = get_study("smoke")["llama-2k"]
    found = share_trainings([arm, replace(arm, name="b"), replace(arm, name="c", seed=1)])
    assert [a.adapter_from for a in found] == [None, "llama-2k", None]


# ---------------------------------------------------------------------------------------- the file


def test_yaml_and_json_say_the_same_and_a_compiled_spec_can_be_given_again(tmp_path):
    values = SMOKE | {"grid": {"adapter.r": [4, 8]}, "seeds": [1, 2]}
    paths = [tmp_path / "ranks.yaml", tmp_path / "ranks.json"]
    paths[0].write_text(yaml.safe_dump(values), encoding="utf-8")
    paths[1].write_text(json.dumps(values), encoding="utf-8")
    first, second = map(read_spec, paths)
    assert first == second and first.name == "ranks" and first.seeds == (1, 2)
    more = read_spec(paths[0], {"data.n": "4"})
    assert {arm.data.n for arm in compile_spec(more).arms if arm.data} == {4}
    assert to_dict(compile_spec(first).arms[1])["adapter"]["r"] == 4


BAD = {
    "nothing": ("", "must hold keys with values"),
    "a list": ("- 1", "must hold keys with values"),
    "no study": ("grid: {adapter.r: [4]}", "study: is missing"),
    "an unknown study": ("study: smok\ngrid: {r: [4]}", "unknown study 'smok'"),
    "an unknown field": ("study: smoke\ngird: {r: [4]}", "gird"),
    "an unknown key": ("study: smoke\ngrid: {adapter.rank: [4]}", "unknown key"),
    "an unknown arm": ("study: smoke\narm: llama-3k\ngrid: {r: [4]}", "no arm 'llama-3k'"),
    "no values": ("study: smoke", "either by grid or by list"),
    "an empty grid": ("study: smoke\ngrid: {}", "either by grid or by list"),
    "an empty list": ("study: smoke\nlist: []", "either by grid or by list"),
    "both": ("study: smoke\ngrid: {r: [4]}\nlist: [{r: 4}]", "either by grid or by list"),
    "a key without values": ("study: smoke\ngrid: {r: []}", "grid.r=[]: give one value or more"),
    "a value alone": ("study: smoke\ngrid: {r: 4}", "must be a list of values"),
    "a wrong type": ("study: smoke\ngrid: {r: [four]}", "adapter.r=four (arm llama-2k)"),
    "a wrong number": ("study: smoke\ngrid: {r: [0]}", "must be a whole number, 1 to 8,192"),
    "true for a number": ("study: smoke\ngrid: {r: [true]}", "adapter.r=true"),
    "no number": ("study: smoke\ngrid: {train.learning_rate: [.nan]}", "learning_rate=nan"),
    "no end": ("study: smoke\ngrid: {train.learning_rate: [.inf]}", "learning_rate=inf"),
    "minus no end": ("study: smoke\ngrid: {train.learning_rate: [-.inf]}", "learning_rate=-inf"),
    "two alike": ("study: smoke\ngrid: {r: [4, '4']}", "are the same arm"),
    "two alike in a list": ("study: smoke\nlist: [{r: 4}, {adapter.r: 4}]", "are the same arm"),
    "two of a name": ("study: smoke\nlist: [{name: a, r: 4}, {name: a, r: 8}]", "be called"),
    "a name that leads away": ("study: smoke\nlist: [{name: ../a, r: 4}]", "names a folder"),
    "a name that is none": ("study: smoke\nlist: [{name: [a], r: 4}]", "must be text"),
    "a study's name": ("study: smoke\nname: micro\ngrid: {r: [4]}", "is a study's"),
    "a seed of an arm": ("study: smoke\ngrid: {seed: [1, 2]}", "give seeds: [1, 2, 3]"),
    "a limit of an arm": ("study: smoke\ngrid: {limit: [4]}", "under set"),
    "a model of an arm": ("study: smoke\ngrid: {model.name: ['micro:tiny']}", "under set"),
    "seeds of text": (
        "study: smoke\nseeds: [a]\ngrid: {r: [4]}",
        "must be a list of whole numbers",
    ),
    "a seed below 0": ("study: smoke\nseeds: [-1]\ngrid: {r: [4]}", "seeds[0]=-1"),
    "a huge grid": (
        f"study: smoke\ngrid: {{r: {[*range(1, 40)]}, data.n: {[*range(1, 40)]}}}",
        "grid=1,521 arms: at most 1000",
    ),
    "a key twice": ("study: smoke\nstudy: micro\ngrid: {r: [4]}", "study stands there twice"),
    "an alias": ("study: smoke\na: &a [4]\ngrid: {r: *a}", "line 3: write the value out"),
    "no YAML": ("study: [smoke", "line 1"),
    "a tag": ("study: !!python/object:os.system x", "could not determine a constructor"),
    "a date": ("study: smoke\ngrid: {r: [2026-01-01]}", "adapter.r=2026-01-01"),
    "no text": ("study: smoke\narm: 3\ngrid: {r: [4]}", "arm=3"),
}


@pytest.mark.parametrize("text, message", BAD.values(), ids=BAD)
def test_a_bad_spec_is_one_line_and_starts_nothing(tmp_path, capsys, text, message):
    path, runs = tmp_path / "bad.yaml", tmp_path / "runs"
    path.write_text(text, encoding="utf-8")
    assert cli.main(["sweep", str(path), "--runs", str(runs)]) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1 and said.out == ""
    assert not runs.exists()


BAD_JSON = {
    "cut": ('{"study": "smoke"', "delimiter"),
    "twice": ('{"study": "smoke", "study": "micro"}', "study stands there twice"),
    "no number": ('{"study": "smoke", "grid": {"merge.scale": [NaN]}}', "merge.scale=nan"),
    "deep": ("[" * 100_000, "bad.json"),
}


@pytest.mark.parametrize("text, message", BAD_JSON.values(), ids=BAD_JSON)
def test_bad_json_is_one_line(tmp_path, capsys, text, message):
    path = tmp_path / "bad.json"
    path.write_text(text, encoding="utf-8")
    assert cli.main(["sweep", str(path), "--runs", str(tmp_path / "runs")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_file_that_is_not_there_or_too_large_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no.yaml does not exist"):
        read_spec(tmp_path / "no.yaml")
    path = tmp_path / "large.yaml"
    path.write_text("#" * 2**20 + "##", encoding="utf-8")
    with pytest.raises(ValueError, match="more than 1,048,576 bytes"):
        read_spec(path)
    assert MOST == 1000


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_whatever_a_file_holds_is_refused_in_one_line_or_compiled(tmp_path_factory, found):
    path = tmp_path_factory.mktemp("specs") / "any.json"
    path.write_text(json.dumps({"study": "smoke", "grid": found}), encoding="utf-8")
    try:
        compile_spec(read_spec(path))
    except ValueError as error:
        assert "\n" not in str(error)
