"""An attribution as it is shown: each number, arm and cause in its place."""

from dataclasses import replace

import pytest
from made_records import MICRO
from test_sentences import CHANGE

from slimlib.comparison.attribution import OTHER_STEPS, SHARES, Attribution, Step
from slimlib.comparison.change import FORGOT, IMPROVED, UNKNOWN
from slimlib.metrics import Estimate

LABEL = "arithmetic (as GSM8K)"
LOST = replace(CHANGE, p_holm=0.02)  # 40 -> 10
GAINED = replace(
    CHANGE,
    base=10.0,
    tuned=15.0,
    difference=Estimate(5.0, 1.0, 9.0),
    p_holm=0.04,
    verdict=IMPROVED,
)
WHOLE = replace(CHANGE, tuned=15.0, difference=Estimate(-25.0, -31.0, -19.0), p_holm=0.03)
STILL = replace(CHANGE, difference=Estimate(0.5, -1.0, 2.0), p_holm=0.5, verdict=UNKNOWN)
STEPS = (
    Step("llama-instruct", "llama-base", "another checkpoint", STILL, None),
    Step("llama-base", "llama-2k", "fine-tuning", LOST, 120.4),
    Step("llama-2k", "llama-2k-requantised", "merging into 4 bit", GAINED, None),
)


class Answered:
    """In place of a comparison: one change per role."""

    def __init__(self, **changes):
        self.of = changes.get

    def to_dict(self):
        return {"compared": True}


def made(steps=STEPS, missing=("llama-base-nf4",), answers=None, **more):
    answers = ((MICRO.comparisons[0], Answered(gsm8k=GAINED)),) if answers is None else answers
    return Attribution(
        **{
            "study": MICRO,
            "steps": {"gsm8k": steps} if steps else {},
            "totals": {"gsm8k": WHOLE} if steps else {},
            "answers": answers,
            "missing": missing,
        }
        | more
    )


WORDS = {
    "whole": f"{LABEL}: 40.0 -> 15.0 %, -25.0 points [-31.0, -19.0], forgot",
    "still": "another checkpoint (llama-instruct -> llama-base): +0.5 points [-1.0, +2.0], "
    "Holm p = 0.500, may be chance",
    "lost": "fine-tuning (llama-base -> llama-2k): -30.0 points [-37.0, -23.0], Holm p = 0.020, "
    "lost, 120 % of the whole",
    "gained": "merging into 4 bit (llama-2k -> llama-2k-requantised): +5.0 points [+1.0, +9.0], "
    "Holm p = 0.040, gained",
    "asked": "Does more data on a weaker base beat less on a stronger one? (llama-2k -> "
    "tinyllama-50k)",
    "answered": f"{LABEL}: 10.0 -> 15.0 %, +5.0 points [+1.0, +9.0], Holm p = 0.040: improved",
}


def test_in_words():
    assert made().sentences().splitlines() == [
        WORDS["whole"],
        f"  {WORDS['still']}",
        f"  {WORDS['lost']}",
        f"  {WORDS['gained']}",
        "without results: llama-base-nf4",
        WORDS["asked"],
        f"  {WORDS['answered']}",
    ]
    assert made((), (), ()).sentences() == ""


def test_a_step_as_cells():
    assert STEPS[1].row() == {
        "step": "llama-base -> llama-2k",
        "cause": "fine-tuning",
        "before": "40.0",
        "after": "10.0",
        "change": "-30.0",
        "95 % interval": "[-37.0, -23.0]",
        "p (Holm)": "0.020",
        "share": "120 %",
        "verdict": FORGOT,
    }
    second = STEPS[2].row("a name")
    assert (second["step"], second["share"]) == ("a name", "-")


def test_the_table_of_numbers():
    _, first, second, whole = made().table().to_dict("records")
    names = ("role", "before", "after", "cause")
    assert [first[n] for n in names] == ["gsm8k", "llama-base", "llama-2k", "fine-tuning"]
    assert [second[n] for n in names[1:]] == [
        *("llama-2k", "llama-2k-requantised", "merging into 4 bit")
    ]
    assert [whole[n] for n in names] == [
        *("gsm8k", "llama-instruct", "llama-2k-requantised", "all steps")
    ]
    assert first["share"] == 120.4 and second["share"] != second["share"] != whole["share"]
    assert [row["difference"] for row in (first, second, whole)] == [-30.0, 5.0, -25.0]
    assert len(made(()).table()) == 0


def test_the_document():
    document = made().document()
    assert document.title == f"Which step? {MICRO.title}"
    assert document.points == [WORDS["whole"], (WORDS["asked"], [WORDS["answered"]])]
    assert document.notes == ["without results: llama-base-nf4", MICRO.note, SHARES]
    assert document.table.index.tolist() == [
        (LABEL, "llama-instruct -> llama-base"),
        (LABEL, "llama-base -> llama-2k"),
        (LABEL, "llama-2k -> llama-2k-requantised"),
        (LABEL, "all steps together"),
    ]
    assert document.table["change"].tolist() == ["+0.5", "-30.0", "+5.0", "-25.0"]
    assert document.table["share"].tolist() == ["-", "120 %", "-", "-"]
    assert document.table["cause"].tolist() == [
        *("another checkpoint", "fine-tuning", "merging into 4 bit", "")
    ]
    bare = made((), (), study=replace(MICRO, note="")).document()
    assert bare.table is None and bare.notes == [SHARES]


