"""Whether a measurement carries a verdict: broken, not comparable, nothing to lose."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from slimlib.comparison.change import FORGOT, IMPROVED, KEPT, UNKNOWN
from slimlib.comparison.two_models import compare
from slimlib.comparison.validity import BROKEN, INCOMPARABLE, NOTHING
from slimlib.results import Results, Samples, Score, TaskResults

N = 200


def results(scores, name="model", source="", **more):
    """One task of per-document scores, with what a check looks at."""
    scores = np.asarray(scores, dtype=float)
    n = len(scores)
    samples = {
        "doc_ids": tuple(range(n)),
        "doc_hashes": tuple(f"d{i}" for i in range(n)),
        "prompt_hashes": tuple(f"p{i}" for i in range(n)),
        "scores": {"acc": scores},
        "answer_hashes": tuple(f"{name}{i}" for i in range(n)),
    }
    samples |= {key: more.pop(key) for key in [*more] if key in samples or key == "clusters"}
    settings = more.pop("settings", {})
    task = TaskResults(
        "own_task",
        {"acc,none": Score(float(scores.mean()), None)},
        {"none": Samples(**samples)},
        num_fewshot=0,
        n=n,
        **({"output_type": "multiple_choice"} | more),
    )
    return Results(source or name, name, {"own_task": task}, settings)


def one(base, tuned, **how):
    (change,) = compare(base, tuned, **how).changes
    return change


RIGHT = np.r_[np.ones(150), np.zeros(50)]
FEWER = np.r_[np.ones(80), np.zeros(120)]


def test_a_fall_that_nothing_stands_against_is_a_loss():
    change = one(results(RIGHT, "a"), results(FEWER, "b"))
    assert (change.verdict, change.reason, change.lost) == (FORGOT, "", 70)


@pytest.mark.parametrize("side", ["base", "tuned"])
def test_a_score_that_is_no_number_is_a_broken_measurement(side):
    whole = {"base": results(RIGHT, "a"), "tuned": results(FEWER, "b")}
    task = whole[side].tasks["own_task"]
    sample = replace(task.samples["none"], scores={})
    why = "3 of 200 scores are not numbers (first: doc_id 4)"
    task = replace(task, samples={"none": sample}, broken={"acc,none": why})
    whole[side] = replace(whole[side], tasks={"own_task": task})
    comparison = compare(**whole)
    (change,) = comparison.changes
    assert change.verdict == BROKEN and change.reason == f"{side}: {why}"
    assert comparison.sentences() == (
        f"own_task, acc: measurement broken: {side}: {why}. No verdict on the model."
    )
    assert comparison.answer() == "Measurement broken: own_task."
    told = comparison.to_dict()["tasks"][0]
    assert told["verdict"] == BROKEN and told["difference"]["value"] is None


def test_identical_answers_say_that_the_adapter_may_not_be_there():
    change = one(results(RIGHT, "a"), results(RIGHT, "b", answer_hashes=_answers("a")))
    assert change.verdict == BROKEN and "all 200 answers are the same" in change.reason
    assert "the adapter was not applied" in change.reason


def _answers(name):
    return tuple(f"{name}{i}" for i in range(N))


def test_one_other_answer_or_one_unknown_is_no_identity():
    for last in ("other", None):
        answers = (*_answers("a")[:-1], last)
        change = one(results(RIGHT, "a"), results(RIGHT, "b", answer_hashes=answers))
        assert change.verdict != BROKEN


def test_one_file_against_itself_is_said(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("{}")
    change = one(results(RIGHT, "a", str(path)), results(FEWER, "b", str(path)))
    assert change.verdict == BROKEN and f"both sides are one file, {path}" in change.reason


def test_two_files_are_two_and_one_by_two_names_is_one(tmp_path):
    first, second, link = (tmp_path / name for name in ("a.json", "b.json", "link.json"))
    first.write_text("{}")
    second.write_text("{}")
    link.symlink_to(first)
    for other, verdict in ((second, FORGOT), (tmp_path / "gone", FORGOT), (link, BROKEN)):
        change = one(results(RIGHT, "a", str(first)), results(FEWER, "b", str(other)))
        assert change.verdict == verdict
    assert change.reason == f"both sides are one file, {first}"
    gone = str(tmp_path / "gone")  # results at hand may have one name and no file
    assert one(results(RIGHT, "a", gone), results(FEWER, "b", gone)).verdict == FORGOT


def test_identical_answers_are_found_in_any_order():
    back = np.arange(N)[::-1]
    turned = results(
        RIGHT[back],
        "b",
        doc_ids=tuple(back.tolist()),
        doc_hashes=tuple(f"d{i}" for i in back),
        prompt_hashes=tuple(f"p{i}" for i in back),
        answer_hashes=tuple(f"a{i}" for i in back),
    )
    assert one(results(RIGHT, "a"), turned).verdict == BROKEN
    assert one(turned, results(RIGHT, "a")).verdict == BROKEN


def test_answers_that_one_side_did_not_keep_are_not_identical():
    sides = results(RIGHT, "a"), results(RIGHT, "b", answer_hashes=())
    assert one(*sides).verdict == one(*sides[::-1]).verdict != BROKEN


def test_a_setting_that_one_side_does_not_tell_is_no_difference():
    told = results(RIGHT, "a", settings={"chat_template": "x"}, prompt_hashes=(None,) * N)
    silent = results(FEWER, "b", prompt_hashes=(None,) * N)
    assert one(told, silent).verdict == FORGOT
    swapped = results(RIGHT, "a", prompt_hashes=(None,) * N)
    other = results(FEWER, "b", settings={"chat_template": "x"}, prompt_hashes=(None,) * N)
    assert one(swapped, other).verdict == FORGOT


def test_one_side_that_may_have_generated_is_asked_how():
    kinds = ("multiple_choice", None)
    for first, second in (kinds, kinds[::-1]):
        base = results(RIGHT, "a", output_type=first, settings={"gen_kwargs": None})
        tuned = results(FEWER, "b", output_type=second, settings={"gen_kwargs": "temperature=1"})
        change = one(base, tuned)
        assert change.verdict == INCOMPARABLE
        assert change.reason == (
            "answers were generated otherwise: gen_kwargs None against temperature=1"
        )


def test_other_prompts_are_not_comparable():
    prompts = (*(f"chat {i}" for i in range(60)), *(f"p{i}" for i in range(60, N)))
    change = one(results(RIGHT, "a"), results(FEWER, "b", prompt_hashes=prompts))
    assert change.verdict == INCOMPARABLE
    assert change.reason == "the prompts differ in 60 of 200 documents"


def test_where_no_prompt_is_known_the_templates_tell():
    bare = {"prompt_hashes": (None,) * N}
    templates = [{"chat_template": None}, {"chat_template": "{{ messages }}"}]
    sides = [results(RIGHT, "a", settings=templates[0], **bare)]
    sides += [results(FEWER, "b", settings=templates[1], **bare)]
    assert one(*sides).verdict == INCOMPARABLE and one(*sides).reason == "chat_template differ"
    alike = results(FEWER, "b", settings=templates[0], **bare)
    assert one(sides[0], alike).verdict == FORGOT


@pytest.mark.parametrize(
    "other", [{"do_sample": True, "until": ["\n"]}, {"until": ["\n"], "max_gen_toks": 9}]
)
def test_answers_generated_otherwise_are_not_comparable(other):
    kind = {"output_type": "generate_until"}
    base = results(RIGHT, "a", generation={"until": ["\n"]}, **kind)
    change = one(base, results(FEWER, "b", generation=other, **kind))
    assert change.verdict == INCOMPARABLE and "answers were generated otherwise" in change.reason
    assert one(base, results(FEWER, "b", generation={"until": ["\n"]}, **kind)).verdict == FORGOT
    unknown = results(FEWER, "b", **kind)  # the file does not say
    assert one(base, unknown).verdict == FORGOT


def test_generation_settings_of_the_whole_run_count_too():
    kind = {"output_type": "generate_until"}
    sides = [
        results(scores, name, settings={"gen_kwargs": given}, **kind)
        for scores, name, given in ((RIGHT, "a", None), (FEWER, "b", "temperature=1"))
    ]
    assert one(*sides).verdict == INCOMPARABLE
    chosen = [
        replace(side, tasks={"own_task": replace(side.tasks["own_task"], output_type=None)})
        for side in sides
    ]
    assert one(*chosen).verdict == INCOMPARABLE  # it may be a generated task
    chosen = [
        replace(s, tasks={"own_task": replace(s.tasks["own_task"], output_type="multiple_choice")})
        for s in sides
    ]
    assert one(*chosen).verdict == FORGOT  # nothing was generated


@pytest.mark.parametrize(("same", "verdict"), [(99, INCOMPARABLE), (100, FORGOT)])
def test_half_of_the_documents_must_be_the_same(same, verdict):
    hashes = (*(f"d{i}" for i in range(same)), *(f"x{i}" for i in range(same, N)))
    base, tuned = np.ones(N), np.zeros(N)
    change = one(results(base, "a"), results(tuned, "b", doc_hashes=hashes))
    assert change.verdict == verdict
    if verdict == INCOMPARABLE:
        assert change.reason == "only 99 of 200 documents are the same on both sides"


def test_half_is_of_the_smaller_side_s_documents():
    comparison = compare(results(RIGHT, "a"), results(np.zeros(60), "b"), strict=False)
    assert comparison.changes[0].verdict == FORGOT
    strangers = {key: tuple(f"x{i}" for i in range(N)) for key in ("doc_ids", "doc_hashes")}
    change = one(results(RIGHT, "a"), results(FEWER, "b", **strangers), strict=False)
    assert change.reason == "only 0 of 200 documents are the same on both sides"


def test_a_part_of_the_documents_is_compared_with_a_caveat_in_the_sentence():
    """All 100 of the smaller side are matched, so it is a pairing; it was another limit."""
    comparison = compare(results(RIGHT, "a"), results(FEWER[:100], "b"), strict=False)
    (change,) = comparison.changes
    assert change.verdict not in (BROKEN, INCOMPARABLE) and change.n == 100
    assert "Not asked alike: limit none (200 documents) against none (100 documents)." in (
        comparison.sentences()
    )


# ------------------------------------------------------------------------------- nothing to lose


def test_a_base_at_the_floor_has_nothing_to_lose():
    change = one(results(np.zeros(N), "a"), results(np.zeros(N), "b"))
    assert change.verdict == NOTHING  # Wilson's upper limit for 0 of 200: 1.9 % < 0 + 2
    change = one(results(np.zeros(50), "a"), results(np.zeros(50), "b"))
    assert change.verdict == UNKNOWN  # 7.1 %: as few as 50 leave room


def test_a_base_at_chance_has_nothing_to_lose():
    n = 4000
    base = np.arange(n) % 4 == 0  # 25 %, upper limit 26.4 < 25 + 2
    tuned = np.arange(n) % 5 == 0  # 20 %: significantly less
    change = one(results(base, "a", chance=0.25), results(tuned, "b", chance=0.25))
    assert change.p_holm < 0.05 and change.verdict == NOTHING
    assert "guessing gives 25.00 %" in change.reason
    without = one(results(base, "a"), results(tuned, "b"))
    assert without.verdict == FORGOT


def test_a_binary_task_that_falls_from_one_half_to_37_is_no_loss():
    base, tuned = np.arange(N) % 2, np.r_[np.zeros(126), np.ones(74)]
    change = one(results(base, "a", chance=0.5), results(tuned, "b", chance=0.5))
    assert change.p_holm < 0.05 and change.verdict == UNKNOWN
    assert change.reason.startswith("base is not told from chance (at most 56.8")


def test_a_fall_to_chance_from_clearly_above_it_is_a_loss():
    tuned = np.r_[np.ones(50), np.zeros(150)]
    change = one(results(RIGHT, "a", chance=0.25), results(tuned, "b", chance=0.25))
    assert change.verdict == FORGOT


def test_a_gain_that_ends_at_chance_is_no_gain():
    base, tuned = np.r_[np.ones(20), np.zeros(180)], np.r_[np.ones(60), np.zeros(140)]
    change = one(results(base, "a", chance=0.25), results(tuned, "b", chance=0.25))
    assert change.p_holm < 0.05 and change.verdict == UNKNOWN
    assert change.reason.startswith("the tuned model is not told from chance")
    assert one(results(base, "a"), results(tuned, "b")).verdict == IMPROVED


def test_what_is_gated_stays_in_the_family_s_count():
    """Of two tasks one is broken: the other's p is doubled all the same."""
    base, tuned = results(RIGHT, "a"), results(FEWER, "b")
    sides = []
    for side in (base, tuned):
        task = side.tasks["own_task"]
        gone = replace(
            task,
            task="boolq",
            samples={"none": replace(task.samples["none"], scores={})},
            broken={"acc,none": "no number"},
        )
        sides.append(replace(side, tasks={"own_task": task, "boolq": gone}))
    kept, broken = compare(*sides).changes
    assert broken.verdict == BROKEN and broken.p_holm is None
    assert kept.p_holm == pytest.approx(2 * kept.p_value) and kept.tests == 2


