"""``textclf audit`` on stores and on text: tables, findings, JSON, picture and exit code."""

from __future__ import annotations

import json
import os
import random
import shlex
import sys
from pathlib import Path

import pytest
import torch
from end_to_end.conftest import Checkout, write_corpus

from textclf_transformer.commands import audit, prepare, train_tokenizer
from textclf_transformer.commands.streams import lead_nowhere
from textclf_transformer.data.store import Store


def test_a_folder_of_stores(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--chunk-size", "24", "--max-chunks", "4", "--json", "out.json", "--plot", "lengths.png"]
    code = audit.main(["store", *flags])
    out = capsys.readouterr().out
    for word in ("garden", "kitchen", "max_chunks 4", "reads 95% of the tokens", "findings", "tokens a word"):
        assert word in out
    result = json.loads(Path("out.json").read_text(encoding="utf-8"))
    assert [split["name"] for split in result["splits"]] == ["train", "val", "test"]
    assert sum(split["documents"] for split in result["splits"]) == 90
    assert result["unit"] == "tokens" and result["chunking"]["stride"] == 22
    levels = {finding["level"] for finding in result["findings"]}
    assert "good" in levels and code == (3 if "fail" in levels else 0)
    assert Path("lengths.png").read_bytes().startswith(b"\x89PNG")


def test_shares_that_need_as_many_chunks_take_one_line(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    audit.main(["store", "--chunk-size", "4000"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("max_chunks")]
    assert line == "max_chunks 1 reads 99% of the tokens, 1 reads 99% of the documents to the end"


def test_text_in_words_and_in_tokens(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    write_corpus(checkout.root / "more.jsonl", documents=300, seed=5)
    write_corpus(checkout.root / "test.jsonl", documents=50, seed=6)
    inputs = ["--train", "more.jsonl", "--test", "test.jsonl", "--quiet"]
    audit.main(inputs)
    printed = capsys.readouterr()
    assert "lengths in words" in printed.out and "--tokenizer FOLDER" in printed.out and not printed.err
    audit.main([*inputs, "--tokenizer", "tokenizer"])
    assert "lengths in tokens" in capsys.readouterr().out


def test_text_in_a_script_without_spaces(checkout: Checkout) -> None:
    """Its characters are counted, so it is not very short, and copies with a few other ones are found."""
    random_ = random.Random(8)
    characters = [chr(0x4E00 + place) for place in range(800)]
    rows = ["".join(random_.choices(characters, k=120)) for _ in range(60)]
    rows.append(f"{rows[0][:60]}们{rows[0][61:]}")
    lines = [json.dumps({"text": row, "label": "ab"[number % 2]}) for number, row in enumerate(rows)]
    (checkout.root / "unspaced.jsonl").write_text("\n".join(lines), encoding="utf-8")
    tokenizer = ["--tokenizer", "words"]
    checkout.run(train_tokenizer.main, "unspaced.jsonl", "--out", "words", "--vocab-size", 4000)
    for more in ([], tokenizer):
        audit.main(["unspaced.jsonl", *more, "--json", "out.json", "--quiet"])
        result = json.loads(Path("out.json").read_text(encoding="utf-8"))
        (split,) = result["splits"]
        assert split["words"] == 61 * 120 and split["oddities"] == {}
        assert split["copies"]["exact"] == 0 and split["copies"]["near"] == 1
        assert "does not know" not in str(result["findings"])


def test_splits_that_are_not_called_so_are_noticed(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, name in enumerate(("train.jsonl", "test.jsonl", "more.jsonl")):
        write_corpus(checkout.root / name, documents=30, seed=seed)
    audit.main(["train.jsonl", "test.jsonl", "--quiet"])
    assert capsys.readouterr().err.startswith("warning: these files are counted as one data set")
    for inputs in (["test.jsonl"], ["corpus.jsonl", "more.jsonl"]):
        audit.main([*inputs, "--quiet"])
        assert capsys.readouterr().err == ""


def test_store_and_text_with_its_tokenizer_agree(checkout: Checkout) -> None:
    results = []
    checkout.run(prepare.main, "corpus.jsonl", "--out", "whole", "--tokenizer", "tokenizer")
    for inputs in (["whole"], ["corpus.jsonl", "--tokenizer", "tokenizer"]):
        audit.main([*inputs, "--json", "out.json", "--quiet"])
        result = json.loads(Path("out.json").read_text(encoding="utf-8"))
        del result["splits"][0]["path"]
        results.append(result)
    assert results[0] == results[1]


@pytest.mark.parametrize("chunked", [False, True])
def test_tensors_and_their_store_agree(checkout: Checkout, chunked: bool) -> None:
    lines = (checkout.root / "corpus.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    until = {"garden": 90, "harbour": 60, "kitchen": 30}  # of each label another number of documents
    kept = [line for place, line in enumerate(lines) if place < until[json.loads(line)["label"]]]
    (checkout.root / "some.jsonl").write_text("".join(kept), encoding="utf-8")
    checkout.run(prepare.main, "some.jsonl", "--out", "whole", "--tokenizer", "tokenizer", "--no-text")
    store = Store.open(Path("whole"))
    header = store.header.special_token_ids
    rows = [torch.tensor([header["cls"], *store.tokens(i), header["sep"]]) for i in range(len(store))]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=header["pad"])
    lengths = torch.tensor([len(row) for row in rows])
    mask = torch.arange(ids.shape[1]) >= lengths.unsqueeze(1)
    if chunked:
        ids, mask = ids.unsqueeze(1), mask.unsqueeze(1)
    torch.save({"input_ids": ids, "attention_mask": mask, "labels": torch.tensor(store.labels)}, "some.pt")
    results = []
    for inputs in (["whole"], ["some.pt", "--tokenizer", "tokenizer"]):
        audit.main([*inputs, "--json", "out.json", "--quiet"])
        (split,) = json.loads(Path("out.json").read_text(encoding="utf-8"))["splits"]
        del split["path"]
        results.append(split)
    assert len(set(results[0]["labels"].values())) == 3
    names = store.label_names or ()
    results[1]["labels"] = {names[int(name)]: count for name, count in results[1]["labels"].items()}
    assert results[0] == results[1]


def test_an_overlap_fails_with_exit_code_3(
    checkout: Checkout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (checkout.root / "corpus.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    empty = '{"text": " ", "label": "garden"}\n'
    (checkout.root / "train.jsonl").write_text("".join(lines[:60]), encoding="utf-8")
    (checkout.root / "test.jsonl").write_text("".join([*lines[58:], empty]), encoding="utf-8")
    assert audit.main(["--train", "train.jsonl", "--test", "test.jsonl"]) == 3
    out = capsys.readouterr().out
    assert "fail  word for word in train as well: 2 of 32 documents of test" in out
    assert "without text: 1 document of test" in out
    assert "test:1" in out and "train:59" in out  # the pair is shown

    reader, writer = os.pipe()
    os.close(reader)  # as `| head` does after its lines
    with os.fdopen(writer, "w", buffering=1) as left:
        monkeypatch.setattr(sys, "stdout", left)
        assert audit.main(["--train", "train.jsonl", "--test", "test.jsonl"]) == 3
        lead_nowhere(left)


def test_ids_cannot_drive_the_terminal(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    record = {"text": "the same few words again", "label": "[red]x\x1b[31m", "id": "\x1b]0;title\x07"}
    (checkout.root / "evil.jsonl").write_text(2 * (json.dumps(record) + "\n"), encoding="utf-8")
    audit.main(["--train", "evil.jsonl", "--test", "evil.jsonl"])
    out = capsys.readouterr().out
    assert "\x1b" not in out and "[red]x" in out


def test_a_folder_of_tensors_says_how_to_read_it(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("corpus.jsonl", "--tokenizer", "tokenizer", "--format", "pt", "--out")
    checkout.run(prepare.main, *common, "splits", "--split", "0.8/0.1/0.1")
    checkout.run(prepare.main, *common, "whole")
    for name in ("splits", "whole"):
        capsys.readouterr()
        assert audit.main([name]) == audit.main(["--train", name]) == 2
        first, second = capsys.readouterr().err.splitlines()
        assert first == second and f"; {name}; " in first
        flags = shlex.split(first.rpartition("; ")[2].replace("FOLDER", "tokenizer"))
        audit.main([*flags, "--quiet"])
        assert "findings" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "what to read is not clear"),
        (["store", "--train", "corpus.jsonl"], 2, "what to read is not clear"),
        (["store", "--tokenizer", "tokenizer"], 2, "a store knows its tokenizer"),
        (["store", "--label-column", "other"], 2, "--label-column says how text is read; found a store"),
        (["store/train", "--multi-label"], 2, "--multi-label says how text is read; found a store"),
        (["corpus.pt"], 2, "add --tokenizer FOLDER"),
        (["--train", "corpus.pt", "corpus.jsonl"], 2, "nothing may stand beside it"),
        (["nothing.pt", "--tokenizer", "tokenizer"], 3, "data set does not exist"),
        (["corpus.jsonl", "--chunk-size", "2"], 2, "chunk_size"),
        (["store", "--chunk-size", "10", "--stride", "9"], 2, "chunking.stride is out of range"),
        (["store", "--json", "no/such/out.json"], 2, "no such folder"),
        (["store", "--plot", "lengths.exe"], 2, "unknown kind of picture"),
        (["nothing.jsonl"], 3, "no such file"),
        (["corpus.jsonl", "--label-column", "other"], 3, "no column 'other'"),
    ],
)
def test_mistakes(
    checkout: Checkout, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    assert audit.main(arguments) == code
    error = capsys.readouterr().err.splitlines()
    assert error[-1].startswith("error: ") and words in error[-1]


def test_empty_documents_are_always_counted_so_no_flag_leaves_them_out(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit.main(["corpus.jsonl", "--skip-empty"]) == 2
    assert "unrecognized arguments: --skip-empty" in capsys.readouterr().err
    rows = [{"text": "  ", "label": "x"}, {"text": "some words", "label": "y"}]
    Path("empty.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    audit.main(["empty.jsonl", "--json", "out.json", "--quiet"])
    result = json.loads(Path("out.json").read_text(encoding="utf-8"))
    assert result["splits"][0]["empty"] == 1
