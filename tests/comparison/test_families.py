"""Which metrics of which tasks are measured, of which documents, and in which family."""

from dataclasses import replace

import numpy as np
import pytest

from slimlib import metrics
from slimlib.comparison.change import HEADLINE, OTHER, SUBTASK
from slimlib.comparison.families import measure_all
from slimlib.metrics import Spread
from slimlib.results import Results, Samples, Score, TaskResults
from slimlib.results.align import align_samples

RNG = np.random.default_rng(2)


def task(name, columns, ids=None, by_seed=None, clusters=(), **more):
    """One task with the scores of its documents, "metric,filter" -> (documents,)."""
    kinds = {metric.partition(",")[2] for metric in columns}
    n = len(next(iter(columns.values())))
    ids = range(n) if ids is None else ids
    samples = {}
    for kind in kinds:
        own = {m.partition(",")[0]: s for m, s in columns.items() if m.partition(",")[2] == kind}
        samples[kind] = Samples(
            doc_ids=tuple(ids),
            doc_hashes=tuple(f"d{i}" for i in ids),
            prompt_hashes=tuple(f"p{i}" for i in ids),
            scores={m: np.asarray(s, dtype=float) for m, s in own.items()},
            clusters=clusters,
            by_seed=by_seed or {},
        )
    scores = {m: Score(float(np.mean(s)), None) for m, s in columns.items()}
    return TaskResults(name, scores, samples, n=n, **more)


def aggregate(name, value, n=1000, stderr=None, metric="acc,none", **more):
    return TaskResults(name, {metric: Score(value, stderr)}, {}, n=n, **more)


def measured(base, tuned, margin=2.0, alpha=0.05, **how):
    sides = [Results(s, s, {t.task: t for t in ts}, {}) for s, ts in (("a", base), ("b", tuned))]
    return measure_all(align_samples(*sides, strict=False), margin, alpha, **how)


def test_tasks_of_one_side_are_not_measured():
    base = [aggregate(name, 0.5) for name in ("ours", "both")]
    tuned = [aggregate(name, 0.4) for name in ("both", "theirs")]
    (change,), shown = measured(base, tuned)
    assert (change.task, change.base, change.tuned, shown) == ("both", 50.0, 40.0, [])


def test_the_headline_is_the_first_of_a_task_s_changes():
    scores = {"acc,none": [1, 0, 1, 0], "acc_norm,none": [1, 1, 1, 0], "f1,none": [0.5, 1, 1, 0]}
    changes, _ = measured([task("t", scores)], [task("t", scores)])
    found = [(c.metric, c.family) for c in changes]
    assert found == [("acc_norm,none", HEADLINE), ("acc,none", OTHER), ("f1,none", OTHER)]


def test_margin_and_level_reach_the_measurement():
    scores = RNG.integers(0, 2, (2, 60))
    sides = ([task("t", {"acc,none": s})] for s in scores)
    (change,), _ = measured(*sides, margin=7.0, alpha=0.2)
    assert change.difference == metrics.paired_difference(*scores, 0.8)
    assert change.p_equivalence == metrics.equivalence_test(*scores, 7.0)


@pytest.mark.parametrize("clusters", [False, True])
def test_documents_are_paired_wherever_they_stand(clusters):
    """The tuned model's documents come in another order, and two of each side have no partner."""
    base, tuned = np.array([1, 1, 1, 0, 1, 0, 1, 1]), np.array([0, 1, 0, 0, 1, 1, 0, 0])
    label = np.array(list("aaabbcde"))
    ours, theirs = np.array([7, 0, 1, 2, 3, 4, 5]), np.array([6, 5, 4, 3, 2, 1, 0])
    sides = [
        task(
            "t",
            {"acc,none": scores[ids]},
            ids=ids.tolist(),
            clusters=tuple(label[ids]) if clusters else (),
            cluster=field,
        )
        for scores, ids, field in ((base, ours, "passage"), (tuned, theirs, "other"))
    ]
    (change,), _ = measured([sides[0]], [sides[1]])
    assert change.n == 6
    if clusters:
        values = [metrics.clustered(s[:6][None], label[:6]) for s in (base, tuned)]
        assert change.cluster == "passage"
        assert change.forgetting == metrics.forgetting_over_seeds(*values)
    else:
        assert (change.lost, change.gained, change.cluster) == (2, 1, "")


def test_labels_that_all_differ_are_no_clusters():
    sides = [
        [task("t", {"acc,none": s}, clusters=tuple("abcd"), cluster="passage")]
        for s in ([1, 1, 1, 0], [0, 0, 1, 0])
    ]
    (change,), _ = measured(*sides)
    assert (change.test, change.cluster) == ("exact McNemar", "")


def seeded(name, runs):
    runs = np.asarray(runs, dtype=float)
    return task(name, {"acc,none": runs.mean(axis=0)}, by_seed={"acc": runs})


def test_runs_that_are_all_the_same_count_once():
    one, same = [1, 1, 1, 0], [[1, 1, 0, 0]] * 3
    (change,), _ = measured([seeded("t", [one])], [seeded("t", same)])
    assert (change.seeds, change.test) == ((1, 1), "exact McNemar")
    (change,), _ = measured([seeded("t", [one])], [seeded("t", [*same, [0, 0, 0, 0]])])
    assert change.seeds == (1, 4)