def test_a_sixth_look_gives_no_verdict_and_each_look_costs_a_fifth():
    sides = results(RIGHT, "a"), results(FEWER, "b")
    assert one(*sides, look=5).verdict == FORGOT
    late = one(*sides, look=6)
    assert late.verdict == UNKNOWN and "more than 5 looks" in late.reason
    assert compare(*sides, look=1).alpha == pytest.approx(0.01)
    near = np.r_[np.ones(137), np.zeros(63)]  # 13 lost of 150: p = 0.0002; 8: p = 0.0078
    assert one(results(RIGHT, "a"), results(near, "b"), look=1).verdict == FORGOT
    nearer = np.r_[np.ones(143), np.zeros(57)]  # 7 lost: p = 0.016, below 5 % and not below 1 %
    assert one(results(RIGHT, "a"), results(nearer, "b")).verdict == FORGOT
    assert one(results(RIGHT, "a"), results(nearer, "b"), look=1).verdict == UNKNOWN


def test_kept_needs_a_base_that_is_told_from_chance():
    n = 3000
    base = np.r_[np.ones(790), np.zeros(n - 790)]  # 26.3 %: lower limit 24.8, upper 27.9
    change = one(results(base, "a", chance=0.25), results(base, "b", chance=0.25))
    assert change.p_equivalence_holm < 0.05 and change.verdict == UNKNOWN
    assert one(results(base, "a"), results(base, "b")).verdict == KEPT


