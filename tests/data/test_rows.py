"""Rows and tokens: layouts, prompts, subsets, mixtures; where the begin and end tokens are."""

import gzip
import json
from collections import Counter
from dataclasses import replace

import pytest

from slimlib.config import DataConfig
from slimlib.data import prompts, rows
from slimlib.data.prompts import encode, format_prompt, format_row, set_pad_token
from slimlib.data.rows import choose, mix_datasets

ROW = {"instruction": "Add.", "input": "2 and 3", "output": "5"}
NO_INPUT = {"instruction": "Name a colour.", "input": "", "output": "Red."}
AUTHOR = DataConfig()  # as run: the author's prompt, no end token
STANFORD = DataConfig(template="alpaca", append_eos=True)


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def make_tokenizer(bos=None, eos=None, unk=None, pad=None, extra=(), add_bos=True):
    """A byte-level tokenizer with the special tokens of one family."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    special = list(dict.fromkeys(t for t in (bos, eos, unk, pad, *extra) if t))
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*special, *letters])}
    core = Tokenizer(models.BPE(vocabulary, [], unk_token=unk))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    if bos and add_bos:
        core.post_processor = TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, vocabulary[bos])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=bos, eos_token=eos, unk_token=unk, pad_token=pad
    )


def llama3():
    spare = ("<|finetune_right_pad_id|>",)
    return make_tokenizer("<|begin_of_text|>", "<|end_of_text|>", extra=spare)


def llama2():
    return make_tokenizer("<s>", "</s>", unk="<unk>")


def gpt2():
    end = "<|endoftext|>"
    return make_tokenizer(end, end, unk=end, add_bos=False)


# ---------------------------------------------------------------------------------------- prompts


def test_stanford_s_prompt_with_an_input():
    assert format_prompt(ROW, "alpaca") == (
        "Below is an instruction that describes a task, paired with an input that provides further "
        "context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd.\n\n### Input:\n2 and 3\n\n### Response:\n"
    )


def test_stanford_s_prompt_without_an_input():
    assert format_prompt(NO_INPUT, "alpaca") == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nName a colour.\n\n### Response:\n"
    )


def test_the_author_s_prompt_byte_for_byte():
    assert format_row(ROW, "as-run", None).encode() == (
        b"<|system|>\nYou are a helpful, accurate and truthful AI assistant.\n<|user|>\n"
        b"Instruction: Add.\nInput: 2 and 3\nOutput:\n<|assistant|>\n5"
    )


def test_the_author_s_prompt_keeps_an_empty_input_line():
    assert "\nInput: \nOutput:\n" in format_prompt(NO_INPUT, "as-run")


def test_braces_in_a_row_are_text():
    row = {"instruction": "{input} {0} {", "input": "{output}", "output": "}"}
    assert "{input} {0} {" in format_prompt(row, "alpaca")
    assert "\n{output}\n" in format_prompt(row, "alpaca")


MESSAGES = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello."}]


def test_messages_without_a_chat_template_are_one_question_and_answer():
    text = format_row({"messages": MESSAGES}, "alpaca", llama2())
    assert text.endswith("### Instruction:\nHi?\n\n### Response:\nHello.")


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "Be kind."}, *MESSAGES],
        [*MESSAGES, *MESSAGES],
        MESSAGES[::-1],
        MESSAGES[:1],
    ],
)
def test_other_messages_need_a_chat_template(messages):
    with pytest.raises(ValueError, match="need a tokenizer with a chat template"):
        format_row({"messages": messages}, "alpaca", llama2())


def test_a_chat_template_that_writes_the_begin_token_gives_one():
    tokenizer = llama2()
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
        "{{ eos_token }}"
    )
    text = format_row({"messages": MESSAGES}, "alpaca", tokenizer)
    ids = encode(text, tokenizer, append_eos=True)
    assert text == "<s>[user]Hi?[assistant]Hello.</s>"
    assert ids.count(tokenizer.bos_token_id) == ids.count(tokenizer.eos_token_id) == 1


# ----------------------------------------------------------------------------------------- tokens


@pytest.mark.parametrize("family", [llama3, llama2])
@pytest.mark.parametrize("row", [ROW, NO_INPUT])
def test_one_begin_token_and_the_end_token_last(family, row):
    tokenizer = family()
    dataset, counts = prompts.tokenize_rows([row], STANFORD, tokenizer, 4096)
    (ids,) = dataset["input_ids"]
    assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id
    assert ids.count(tokenizer.bos_token_id) == ids.count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(ids[1:-1]) == format_row(row, "alpaca", tokenizer)
    assert counts == {"rows": 1, "tokens": len(ids), "truncated_rows": 0}


@pytest.mark.parametrize("family", [llama3, llama2])
def test_the_author_s_run_has_no_end_token(family):
    tokenizer = family()
    dataset, _ = prompts.tokenize_rows([ROW], AUTHOR, tokenizer, 4096)
    (ids,) = dataset["input_ids"]
    assert tokenizer.eos_token_id not in ids
    assert ids.count(tokenizer.bos_token_id) == 1


def test_a_begin_or_end_token_that_is_there_already_is_not_doubled():
    tokenizer = llama2()
    ids = encode("<s><s>text</s></s>", tokenizer, append_eos=True)
    assert (ids.count(tokenizer.bos_token_id), ids.count(tokenizer.eos_token_id)) == (1, 1)
    assert encode("text</s>", tokenizer, append_eos=False) == encode("text", tokenizer, False)


def test_an_end_token_that_is_also_the_begin_token_is_appended_once():
    tokenizer = gpt2()
    ids = encode("text", tokenizer, append_eos=True)
    assert ids.count(tokenizer.eos_token_id) == 1 and ids[-1] == tokenizer.eos_token_id


def test_truncated_rows_are_counted_and_lose_their_tail():
    tokenizer = llama2()
    config = replace(STANFORD, template="as-run")
    whole = encode(format_row(ROW, "as-run", tokenizer), tokenizer, True)
    for limit, cut in ((len(whole), 0), (len(whole) - 1, 1)):
        dataset, counts = prompts.tokenize_rows([ROW], config, tokenizer, limit)
        assert dataset["input_ids"][0] == whole[:limit]
        assert counts == {"rows": 1, "tokens": limit, "truncated_rows": cut}


def test_every_real_token_is_trained_on_and_no_padding():
    """The trainer's collator on rows of two lengths: labels are the ids, the padding is masked."""
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    tokenizer = llama2()
    set_pad_token(tokenizer)
    dataset, _ = prompts.tokenize_rows([ROW, NO_INPUT], STANFORD, tokenizer, 4096)
    collate = DataCollatorForLanguageModeling(pad_token_id=tokenizer.pad_token_id)
    batch = collate(list(dataset))
    for ids, labels, row in zip(
        batch["input_ids"], batch["labels"], dataset["input_ids"], strict=True
    ):
        assert labels[labels != -100].tolist() == row
        assert labels[labels != -100][-1] == tokenizer.eos_token_id
        assert set(ids[labels == -100].tolist()) <= {tokenizer.pad_token_id}


