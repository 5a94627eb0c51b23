"""Tokens and what of them is learned; the report on rows; what TRL's trainer makes of them."""

from dataclasses import replace

import pytest
from chat_templates import FAMILIES, byte_tokenizer, tokenizer_of

from slimlib.config import DataConfig
from slimlib.data.encoding import IGNORED
from slimlib.data.layouts import as_row
from slimlib.data.tokens import describe_rows, prepare_rows, split_tokenized, tokenize_rows

ROW = {"instruction": "Add.", "input": "2 and 3", "output": "5"}
ALPACA = DataConfig(template="alpaca", append_eos=True, learn="answer")
AUTO = replace(ALPACA, template="auto")


def plain():
    return byte_tokenizer(None, "</s>", "<s>")


def chat():
    return tokenizer_of(FAMILIES["chatml"])


# ---------------------------------------------------------------------------------------- learned


@pytest.mark.parametrize("config", [ALPACA, AUTO, replace(ALPACA, template="as-run")])
def test_of_a_prompt_and_an_answer_the_answer_and_the_end_are_learned(config):
    tokenizer = plain()
    dataset, report = tokenize_rows([ROW], config, tokenizer, 4096)
    (ids,), (labels,) = dataset["input_ids"], dataset["labels"]
    assert labels == [IGNORED] * (len(ids) - 2) + ids[-2:]
    assert tokenizer.decode(ids[-2:]) == "5</s>" and ids[0] == tokenizer.bos_token_id
    assert (report.learned_tokens, report.without_end) == (2, 0)
    assert report.first.endswith("[[5</s>]]") and report.first.count("[[") == 1


def test_the_ids_are_the_same_whatever_is_learned():
    for tokenizer in (plain(), chat()):
        everything, _ = tokenize_rows([ROW], replace(AUTO, learn="all"), tokenizer, 4096)
        answers, _ = tokenize_rows([ROW], AUTO, tokenizer, 4096)
        assert everything["input_ids"] == answers["input_ids"]
        assert everything.column_names == ["input_ids"]  # TRL makes the labels, as it always did


def test_without_an_end_the_answer_alone_is_learned():
    tokenizer = plain()
    (tokens,), report = prepare_rows([ROW], replace(ALPACA, append_eos=False), tokenizer, 4096)
    assert sum(tokens.learned) == 1 and not tokens.ended and report.without_end == 1


def test_all_of_a_text_is_learned():
    (tokens,), report = prepare_rows([{"text": "all of it"}], AUTO, plain(), 4096)
    assert tokens.learned == [False] + [True] * 10 and report.without_end == 0
    assert report.first == "<s>[[all of it</s>]]"


def test_a_tokenizer_that_appends_its_end_gives_one():
    from tokenizers.processors import TemplateProcessing

    tokenizer = tokenizer_of(FAMILIES["mistral"])
    numbers = [(t, tokenizer.convert_tokens_to_ids(t)) for t in ("<s>", "</s>")]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=numbers
    )
    (tokens,), _ = prepare_rows([ROW], AUTO, tokenizer, 4096)
    assert [tokens.ids.count(number) for _, number in numbers] == [1, 1]


def test_a_slow_tokenizer_learns_all_or_is_refused():
    tokenizer = plain()

    class Slow:
        is_fast, name_or_path = False, "me/slow"
        __getattr__ = staticmethod(lambda name: getattr(tokenizer, name))

    with pytest.raises(ValueError, match="learn=answer needs a fast tokenizer, and me/slow has"):
        describe_rows([ROW], AUTO, Slow(), 4096)


# ----------------------------------------------------------------------------------------- report

QUESTION = {"role": "user", "content": "q"}


def rows_with_faults():
    given = [
        {"question": "2 + 2?", "answer": 4, "source": "me"},
        {"question": "?", "answer": " \n"},
        {"messages": [QUESTION]},
        {"question": "x" * 300, "answer": "far away"},
        {"question": "q", "answer": "y" * 300},
        {"question": "?", "answer": ""},
    ]
    return [as_row(row, "mine.jsonl", number) for number, row in enumerate(given, 1)]


def test_what_cannot_be_learned_is_left_out_counted_and_said():
    rows = rows_with_faults()
    dataset, report = tokenize_rows(rows, AUTO, chat(), 100)
    assert (report.where, report.read, report.kept) == ("mine.jsonl", 6, 2)
    assert report.dropped == {
        "empty answer": (2, 6),
        "no turn of the assistant": (3,),
        "prompt fills the window": (4,),
    }
    assert report.truncated == (5,) and report.without_end == 1
    assert report.unused_columns == ("source",)
    assert len(dataset) == 2 and report.tokens == sum(map(len, dataset["input_ids"]))
    learned = sum(label != IGNORED for labels in dataset["labels"] for label in labels)
    assert report.learned_tokens == learned
    assert report == describe_rows(rows, AUTO, chat(), 100)
    assert report.counts() == {
        "rows": 2,
        "tokens": report.tokens,
        "truncated_rows": 1,
        "learned_tokens": learned,
        "dropped_rows": 4,
        "rows_without_end": 1,
    }