# ------------------------------------------------------------------------------------- clusters


def test_documents_of_one_passage_are_one_cluster():
    """Four questions a passage that fall together: of 50 passages 10 are lost, not 40 documents."""
    base, tuned = np.ones(200), np.repeat(np.r_[np.zeros(10), np.ones(40)], 4)
    passages = tuple(f"passage {i // 4}" for i in range(200))
    sides = [
        results(scores, name, clusters=passages, cluster="idx.paragraph")
        for scores, name in ((base, "a"), (tuned, "b"))
    ]
    comparison = compare(*sides)
    (change,) = comparison.changes
    apart = one(results(base, "a"), results(tuned, "b"))
    assert (
        change.test == "t over clusters"
        and change.lost is None
        and change.cluster == "idx.paragraph"
    )
    assert (change.n, change.difference.value) == (200, pytest.approx(-20))
    # the t-test on the 50 passages' own means, since they are of one size
    t = stats.ttest_1samp(tuned.reshape(50, 4).mean(axis=1) - 1, 0)
    assert change.p_value == pytest.approx(t.pvalue) and change.p_value > 100 * apart.p_value
    assert change.forgetting.value == pytest.approx(20) and change.forgetting.high < 100
    assert "t over clusters (idx.paragraph) p = 0.001" in comparison.sentences()


def test_one_file_is_known_by_where_it_leads(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    scores = np.arange(N) % 2

    def verdict(*sources):
        sides = (
            results(np.roll(scores, i), name, source=str(tmp_path / source))
            for i, (name, source) in enumerate(zip("xy", sources, strict=True))
        )
        return compare(*sides).changes[0].verdict

    assert verdict("a", "a") == verdict("a", "link") == verdict("link", "a") == BROKEN
    assert verdict("a", "b") != BROKEN and verdict("missing", "missing") != BROKEN
    assert verdict("missing", "a") != BROKEN and verdict("a", "missing") != BROKEN