def test_a_question_is_answered_for_the_benchmarks_that_it_has():
    several = made(answers=((MICRO.comparisons[1], Answered(mmlu_cs=LOST, gsm8k=GAINED)),))
    ((_, said),) = several._questions()
    assert [line.partition(":")[0] for line in said] == [LABEL, "facts (as MMLU-CS)"]


def test_as_json():
    still, first, second = ({"before": s.before, "after": s.after, "cause": s.cause} for s in STEPS)
    assert made().to_dict() == {
        "study": "micro",
        "missing": ["llama-base-nf4"],
        "ladder": {
            "gsm8k": {
                "steps": [
                    still | {"share": None, "change": STILL.to_dict()},
                    first | {"share": 120.4, "change": LOST.to_dict()},
                    second | {"share": None, "change": GAINED.to_dict()},
                ],
                "total": WHOLE.to_dict(),
            }
        },
        "questions": [MICRO.comparisons[0]._asdict() | {"comparison": {"compared": True}}],
    }


def test_in_short():
    assert repr(made()) == f"<Attribution of micro; {LABEL}: forgot>"
    assert repr(made(())) == "<Attribution of micro; no results>"


# ---- the waterfall ----


def rungs(*pairs, role="gsm8k"):
    """(label, accuracy, change, missing) of each row for steps between these arms."""
    steps = [Step(*pair, "", change, None) for *pair, change in pairs]
    return [(r.label, r.accuracy, r.change, r.missing) for r in made(steps)._rungs(role)]


def test_the_rows_of_a_whole_ladder():
    still = replace(CHANGE, base=40.0, difference=Estimate(1.5, 0.0, 3.0), verdict=UNKNOWN)
    found = rungs(
        ("llama-instruct", "llama-base", replace(still, base=50.0)),
        ("llama-base", "llama-base-nf4", still),
        ("llama-base-nf4", "llama-2k", LOST),
        ("llama-2k", "llama-2k-requantised", GAINED),
    )
    assert found == [
        ("micro instruct", 50.0, None, None),
        ("\u2192 another checkpoint", None, replace(still, base=50.0), None),
        ("\u2192 quantisation to NF4", None, still, None),
        ("\u2192 fine-tuning", None, LOST, None),
        ("\u2192 merging into 4 bit", None, GAINED, None),
        ("= result", 50 + 1.5 + 1.5 - 30 + 5, None, None),
    ]


def test_a_missing_row_s_change_falls_to_the_next_step_if_there_is_one():
    inside = rungs(("llama-base", "llama-2k", LOST), ("llama-2k", "llama-2k-requantised", GAINED))
    assert [row[3] for row in inside] == ["", None, " (in the next step)", None, None, None]
    assert inside[1] == ("\u2192 another checkpoint", 40.0, None, None)
    assert inside[5] == ("= result", 15.0, None, None)
    at_the_end = rungs(("llama-instruct", "llama-base", LOST))
    assert [row[3] for row in at_the_end] == [None, None, "", "", "", None]
    assert at_the_end[5] == ("= result", None, None, None)
    but_one = rungs(("llama-base", "llama-base-nf4", LOST), ("llama-base-nf4", "llama-2k", GAINED))
    assert [row[3] for row in but_one[4:]] == ["", None] and but_one[5][1] is None
    nothing = rungs(role="hellaswag")
    assert [row[3] for row in nothing] == [""] * 5 + [None] and nothing[5][1] is None


def test_an_arm_without_a_cause_is_called_by_its_name():
    study = replace(MICRO, causes={})
    assert made(study=study)._rungs("gsm8k")[1].label == "\u2192 llama-base"


def test_the_picture_is_of_the_benchmark_asked_for():
    from matplotlib import pyplot as plt
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    assert made().plot("arith", ax) is ax
    title = f"{LABEL}: flexible, n = 200"
    assert ax.get_title("left") == title
    assert made().plot(ax=Figure().subplots()).get_title("left") == title
    own = made().plot("facts")
    plt.close(own.figure)
    assert own.figure.get_suptitle().endswith(MICRO.title)
    assert own.get_title("left").startswith("facts (as MMLU-CS): acc")


def test_a_benchmark_is_found_by_role_task_label_or_a_beginning():
    found = made(totals={"gsm8k": replace(WHOLE, task="own_task")})
    for name in ("gsm8k", "own_task", LABEL, "ARITH"):
        assert found._role(name) == "gsm8k"
    assert found._role("facts") == "mmlu_cs"
    alike = made(study=replace(MICRO, task_labels={"gsm8k": "sums, easy", "mmlu_cs": "sums, hard"}))
    assert alike._role("sums, h") == "mmlu_cs"
    known = r"it has: gsm8k .sums, easy., mmlu_cs .sums, hard.$"
    for name in ("sums", "none such"):
        with pytest.raises(ValueError, match=f"study micro has no benchmark '{name}'; {known}"):
            alike._role(name)


def test_the_message_names_what_is_shown():
    shown = f"Lost by fine-tuning: {LABEL}. Gained by merging into 4 bit: {LABEL}. {OTHER_STEPS}"
    assert made().message() == made().message("gsm8k") == shown
    nothing = "No step is shown to change anything."
    assert made().message("mmlu_cs") == made(STEPS[:1]).message() == made(()).message() == nothing


def test_the_picture_says_how_many_documents_its_first_step_has():
    from matplotlib.figure import Figure

    first, second = (
        replace(s, change=replace(s.change, n=n)) for s, n in zip(STEPS, (150, None), strict=False)
    )
    ax = made((first, second)).plot("gsm8k", Figure().subplots())
    assert ax.get_title("left") == f"{LABEL}: flexible, n = 150"