def test_the_variance_between_seeds_is_pooled_only_when_asked():
    """Seed means of t 25, 50, 75 (variance 625 / 3) and of u all 50: pooled, half of it each."""
    base = [seeded(name, [[1, 1, 1, 1]]) for name in "tu"]
    base.append(aggregate("alone", 0.5))
    t = [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]]
    u = [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    tuned = [seeded("t", t), seeded("u", u), aggregate("alone", 0.4)]
    own, _ = measured(base, tuned)
    pooled, _ = measured(base, tuned, pool_seeds=True)
    for changes, parts in ((own, (625 / 3, 2, 0.0, 2)), (pooled, (625 / 6, 4, 625 / 6, 4))):
        for change, runs, variance, df in zip(
            changes, (t, u), parts[::2], parts[1::2], strict=False
        ):
            documents = 100 * (np.mean(runs, axis=0) - 1)
            spreads = [Spread(np.var(documents, ddof=1) / 4, 3), Spread(variance, df)]
            assert change.p_value == pytest.approx(metrics.cochran_cox_p(documents.mean(), spreads))
    assert own[2] == pooled[2]
    single = [task("t", {"acc,none": [1, 1, 0, 0]})], [task("t", {"acc,none": [1, 0, 0, 0]})]
    assert measured(*single, pool_seeds=True) == measured(*single)


def test_what_is_shown_but_not_judged_says_why():
    assert measured([aggregate("t", 0.5)], [aggregate("t", 0.5, metric="em,none")]) == (
        [],
        ["t: no metric in common"],
    )
    (_, shown) = measured(*[[aggregate("t", v, metric="precision,none")] for v in (0.5, 1.25)])
    assert shown == ["t: precision,none 0.50 -> 1.25, not judged: 1.25 is outside 0 to 1"]
    (changes, shown) = measured(*[[aggregate("t", v, metric="precision,none")] for v in (0.0, 1.0)])
    assert (len(changes), shown) == (1, [])
    for outside in ([-0.5, 1.0, 1.0], [1.5, 0.0, 0.0]):
        (changes, shown) = measured(*[[task("t", {"precision,none": outside})]] * 2)
        assert changes == [] and shown[0].endswith(f"{outside[0]:g} is outside 0 to 1")


@pytest.mark.parametrize("better", [{}, {"acc": True}])
def test_a_share_that_should_fall_is_not_judged(better):
    sides = [aggregate("t", 0.5, higher_is_better=b) for b in (better, {"acc": False})]
    for base, tuned in (sides, sides[::-1]):
        changes, shown = measured([base], [tuned])
        assert changes == [] and shown[0].endswith(
            "it is no share of right answers but a rate without direction"
        )
    assert len(measured([sides[0]], [sides[0]])[0]) == 1


def test_an_error_wider_than_a_share_s_tells_a_score_from_a_share():
    """Of 101 documents at one half a share's error is 5 points at most; half of it is left."""
    for stderr, judged in ((0.074, 1), (0.076, 0)):
        sides = [[aggregate("t", 0.5, 101, e, "precision,none")] for e in (0.05, stderr)]
        assert len(measured(*sides)[0]) == judged
        assert len(measured(*sides[::-1])[0]) == judged
    for stderr, judged in ((0.0449, 1), (0.045, 1), (0.0451, 0)):  # of a tenth: 1.5 x 3 points
        sides = [[aggregate("t", 0.1, 101, e, "precision,none")] for e in (0.01, stderr)]
        assert len(measured(*sides)[0]) == judged
    wide = aggregate("t", 0.5, 101, 0.2, "precision,none")
    for known in (replace(wide, n=None), replace(wide, n=1), replace(wide, subtasks=("a", "b"))):
        assert len(measured([known], [known])[0]) == 1
    assert len(measured(*[[aggregate("t", 0.5, 2, 0.8, "precision,none")]] * 2)[0]) == 0
    assert len(measured(*[[aggregate("t", 0.5, 101, 0.2)]] * 2)[0]) == 1  # right or wrong


def test_a_broken_metric_is_measured_as_nothing_on_either_side():
    for metric in ("acc,none", "never_heard_of,none"):
        good = aggregate("t", 0.5, metric=metric)
        bad = replace(good, scores={}, broken={metric: "no number"})
        for sides in (([good], [bad]), ([bad], [good])):
            (change,), shown = measured(*sides)
            assert (change.test, shown) == ("none: no number", [])
            assert "no number" in change.reason


def test_a_group_stands_before_its_parts_and_inner_groups_before_theirs():
    inner = [aggregate("inner", 0.5, subtasks=("x", "y"))]
    whole = [aggregate("whole", 0.5, subtasks=("x", "y", "z"))]
    leaves = [aggregate(name, 0.5) for name in ("y", "z", "x")]
    sides = [aggregate("first", 0.5), *leaves, *inner, *whole, aggregate("last", 0.5)]
    changes, _ = measured(sides, sides)
    assert [c.task for c in changes] == ["first", "whole", "inner", "y", "z", "x", "last"]
    families = {c.task: c.family for c in changes}
    assert families == dict.fromkeys(("first", "whole", "last"), HEADLINE) | dict.fromkeys(
        ("inner", "x", "y", "z"), SUBTASK
    )
    one_side = [replace(t, subtasks=()) for t in sides]
    for base, tuned in ((sides, one_side), (one_side, sides)):
        assert [c.task for c in measured(base, tuned)[0]] == [c.task for c in changes]


def test_what_was_not_asked_alike_stands_beside_the_change():
    sides = [[aggregate("t", 0.5, num_fewshot=shots)] for shots in (0, 5)]
    assert [c.caveat for c in measured(*sides)[0]] == ["n-shot 0 against 5"]
