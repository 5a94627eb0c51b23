"""The audit of the papers' arithmetic, against numbers computed by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from slimlib.papers.slimming import audit, published
from slimlib.papers.slimming.findings import (
    AGREES,
    DIFFERS,
    MEANINGS,
    NOT_ESTABLISHED,
    ROUNDED,
    UNCHECKABLE,
)
from slimlib.papers.slimming.pairings import most_changed_answers, paired_p_values
from slimlib.papers.slimming.recomputed import DK, FR, fitting_n, right_answers


@pytest.fixture(scope="module")
def report():
    return audit()


@pytest.fixture(scope="module")
def find(report):
    """The one finding whose claim has all the given words."""

    def find(*words):
        found = [f for f in report.findings if all(word in f.claim for word in words)]
        assert len(found) == 1, [f.claim for f in found]
        return found[0]

    return find


# ------------------------------------------------------------------------------ standard errors, n


@pytest.mark.parametrize(
    ("title", "errors", "half_widths"),
    [
        ("GSM8K, flexible", "1.30 / 0.52 / 0.45", "2.55 / 1.02 / 0.89"),
        ("GSM8K, strict", "1.30 / 0.48 / 0.40", "2.55 / 0.94 / 0.79"),
        ("HellaSwag, acc:", "0.50 / 0.50 / 0.50", "0.97 / 0.97 / 0.97"),
        ("HellaSwag, acc_norm", "0.49 / 0.49 / 0.49", "0.96 / 0.95 / 0.96"),
        ("MMLU-CS, acc", "5.02 / 4.76 / 4.46", "9.83 / 9.33 / 8.75"),
    ],
)
def test_plus_minus_is_a_standard_error_and_no_interval(find, title, errors, half_widths):
    error = find(title, "'+-'", "one standard error")
    assert (error.printed, error.recomputed, error.verdict) == (errors, errors, AGREES)
    interval = find(title, "'+-'", "95 % confidence interval")
    assert (interval.printed, interval.recomputed) == (errors, half_widths)
    assert interval.verdict == DIFFERS


def test_a_wrong_plus_minus_is_found(monkeypatch):
    """A row that always agreed would check nothing."""
    table = {c: dict(cells) for c, cells in published.TABLE2.items()}
    table["tinyllama-50k"][FR] = published.Score(2.81, 0.44)
    monkeypatch.setattr(published, "TABLE2", table)
    found = [f for f in audit().findings if f.claim.startswith("GSM8K, flexible: '+-' is one")]
    assert [f.verdict for f in found] == [DIFFERS]


@pytest.mark.parametrize(
    ("role", "outside", "inside"),
    [("gsm8k", (1_317, 1_330), (1_319,)), ("hellaswag", (9_800, 10_100), (10_000, 10_042))],
)
def test_the_fitting_n(role, outside, inside):
    low, high = fitting_n(role)
    assert all(low <= n <= high for n in inside)
    assert not any(low <= n <= high for n in outside)


def test_the_fitting_n_of_mmlu_is_one_number():
    assert fitting_n("mmlu_cs") == (100, 100)


def test_hellaswag_s_n_differs_and_the_table_cannot_tell(find):
    found = find("HellaSwag", "number of documents")
    assert (found.printed, found.recomputed, found.verdict) == ("10,000", "10,042", DIFFERS)
    assert "rounding hides the difference" in found.why and "result files" in found.why
    assert find("GSM8K", "number of documents").verdict == AGREES


# -------------------------------------------------------------------------------------- the losses


def test_forgetting_rate(find):
    found = find("GSM8K: forgetting rate FR")
    assert found.printed == "88.92 %"
    assert "88.93 %" in found.recomputed and "88.91 %" in found.recomputed
    assert found.verdict == ROUNDED
    assert "442 and 49 of 1,319" in found.why


def test_forgetting_rate_s_interval_is_fieller_s(find):
    """Solved by hand: the r for which (y - r x)^2 = z^2 (SE_y^2 + r^2 SE_x^2)."""
    x, y = 442 / 1319, 49 / 1319
    xx, yy = (1.959963985**2 * p * (1 - p) / 1318 for p in (x, y))
    roots = np.roots([x * x - xx, -2 * x * y, y * y - yy])
    low, high = sorted(100 * (1 - roots))
    assert f"{low:.2f} to {high:.2f} (Fieller" in find("GSM8K: forgetting rate FR").why
    assert f"lower limit {low:.2f} %" in find("catastrophic").recomputed
    assert find("catastrophic").verdict == AGREES


def test_relative_losses(find):
    gsm8k, mmlu = find("GSM8K: relative loss"), find("MMLU-CS: relative loss")
    assert (gsm8k.printed, gsm8k.recomputed, gsm8k.verdict) == ("89 %", "88.9 %", AGREES)
    assert (mmlu.printed, mmlu.recomputed, mmlu.verdict) == ("28 %", "27.7 %", AGREES)
    assert "-1.4 to 50.1" in mmlu.why  # contains 0


def test_ability_augmentation(find):
    found = find("HellaSwag: dA shows")
    assert (found.recomputed, found.verdict) == ("z = 0.62, p = 0.532", NOT_ESTABLISHED)
    kept = find("commonsense reasoning is kept")
    error = 100 * math.sqrt((0.6077 * 0.3923 + 0.6120 * 0.3880) / 10_041)
    p = stats.norm.sf((2.0 - 0.43) / error)
    assert f"p = {p:.3f}" in kept.recomputed and kept.verdict == AGREES
    assert "the paper names none" in kept.why and "unpaired" in kept.why


def test_ability_augmentation_s_value(report):
    found = next(f for f in report.findings if f.claim == "HellaSwag: dA")
    assert (found.printed, found.recomputed) == ("+0.43", "+0.43, standard error 0.69")
    assert found.verdict == AGREES and "-0.92 to +1.78" in found.why


def test_knowledge_loss(report, find):
    value = next(f for f in report.findings if f.claim == "MMLU-CS: dK")
    assert (value.recomputed, value.verdict) == ("13.00", AGREES)
    error = find("MMLU-CS: '+-' of dK is one standard error")
    assert (error.printed, error.recomputed) == ("+- 6.93", "+- 6.92")
    assert error.verdict == ROUNDED
    assert "6.911 to 6.925" in error.why  # hypot(5.015, 4.755), hypot(5.025, 4.765)
    defined = find("MMLU-CS: '+-' of dK is the 95 % interval")
    assert (defined.recomputed, defined.verdict) == ("+- 13.55", DIFFERS)
    assert "-0.55 to 26.55" in defined.why and "contains 0" in defined.why


# --------------------------------------------------------------------------------------- the stars


def test_the_stars_cannot_be_checked(find):
    for name in ("FR", "dK"):
        found = find("paired t-test behind the star", name)
        assert found.verdict == UNCHECKABLE and "No per-document file is public" in found.why


def test_fr_is_significant_however_the_answers_pair(find):
    found = find("FR is significant at 5 %")
    assert found.verdict == AGREES
    assert found.recomputed == "z = 21.28, p < 1e-99 unpaired"
    assert paired_p_values(FR)[1] < 1e-70


def test_dk_is_not_significant_unpaired(find):
    found = find("dK is significant at 5 %")
    assert found.verdict == NOT_ESTABLISHED
    assert found.recomputed == "z = 1.88, p = 0.060 unpaired"
    assert "at most 37 of the 100" in found.why and "about 49" in found.why


def test_most_changed_answers_by_the_binomial():
    """lost - gained = 13, so the number of changed answers is odd: 37 is significant, 39 is not."""
    p = {total: stats.binomtest((total + 13) // 2, total).pvalue for total in range(13, 82, 2)}
    assert p[37] < 0.05 <= p[39] and min(p[t] for t in p if t > 37) >= 0.05
    assert most_changed_answers(DK) == 37


def test_paired_p_values_by_scipy():
    """Best case 13 lost and none gained, worst case 47 lost and 34 gained."""
    best = [1.0] * 13 + [0.0] * 87
    worst = [1.0] * 47 + [-1.0] * 34 + [0.0] * 19
    expected = [stats.ttest_1samp(change, 0).pvalue for change in (best, worst)]
    assert paired_p_values(DK) == pytest.approx(tuple(expected), rel=1e-9)


def test_right_answers():
    assert [right_answers(v, 1_319) for v in (33.51, 3.71, 3.11)] == [442, 49, 41]
    assert [right_answers(v, 10_042) for v in (45.23, 60.77, 45.61, 61.20)] == [
        4_542,
        6_103,
        4_580,
        6_146,
    ]
    assert right_answers(0.0, 100) == 0 and right_answers(100.0, 100) == 100


# ---------------------------------------------------------------------------------- other columns


def test_strict_and_flexible_fall_alike(find):
    found = find("strict and flexible")
    assert found.printed == "33.51 / 33.51 -> 3.71 / 3.11"
    assert found.recomputed == "gap 0.00 -> 0.60 points"
    assert "0 -> 8 answers" in found.why and "2.0 % of the 401" in found.why  # 8 / 401
    # the net hides what strict matching alone has right, so only 49 / 401 bounds the marker's part
    assert "no more than 12.2 %, since 49 answers" in found.why
    assert found.verdict == AGREES


def test_tinyllama_against_base_llama(find):
    verdicts = {
        "GSM8K, flexible": AGREES,
        "GSM8K, strict": AGREES,
        "HellaSwag, acc:": NOT_ESTABLISHED,
        "HellaSwag, acc_norm": NOT_ESTABLISHED,  # raw p = 0.029, two p-values left: 0.058
        "MMLU-CS": AGREES,
    }
    for title, verdict in verdicts.items():
        assert find(title, "TinyLlama 1.1B differs from Base").verdict == verdict
    assert "p = 0.058" in find("HellaSwag, acc_norm", "differs from Base").recomputed
    assert "-20.00 (-33.16 to -6.84)" in find("MMLU-CS", "differs from Base").recomputed


def test_tinyllama_against_fine_tuned_llama(find):
    """Only acc_norm differs: 5 x 2 sf(1.94 / 0.689) = 0.025."""
    error = 100 * math.sqrt((0.6120 * 0.3880 + 0.5926 * 0.4074) / 10_041)
    p = 5 * 2 * stats.norm.sf(1.94 / error)
    for title in ("GSM8K, flexible", "GSM8K, strict", "HellaSwag, acc:", "MMLU-CS"):
        assert find(title, "differs from Fine-tuned").verdict == NOT_ESTABLISHED
    found = find("HellaSwag, acc_norm", "differs from Fine-tuned")
    assert f"p = {p:.3f}" in found.recomputed and found.verdict == AGREES


def test_lora_s_example(find):
    found = find("LoRA with r = 10")
    assert found.recomputed == "20,000 of 1,000,000" and found.verdict == AGREES


# ------------------------------------------------------------------------- the four interpretations


def test_each_interpretation_has_a_verdict(report):
    found = [f for f in report.findings if f.claim.startswith("Interpretation")]
    assert [f.claim.split(":")[0] for f in found] == [f"Interpretation {i}" for i in (1, 2, 3, 4)]
    verdicts = [NOT_ESTABLISHED, UNCHECKABLE, NOT_ESTABLISHED, NOT_ESTABLISHED]
    assert [f.verdict for f in found] == verdicts


def test_interpretation_1_names_another_checkpoint_and_the_merge(find):
    found = find("Interpretation 1")
    assert found.recomputed == "FR 88.91 % (85.68 to 92.02)"
    assert "85.68 to 92.02 (Fieller" in find("GSM8K: forgetting rate FR").why
    assert "Llama-3.2-1B-Instruct" in found.why and "4 bit" in found.why


def test_interpretation_3_does_not_stand_on_a_loss_that_may_be_chance(find):
    assert find("Interpretation 3").recomputed == "13.00 points (-0.55 to 26.55), p = 0.060"


def test_interpretation_4_is_seven_points_of_a_hundred_questions(find):
    error = math.sqrt(34 * 66 / 99 + 27 * 73 / 99)  # of the difference, in points
    p = 2 * stats.norm.sf(7 / error)
    half = 1.959964 * error
    assert find("Interpretation 4").recomputed == (
        f"7.00 points ({7 - half:.2f} to {7 + half:.2f}), p = {p:.3f}"
    )


# ----------------------------------------------------------------------------------------- paper B


@pytest.mark.parametrize(
    ("claim", "printed", "recomputed"),
    [
        ("LLaMA-7B: MLP rank / 2", "33.42 %", "29.02 %; of the frozen weights 33.42 %"),
        ("LLaMA-7B: MLP rank / 4", "50.13 %", "43.52 %; of the frozen weights 50.13 %"),
        ("LLaMA-13B: MLP rank / 2", "33.47 %", "29.06 %; of the frozen weights 33.47 %"),
        ("LLaMA-13B: MLP rank / 4", "50.20 %", "43.59 %; of the frozen weights 50.21 %"),
    ],
)
def test_paper_b_s_savings(find, claim, printed, recomputed):
    found = find(claim)
    assert (found.paper, found.printed, found.recomputed) == ("B", printed, recomputed)
    assert found.verdict == DIFFERS
    assert "frozen weights" in found.why and "QA-HiRA" in found.why


def test_savings_on_the_models_of_this_project(find):
    assert "34.88 % (Llama-3.2-1B), 32.14 % (TinyLlama-1.1B)" in find("LLaMA-7B", "rank / 2").why
    assert "52.33 % (Llama-3.2-1B), 48.21 % (TinyLlama-1.1B)" in find("LLaMA-13B", "rank / 4").why


# ------------------------------------------------------------------------------------- as a whole


def test_every_verdict_occurs_and_none_is_unknown(report):
    assert {finding.verdict for finding in report.findings} == set(MEANINGS)


def test_every_finding_is_complete_and_named_once(report):
    assert all(all(finding) for finding in report.findings)
    claims = [finding.claim for finding in report.findings]
    assert len(set(claims)) == len(claims)


def test_without_files_the_checkpoints_are_not_checked(find):
    found = find("Checkpoint of 'Base Llama 3.2 1B'")
    assert found.verdict == UNCHECKABLE and "github.com/michaelearncoding" in found.why
    assert "No result file" in find("Scores of 'TinyLlama 1.1B'").why


@pytest.mark.parametrize("columns", [80, 100])
def test_the_report_keeps_to_the_terminal(report, columns):
    text = report.to_text(columns)
    assert max(map(len, text.splitlines())) <= columns
    assert "nan" not in text and "inf " not in text


def test_the_numbers_are_computed_not_typed(monkeypatch):
    """With another published score every number that follows from it is another."""
    table = {column: dict(cells) for column, cells in published.TABLE2.items()}
    table["llama-2k"][DK] = published.Score(30.00, 4.61)
    monkeypatch.setattr(published, "TABLE2", table)
    found = {finding.claim: finding for finding in audit().findings}
    assert found["MMLU-CS: dK"].recomputed == "17.00"
    assert found["MMLU-CS: dK"].verdict == DIFFERS
    significant = found["MMLU-CS: dK is significant at 5 %"]
    assert significant.recomputed == "z = 2.50, p = 0.013 unpaired"
    assert significant.verdict == AGREES