# --------------------------------------------------------------------------------------- padding


@pytest.mark.parametrize(
    ("tokenizer", "pad"),
    [
        (llama3(), "<|finetune_right_pad_id|>"),
        (llama2(), "<unk>"),
        (make_tokenizer("<s>", "</s>", unk="<unk>", pad="</s>"), "<unk>"),  # pad = end, as often
        (make_tokenizer("<s>", "</s>", pad="<mine>"), "<mine>"),  # one that is right is kept
        (make_tokenizer("<s>", "</s>"), "<s>"),
        (make_tokenizer(None, "<|endoftext|>", extra=("<|pad|>",)), "<|pad|>"),
    ],
)
def test_the_pad_token_is_never_the_end_token(tokenizer, pad):
    size = len(tokenizer)
    set_pad_token(tokenizer)
    assert tokenizer.pad_token == pad
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert len(tokenizer) == size  # a new token would need a row in the embeddings


def test_a_tokenizer_with_nothing_to_spare_is_refused():
    with pytest.raises(ValueError, match=r"no pad token .*'<\|endoftext\|>'; add one with"):
        set_pad_token(gpt2())


# ------------------------------------------------------------------------------------------ files


def test_rows_of_each_layout_become_one(tmp_path):
    given = [
        {"instruction": "a", "input": "b", "output": "c", "other": 1},
        {"instruction": "a", "input": None, "output": "c"},
        {"instruction": "a", "output": ""},  # Alpaca has 14 rows with an empty output
        {"question": "q", "answer": "r"},
    ]
    assert rows.read_rows_file(write_rows(tmp_path / "rows.jsonl", given)) == [
        {"instruction": "a", "input": "b", "output": "c"},
        {"instruction": "a", "input": "", "output": "c"},
        {"instruction": "a", "input": "", "output": ""},
        {"instruction": "q", "input": "", "output": "r"},
    ]


def test_packed_files_and_lists_hold_the_same_rows(tmp_path):
    plain = write_rows(tmp_path / "rows.jsonl", [ROW, NO_INPUT])
    packed = tmp_path / "rows.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    listed = tmp_path / "rows.json"
    listed.write_text(json.dumps([ROW, NO_INPUT], indent=1))
    for path in (plain, packed, listed):
        assert rows.read_rows_file(path) == [ROW, NO_INPUT]