def test_the_report_is_a_document():
    document = describe_rows(rows_with_faults(), AUTO, chat(), 100).document()
    text = document.to_text(100)
    assert "2 of 6 rows are trained on" in text
    assert "Left out, empty answer: 2 rows (2, 6)." in text
    assert "Columns that are not used: source." in text
    assert "[[4<|im_end|>]]" in text
    assert "1 of 2 answers have no end that is learned" in text
    assert "<li>" in document.to_html() and document.to_markdown().startswith("### Rows of")


def test_rows_as_they_come_are_described_too():
    report = describe_rows([{"prompt": "q", "completion": 7, "id": 1}], AUTO, chat(), 100)
    assert (report.where, report.unused_columns, report.numbers) == ("the list", ("id",), (1,))
    assert report.first.endswith("assistant\n[[7<|im_end|>]]")


def test_a_long_first_row_and_long_lists_of_numbers_are_shortened():
    rows = [{"question": "q", "answer": "a"}] + [{"question": "q", "answer": ""}] * 9
    rows = [as_row(row, "r.csv", number) for number, row in enumerate(rows, 1)]
    rows[0]["instruction"] = "line\n" * 100
    report = describe_rows(rows, AUTO, chat(), 4096)
    assert "9 rows (2, 3, 4, 5, 6, ...)" in report.to_text(100)
    assert len(report.to_text(100).splitlines()) < 50 and "[[a<|im_end|>]]" in report.to_text(100)


def test_nothing_to_learn_is_refused_with_the_reasons():
    rows = rows_with_faults()[1:4]
    with pytest.raises(ValueError, match=r"mine.jsonl has nothing to learn \(empty answer: 1 row"):
        describe_rows(rows, AUTO, chat(), 100)
    with pytest.raises(ValueError, match="nothing to learn .no rows"):
        describe_rows([], AUTO, chat(), 100)


def test_the_rows_that_are_held_out_are_some_that_can_be_learned_from():
    """The last row says nothing: held out, it would be found out after the training."""
    rows = [*[{"question": f"{n}?", "answer": n} for n in range(4)], {"question": "?"}]
    rows[-1]["answer"] = ""
    for seed in range(9):
        config = replace(AUTO, held_out=0.2)
        trained, held, report = split_tokenized(rows, config, chat(), 100, seed)
        assert (len(trained), len(held)) == (report.kept, report.held_out) == (3, 1)
        assert (report.read, report.counts()["dropped_rows"]) == (5, 1)
        assert len(report.numbers) == 3 and held["labels"][0] not in trained["labels"]
    assert "3 of 5 rows are trained on, 1 held out" in report.to_text(100)


def test_the_first_row_is_shown_as_it_is_though_its_tokenizer_would_tidy_it(monkeypatch):
    """SmolLM2's asks for spaces before full stops to go, of which transformers warns."""
    asked, tokenizer = [], chat()
    decode = tokenizer.decode
    monkeypatch.setattr(
        tokenizer, "decode", lambda ids, **how: asked.append(how) or decode(ids, **how)
    )
    report = describe_rows([{"question": "a .", "answer": "b ."}], AUTO, tokenizer, 100)
    assert "a ." in report.first and "[[b ." in report.first
    assert {"clean_up_tokenization_spaces": False} in asked


def test_a_row_that_is_also_trained_on_is_not_held_out():
    rows = [{"question": f"{n % 3}?", "answer": n % 3} for n in range(6)]
    rows += [{"question": "3?", "answer": 3}, {"question": "4?", "answer": 4}]
    for seed in range(9):
        config = replace(AUTO, held_out=0.4)
        trained, held, report = split_tokenized(rows, config, chat(), 100, seed)
        assert len(held) == 2 and not [
            ids for ids in held["input_ids"] if ids in trained["input_ids"]
        ]
    assert report.repeated == (1, 2, 3, 4, 5, 6)
    assert "There more than once: 6 rows (1, 2, 3, 4, 5, ...); none of" in report.to_text(100)


def test_the_author_s_run_keeps_every_row_with_an_answer_column():
    """Alpaca has 14 rows with an empty output, and the author trained on them."""
    rows = [ROW, {**ROW, "output": ""}, {**ROW, "instruction": "x" * 300}]
    dataset, report = tokenize_rows(rows, DataConfig(), plain(), 200)
    assert (len(dataset), report.kept, report.dropped) == (3, 3, {})
    assert report.without_end == 3 and report.truncated == (3,)


