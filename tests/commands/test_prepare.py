from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textclf_transformer.commands.prepare import main
from textclf_transformer.config.generate import fill_template
from textclf_transformer.config.yaml_reader import read_mapping
from textclf_transformer.data.store import Store
from textclf_transformer.data.store_format import all_files
from textclf_transformer.safe_load import safe_load
from textclf_transformer.tokenizer.loading import load_tokenizer
from textclf_transformer.tokenizer.training import train_byte_level_bpe, train_wordpiece
from textclf_transformer.tokenizer.wordpiece_tokenizer_wrapper import WordPieceTokenizerWrapper

TEXTS = ["the cat sat on the mat", "a dog ran over the road", "no more than a few words"]


@pytest.fixture(scope="module")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tok")
    trained = train_wordpiece(TEXTS * 5, vocab_size=200, min_frequency=2, lowercase=True)
    WordPieceTokenizerWrapper.from_tokenizer(trained).save(folder)
    return folder


def jsonl(path: Path, count: int = 30, **changes: Any) -> Path:
    """Documents with the labels a, b, c in turn."""
    records = [{"text": f"{TEXTS[i % 3]} {i}", "label": "abc"[i % 3], **changes} for i in range(count)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_one_input_makes_one_store(
    tmp_path: Path, tokenizer_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = jsonl(tmp_path / "in.jsonl")
    assert main([str(path), "--out", str(tmp_path / "s"), "--tokenizer", str(tokenizer_dir)]) == 0
    store = Store.open(tmp_path / "s")
    assert len(store) == 30
    assert store.label_names == ("a", "b", "c")
    assert store.text(4) == f"{TEXTS[1]} 4"
    assert store.document_id(4) == "in:5"
    assert store.tokenizer_fingerprint == load_tokenizer("wordpiece", tokenizer_dir).fingerprint
    printed = capsys.readouterr().out.split()
    for shown in (
        "30",
        str(store.header.tokens),
        "10",
        str(tmp_path / "s"),
        "generate_pretraining_experiment.py",
    ):
        assert any(shown in word for word in printed)


def test_what_to_type_next_names_the_folder_whatever_it_is_called(
    tmp_path: Path, tokenizer_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = jsonl(tmp_path / "in.jsonl")
    out = tmp_path / "it's 50 % #1: new"
    assert main([str(path), "--out", str(out), "--tokenizer", str(tokenizer_dir)]) == 0
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])
    overrides = [word for flag, word in pairwise(words) if flag == "--set"]
    text, _ = fill_template("pretraining", {"experiment.name": "new"}, overrides)
    assert read_mapping(text).data["data"]["train"]["dataset_path"] == str(out)


def test_names_with_spaces_at_their_ends_are_quoted(
    tmp_path: Path, tokenizer_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\nthe cat,a\nthe dog,a \nthe cat, b\n", encoding="utf-8")
    assert main([str(path), "--out", str(tmp_path / "s"), "--tokenizer", str(tokenizer_dir)]) == 0
    rows = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    assert {"' b'", "a", "'a '"} <= {cell for row in rows for cell in row}


def test_given_splits_share_the_labels_of_train(tmp_path: Path, tokenizer_dir: Path) -> None:
    train = jsonl(tmp_path / "train.jsonl")
    val = jsonl(tmp_path / "val.jsonl", 2, label="c")
    arguments = ["--train", str(train), "--val", str(val), "--test", str(val), str(train)]
    assert main([*arguments, "--out", str(tmp_path / "s"), "--tokenizer", str(tokenizer_dir)]) == 0
    stores = {name: Store.open(tmp_path / "s" / name) for name in ("train", "val", "test")}
    assert {store.label_names for store in stores.values()} == {("a", "b", "c")}
    assert stores["val"].labels is not None
    assert stores["val"].labels.tolist() == [2, 2]
    assert len(stores["test"]) == 32


def test_a_label_that_train_lacks_is_an_error(
    tmp_path: Path, tokenizer_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, val = jsonl(tmp_path / "train.jsonl"), jsonl(tmp_path / "val.jsonl", label="z")
    arguments = ["--train", str(train), "--val", str(val)]
    assert main([*arguments, "--out", str(tmp_path / "s"), "--tokenizer", str(tokenizer_dir)]) == 3
    assert f"{val}:1; found 'z', expected 'a', 'b', 'c'" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.jsonl", "val.jsonl"]


def test_one_input_is_cut_by_seed_and_label(tmp_path: Path, tokenizer_dir: Path) -> None:
    path = jsonl(tmp_path / "in.jsonl", 300)
    texts = []
    for name, seed in (("s1", "1"), ("s2", "1"), ("s3", "2")):
        arguments = [str(path), "--split", "0.8/0.1/0.1", "--seed", seed, "--tokenizer", str(tokenizer_dir)]
        assert main([*arguments, "--out", str(tmp_path / name)]) == 0
        stores = [Store.open(tmp_path / name / split) for split in ("train", "val", "test")]
        assert [np.bincount(store.labels).tolist() for store in stores] == [[80] * 3, [10] * 3, [10] * 3]
        texts.append([{store.text(i) for i in range(len(store))} for store in stores])
    assert texts[0] == texts[1] != texts[2]
    assert len(set.union(*texts[0])) == 300


def test_groups_stay_together(tmp_path: Path, tokenizer_dir: Path) -> None:
    records = [{"text": f"{TEXTS[i % 3]} {i}", "label": "x", "author": i // 5} for i in range(200)]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    arguments = [
        str(path),
        "--split",
        "0.6/0.2/0.2",
        "--group-column",
        "author",
        "--tokenizer",
        str(tokenizer_dir),
    ]
    assert main([*arguments, "--out", str(tmp_path / "s")]) == 0
    stores = [Store.open(tmp_path / "s" / split) for split in ("train", "val", "test")]
    groups = [{store.group(i) for i in range(len(store))} for store in stores]
    assert [len(own) for own in groups] == [24, 8, 8]
    assert len(set.union(*groups)) == 40


def test_plain_text_for_pretraining(tmp_path: Path, tokenizer_dir: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n\n".join(TEXTS), encoding="utf-8")
    assert (
        main([str(path), "--out", str(tmp_path / "s"), "--tokenizer", str(tokenizer_dir), "--no-text"]) == 0
    )
    store = Store.open(tmp_path / "s")
    assert (len(store), store.labels, store.has_text) == (3, None, False)


def test_several_labels_and_skipped_documents(
    tmp_path: Path, tokenizer_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,tags\nthe cat,x|y\n ,x\nthe dog,\n", encoding="utf-8")
    arguments = [str(path), "--label-column", "tags", "--multi-label", "--skip-empty"]
    assert main([*arguments, "--out", str(tmp_path / "s"), "--tokenizer", str(tokenizer_dir)]) == 0
    store = Store.open(tmp_path / "s")
    assert store.labels is not None
    assert store.labels.tolist() == [[1, 1], [0, 0]]
    assert "left out: 1 document without" in capsys.readouterr().out


@pytest.mark.parametrize("split", [[], ["--split", "0.8/0.1/0.1"]])
def test_tensors_hold_the_same_tokens(
    tmp_path: Path, tokenizer_dir: Path, split: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = jsonl(tmp_path / "in.jsonl")
    common = [str(path), "--tokenizer", str(tokenizer_dir), *split]
    assert main([*common, "--out", str(tmp_path / "pt"), "--format", "pt"]) == 0
    assert "label names are not kept" in capsys.readouterr().out
    assert main([*common, "--out", str(tmp_path / "s")]) == 0
    assert "label names are not kept" not in capsys.readouterr().out
    unlabelled = [*common, "--no-labels", "--out", str(tmp_path / "unlabelled"), "--format", "pt"]
    assert main(unlabelled) == 0 and "label names are not kept" not in capsys.readouterr().out
    names = {"train": "train", "val": "val", "test": "test"} if split else {"data": "."}
    assert sorted(path.name for path in (tmp_path / "pt").iterdir()) == sorted(f"{name}.pt" for name in names)
    for name, folder in names.items():
        store = Store.open(tmp_path / "s" / folder)
        tensors = safe_load(tmp_path / "pt" / f"{name}.pt")
        assert isinstance(tensors, dict)
        assert store.labels is not None
        assert tensors["labels"].tolist() == store.labels.tolist()
        for i in range(len(store)):
            keep = ~tensors["attention_mask"][i]
            assert tensors["input_ids"][i][keep].tolist() == store.tokens(i).tolist()
        assert (tensors["input_ids"][tensors["attention_mask"]] == 0).all()


def test_byte_bpe_is_told_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "bpe").mkdir()
    train_byte_level_bpe(TEXTS * 5, vocab_size=300, min_frequency=2).save(
        str(tmp_path / "bpe" / "tokenizer.json")
    )
    path = jsonl(tmp_path / "in.jsonl")
    assert main([str(path), "--out", str(tmp_path / "s"), "--tokenizer", str(tmp_path / "bpe")]) == 0
    assert Store.open(tmp_path / "s").header.tokenizer_kind == "byte_bpe"


def test_a_store_is_replaced_only_with_overwrite(
    tmp_path: Path, tokenizer_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = jsonl(tmp_path / "in.jsonl"), tmp_path / "s"
    arguments = [str(path), "--out", str(out), "--tokenizer", str(tokenizer_dir)]
    assert main(arguments) == 0
    before = (out / "tokens.bin").read_bytes()
    jsonl(path, 5)
    assert main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (out / "tokens.bin").read_bytes() == before
    assert main([*arguments, "--overwrite", "--split", "0.98/0.01/0.01"]) == 3  # a part would be empty
    assert (out / "tokens.bin").read_bytes() == before
    assert main([*arguments, "--overwrite"]) == 0
    assert len(Store.open(out)) == 5
    (out / "thesis.doc").write_text("x", encoding="utf-8")
    assert main([*arguments, "--overwrite"]) == 2
    assert (out / "thesis.doc").exists()
    assert sorted(found.name for found in tmp_path.iterdir()) == ["in.jsonl", "s"]


def test_splits_with_all_that_a_store_may_hold_are_replaced_with_overwrite(
    tmp_path: Path, tokenizer_dir: Path
) -> None:
    records = [
        {"text": f"text {n}", "label": "ab"[n % 2], "id": f"d{n}", "group": f"g{n}"} for n in range(20)
    ]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    arguments = [str(path), "--out", str(tmp_path / "s"), "--tokenizer", str(tokenizer_dir)]
    arguments += ["--split", "0.6/0.2/0.2"]
    assert main(arguments) == 0
    assert {file.name for file in (tmp_path / "s" / "train").iterdir()} == all_files()
    assert main(arguments) == 2
    assert main([*arguments, "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "what to read"),
        (["{in}", "--train", "{in}"], 2, "what to read"),
        (["--val", "{in}"], 2, "need --train"),
        (["--train", "{in}", "--split", "0.8/0.1/0.1"], 2, "nothing to cut"),
        (["{in}", "--split", "80/10/10"], 2, "add up to 1"),
        (["{in}", "--split", "0.9/0.1"], 2, "add up to 1"),
        (["{in}", "--split", "a/b/c"], 2, "add up to 1"),
        (["{in}", "--split", "1.2/-0.1/-0.1"], 2, "add up to 1"),
        (["{in}", "--label-column", "y"], 3, "no column 'y'"),
        (["{in}", "--group-column", "y"], 3, "no column 'y'"),
        (["{in}", "{empty}"], 3, "empty.jsonl:1: text"),
        (["{gone}"], 3, "no such file"),
        (["{in}", "--tokenizer-kind", "other"], 2, "unknown tokenizer"),
        (["{in}", "--tokenizer-kind", "byte_bpe"], 3, "another kind"),
        (["{in}", "--tokenizer", "{gone}"], 3, "no tokenizer here"),
        (["{plain}", "{in}"], 3, "others have none"),
        (["--train", "{plain}", "--val", "{in}"], 3, "train split has none"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_nothing_stays(
    tmp_path: Path,
    tokenizer_dir: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    files = {"in": jsonl(tmp_path / "in.jsonl"), "empty": jsonl(tmp_path / "empty.jsonl", text=" ")}
    files |= {"gone": tmp_path / "gone.jsonl", "plain": tmp_path / "plain.txt"}
    files["plain"].write_text("some text", encoding="utf-8")
    before = sorted(tmp_path.iterdir())
    filled = [argument.format(**files) for argument in arguments]
    tokenizer = [] if "--tokenizer" in arguments else ["--tokenizer", str(tokenizer_dir)]
    assert main([*filled, *tokenizer, "--out", str(tmp_path / "s"), "--quiet"]) == code
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopping_leaves_nothing_behind(
    tmp_path: Path, tokenizer_dir: Path, sent: signal.Signals, code: int
) -> None:
    os.mkfifo(tmp_path / "in.jsonl")  # an input that never ends keeps the command busy
    command = [sys.executable, "-m", "textclf_transformer.commands.prepare", str(tmp_path / "in.jsonl")]
    process = subprocess.Popen([*command, "--out", str(tmp_path / "s"), "--tokenizer", str(tokenizer_dir)])
    with (tmp_path / "in.jsonl").open("w", encoding="utf-8") as feed:
        feed.write(json.dumps({"text": "the cat", "label": "a"}) + "\n")
        feed.flush()
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob(".s.*.tmp/tokens.bin")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(sent)
        assert process.wait(timeout=30) == code
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["in.jsonl", "--out", "in.jsonl/x"], 6, "in.jsonl/x"),
        (["in.jsonl", "--out", "s", "--split", "0.8/0.1/0.1", "--seed", "-1"], 2, "--seed: found '-1'"),
        (["empty.jsonl", "--out", "s"], 3, "there are no documents; empty.jsonl"),
        (["empty.jsonl", "--out", "s", "--split", "0.8/0.1/0.1"], 3, "there are no documents; empty.jsonl"),
        (["--train", "in.jsonl", "--val", "empty.jsonl", "--out", "s"], 3, "no documents; empty.jsonl"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path,
    tokenizer_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    jsonl(tmp_path / "in.jsonl")
    (tmp_path / "empty.jsonl").write_text("", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "--tokenizer", str(tokenizer_dir), "--quiet"]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line and "fault of ours" not in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.jsonl", "in.jsonl"]