def test_a_line_separator_inside_a_text_ends_no_row(tmp_path):
    row = {**ROW, "output": "a\u2028b"}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert rows.read_rows_file(path) == [row]


def test_messages_keep_role_and_content_only(tmp_path):
    given = [{"messages": [{**MESSAGES[0], "name": "x"}, MESSAGES[1]]}]
    assert rows.read_rows_file(write_rows(tmp_path / "m.jsonl", given)) == [{"messages": MESSAGES}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no rows"),
        ("\n\n", "has no rows"),
        ('{"instruction": "a"}\n', "row 1 has no text column 'output'; it has .'instruction'."),
        ('{"output": "a"}\n', "row 1 has no text column 'instruction'"),
        ('{"instruction": "a", "output": null}', "row 1 has no text column 'output'"),
        ('{"question": "a", "answer": 3}', "row 1 has no text column 'output'"),
        ('{"instruction": "a", "output": "b"}\n{"inst', "line 2 is not valid JSON"),
        ('"just text"\n', "row 1 is not an object"),
        ('{"messages": []}', "row 1: messages must be"),
        ('{"messages": null}', "row 1: messages must be"),
        ('{"messages": [{"role": "user"}]}', "row 1: messages must be"),
        ('{"messages": [{"role": "user", "content": 5}]}', "row 1: messages must be"),
    ],
)
def test_bad_rows_name_the_file_and_the_row(tmp_path, text, message):
    path = tmp_path / "mine.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"mine\.jsonl:? {message}"):
        rows.read_rows_file(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.json", b"[{"),
        ("rows.jsonl", b"\xff\xfe\x00"),
        ("rows.jsonl.gz", b"not packed"),
        ("rows.jsonl.gz", gzip.compress(b'{"instruction": "a", "output": "b"}')[:-4]),
    ],
)
def test_broken_files_are_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        rows.read_rows_file(tmp_path / name)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere.jsonl does not exist"):
        rows.load_rows(DataConfig(path=str(tmp_path / "nowhere.jsonl")), 0)
    with pytest.raises(ValueError, match="nowhere.jsonl does not exist"):
        rows.load_rows(DataConfig(dataset=str(tmp_path / "nowhere.jsonl")), 0)
    with pytest.raises(ValueError, match=r"'alpaca': no alpaca/alpaca_head_1807.jsonl or .* in "):
        rows.load_rows(DataConfig(), 0, tmp_path)


def test_an_unknown_data_set_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown data set 'alpaka'; known: alpaca, gsm8k"):
        rows.load_rows(DataConfig(dataset="alpaka"), 0)
    with pytest.raises(ValueError, match="unknown data set 'gsm9k'"):
        rows.check_local_rows(DataConfig(mixture={"alpaca": 0.5, "gsm9k": 0.5}))


def test_a_path_goes_before_the_folder(tmp_path):
    path = write_rows(tmp_path / "mine.jsonl", [ROW])
    assert rows.load_rows(DataConfig(path=str(path), n=1), 0, tmp_path / "other") == [ROW]


@pytest.mark.parametrize(
    ("config", "asked"),
    [
        (DataConfig(n=1), ("tatsu-lab/alpaca", None)),
        (DataConfig(dataset="gsm8k", n=1), ("openai/gsm8k", "main")),
        (DataConfig(dataset="me/rows@abc", n=1), ("me/rows", None)),
    ],
)
def test_the_hub_is_asked_for_the_train_split_by_pinned_revision(monkeypatch, config, asked):
    """Of GSM8K above all: its test split is a benchmark."""
    calls = []

    def load_dataset(*names, revision, split):
        calls.append((names, revision, split))
        return [ROW]

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    assert rows.load_rows(config, 0) == [ROW]
    ((names, revision, split),) = calls
    assert (*names, None)[:2] == asked
    assert split == "train"
    assert revision == "abc" if "@" in config.dataset else len(revision) == 40


# ------------------------------------------------------------------------------ subsets, mixtures


def test_head_is_the_file_s_order():
    assert choose(list("abcd"), 2, "head", 5) == ["a", "b"]
    assert choose(list("abcd"), None, "head", 5) == list("abcd")


def test_random_is_a_seeded_sample_without_repeats():
    rows = list(range(100))
    first = choose(rows, 20, "random", 5)
    assert first == choose(rows, 20, "random", 5) != choose(rows, 20, "random", 6)
    assert len(set(first)) == 20 and first != rows[:20]
    assert sorted(choose(rows, None, "random", 5)) == rows


@pytest.mark.parametrize("subset", ["head", "random"])
def test_more_rows_than_there_are_is_refused(subset):
    with pytest.raises(ValueError, match="data.n=3 rows asked, the data set has 2"):
        choose([1, 2], 3, subset, 0)


@pytest.mark.parametrize(
    ("weights", "n", "counts"),
    [
        ({"a": 0.5, "b": 0.5}, 2000, {"a": 1000, "b": 1000}),
        ({"a": 0.5, "b": 0.5}, 5, {"a": 3, "b": 2}),  # a tie goes to the first named
        ({"a": 2, "b": 1}, 9, {"a": 6, "b": 3}),  # weights need not sum to 1
        ({"a": 1, "b": 1, "c": 1}, 10, {"a": 4, "b": 3, "c": 3}),
        ({"a": 0.7, "b": 0.2, "c": 0.1}, 10, {"a": 7, "b": 2, "c": 1}),
        ({"a": 0.75, "b": 0.25}, 2, {"a": 2, "b": 0}),  # 1.5 and 0.5: again the first named
        ({"a": 0.9, "b": 0.1}, 3, {"a": 3, "b": 0}),  # 2.7 and 0.3
        ({"a": 0.1, "b": 0.9}, 1, {"a": 0, "b": 1}),
    ],
)
def test_a_mixture_s_counts(weights, n, counts):
    parts = {name: [(name, i) for i in range(2000)] for name in weights}
    mixed = mix_datasets(parts, weights, n, seed=1)
    found = Counter(name for name, _ in mixed)
    assert {name: found[name] for name in weights} == counts
    assert len(set(mixed)) == n


def test_a_mixture_is_shuffled_by_its_seed():
    parts = {name: [(name, i) for i in range(50)] for name in "ab"}
    mix = [mix_datasets(parts, {"a": 1, "b": 1}, 40, seed) for seed in (1, 1, 2)]
    assert mix[0] == mix[1] != mix[2]
    names = [name for name, _ in mix[0]]
    assert names != sorted(names)


def test_a_mixture_that_asks_a_part_for_too_much_is_refused():
    with pytest.raises(ValueError, match="data.n=3 rows asked, the data set has 1"):
        mix_datasets({"a": [1], "b": [1, 2, 3]}, {"a": 1, "b": 1}, 6, 0)


def test_the_fingerprint_follows_the_content(tmp_path):
    path = write_rows(tmp_path / "rows.jsonl", [ROW])
    config = DataConfig(path=str(path))
    first = rows.fingerprint(config)
    write_rows(path, [NO_INPUT])
    assert first != rows.fingerprint(config)
    assert rows.fingerprint(DataConfig()) == f"tatsu-lab/alpaca@{rows.DATASETS['alpaca'].revision}"


# -------------------------------------------------------------------------------------- real rows


def test_the_first_real_alpaca_row_is_the_original_s(data_folder):
    loaded = rows.load_rows(DataConfig(n=1807), 0, data_folder)
    assert loaded[0]["instruction"] == "Give three tips for staying healthy."
    assert len(loaded) == 1807
    (last,) = rows.load_rows(DataConfig(n=1, subset="random"), 3, data_folder)
    assert last in loaded


def test_a_larger_number_of_real_rows_takes_the_larger_file(data_folder):
    assert rows.local_file("alpaca", 1808, data_folder).name == "alpaca_author_5k.jsonl.gz"
    with pytest.raises(ValueError, match="data.n=52002 rows asked.*alpaca_head_1807.jsonl: 1807"):
        rows.load_rows(DataConfig(n=52_002), 0, data_folder)


def test_gsm8k_is_its_train_split(data_folder):
    loaded = rows.load_rows(DataConfig(dataset="gsm8k", n=None), 0, data_folder)
    test = (data_folder / "gsm8k" / "test.jsonl").read_text("utf-8").splitlines()
    questions = {json.loads(line)["question"] for line in test}
    assert len(loaded) == 7473 and len(questions) == 1319
    assert not questions & {row["instruction"] for row in loaded}


def test_a_real_mixture(data_folder):
    config = DataConfig(mixture={"alpaca": 0.5, "gsm8k": 0.5}, n=101)
    loaded = rows.load_rows(config, 7, data_folder)
    assert sum("####" in row["output"] for row in loaded) == 50
    assert (
        loaded == rows.load_rows(config, 7, data_folder) != rows.load_rows(config, 8, data_folder)
    )


def test_real_rows_survive_the_embedded_tokenizer(data_folder):
    from slimlib.config import ModelConfig
    from slimlib.model.load import load_tokenizer

    tokenizer = load_tokenizer(ModelConfig("micro:base"))
    loaded = rows.load_rows(DataConfig(n=50), 0, data_folder)
    dataset, counts = prompts.tokenize_rows(loaded, replace(STANFORD, n=50), tokenizer, 4096)
    assert counts["truncated_rows"] == 0
    for row, ids in zip(loaded, dataset["input_ids"], strict=True):
        assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
        assert tokenizer.decode(ids[1:-1]) == format_row(row, "alpaca", tokenizer)