@pytest.mark.parametrize(
    "rows", [[{"messages": [QUESTION]}], [{"text": ""}]], ids=["no answer", "no text"]
)
def test_a_row_of_nothing_is_left_out_whatever_is_learned(rows):
    tokenizer = byte_tokenizer(FAMILIES["chatml"].template, "</s>")
    config = DataConfig(template="auto")
    _, report = tokenize_rows([*rows, ROW], config, tokenizer, 200)
    assert report.kept == 1 and [*report.dropped.values()] == [(1,)]


# ---------------------------------------------------------------------------------- the real thing


@pytest.fixture
def trainer_of(checkpoint, tmp_path):
    """A trainer of two steps over rows on the random checkpoint, nothing of it replaced."""
    from slimlib.adapters.layers import attach
    from slimlib.config import ModelConfig
    from slimlib.model.load import load_model
    from slimlib.studies.get import get_study
    from slimlib.train.finetune import make_trainer

    def make(rows, config):
        arm = get_study("smoke", model=str(checkpoint), arms="llama-2k")["llama-2k"]
        train = replace(
            arm.train,
            per_device_train_batch_size=4,
            num_train_epochs=2,
            logging_steps=1,
            learning_rate=1e-9,  # so that the losses are those of the model as it was
            lr_scheduler_type="constant",
        )
        arm = replace(arm, train=train, model=ModelConfig(str(checkpoint), load_in_4bit=False))
        model, tokenizer = load_model(arm.model)
        dataset, _ = tokenize_rows(rows, config, tokenizer, 512)
        model = attach(model, arm.adapter, 0, 512)
        return make_trainer(model, tokenizer, dataset, arm, tmp_path), dataset

    return make


@pytest.mark.parametrize("learn", ["answer", "all"])
def test_the_loss_of_a_real_training_counts_the_learned_tokens_and_no_other(trainer_of, learn):
    import torch

    rows = [{**ROW, "output": "word " * n, "input": "ab" * n} for n in (1, 5, 9, 2)]
    trainer, dataset = trainer_of(rows, replace(ALPACA, learn=learn))
    model = trainer.model.eval()
    total = count = 0
    with torch.no_grad():
        for row in dataset:
            ids = torch.tensor([row["input_ids"]])
            labels = torch.tensor(row.get("labels", row["input_ids"]))[1:]
            losses = torch.nn.functional.cross_entropy(
                model(ids).logits[0, :-1].float(), labels, ignore_index=IGNORED, reduction="sum"
            )
            total, count = total + losses.item(), count + int((labels != IGNORED).sum())
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses == pytest.approx([total / count] * 2, rel=1e-3)


PAIRS = [("Say yes.", "Yes."), ("Say no.", "No."), ("Name a pet.", "A cat."), ("2 + 2?", "4")]
PAIRS += [("What colour is the sky?", "Blue."), ("Who are you?", "A model."), ("Food?", "Rice.")]


def turn(role, text):
    return {"role": role, "content": text}


LAYOUTS = {
    "instruction": lambda q, a: {"instruction": q, "input": "", "output": a},
    "completion": lambda q, a: {"prompt": q, "completion": a},
    "messages": lambda q, a: {"messages": [turn("user", q), turn("assistant", a)]},
    "several turns": lambda q, a: {
        "system": "Be short.",
        "conversations": [
            *({"from": "human", "value": q}, {"from": "gpt", "value": a}),
            *({"from": "human", "value": f"Again: {q}"}, {"from": "gpt", "value": a}),
        ],
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_model_trained_on_short_answers_ends_all_of_them(layout, tmp_path):
    """300 rows of each layout on the embedded base model, which has no chat template."""
    import json

    from peft import PeftModel

    from slimlib.data.layouts import as_row
    from slimlib.data.prompts import render_row
    from slimlib.model.load import load_model
    from slimlib.run import Run
    from slimlib.studies.get import get_study
    from slimlib.train.finetune import finetune_arm

    path = tmp_path / "rows.jsonl"
    rows = [LAYOUTS[layout](*PAIRS[n % 7]) for n in range(300)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"path": str(path), "n": "none", "template": "auto", "learn": "answer"}
    settings = {f"data.{name}": value for name, value in settings.items()}
    study = get_study("smoke", arms="llama-2k", **settings, **{"data.append_eos": True})
    run = Run(study, tmp_path)
    assert finetune_arm(run, "llama-2k")["rows"] == 300

    model, tokenizer = load_model(study["llama-2k"].model)
    model = PeftModel.from_pretrained(model, str(run.adapter_folder("llama-2k"))).eval()
    for number, (question, answer) in enumerate(PAIRS):
        rendered = render_row(as_row(rows[number], "rows", number), AUTO, tokenizer)
        asked = rendered.text[: rendered.spans[-1][0]]
        ids = tokenizer(asked, return_tensors="pt")
        made = model.generate(**ids, max_new_tokens=40, do_sample=False)[0]
        assert made[-1] == tokenizer.eos_token_id, (question, answer, tokenizer.decode(made))
