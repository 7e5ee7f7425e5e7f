"""Bad data through the commands: exit 3, file and row named, nothing written; also data that changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from end_to_end.conftest import Checkout
from end_to_end.failing import fails, snapshot
from torch import Tensor

import finetune
import pretrain
from textclf_transformer.commands import prepare, training_run
from textclf_transformer.data.documents import Documents, UInt64Array, digests
from textclf_transformer.tokenizer.loading import load_tokenizer

Tensors = dict[str, Tensor]


def tensors(checkout: Checkout) -> Tensors:
    tokenizer = load_tokenizer("wordpiece", checkout.root / "tokenizer")
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(10, tokenizer.vocab_size, (12, 9), generator=generator)
    padding = torch.zeros(12, 9, dtype=torch.bool)
    padding[5, 6:] = True
    ids[padding] = tokenizer.pad_token_id
    return {"input_ids": ids, "attention_mask": padding, "labels": torch.arange(12) % 3}


def put(name: str, place: tuple[int, ...], value: Any) -> Callable[[Tensors], Tensors]:
    def change(given: Tensors) -> Tensors:
        changed = given[name].double() if isinstance(value, float) else given[name].clone()
        changed[place] = value
        return {**given, name: changed}

    return change


FAULTS: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "an id beyond the vocabulary": (put("input_ids", (4, 2), 100_000), "row 4, column 2"),
    "a negative id": (put("input_ids", (7, 0), -1), "row 7, column 0"),
    "a document of nothing but padding": (put("attention_mask", (3,), True), "row 3"),
    "an inverted mask": (lambda given: {**given, "attention_mask": ~given["attention_mask"]}, "inverted"),
    "a mask of numbers": (
        lambda given: {**given, "attention_mask": (~given["attention_mask"]).long()},
        "attention_mask is not bool",
    ),
    "a fractional label": (put("labels", (2,), 0.5), "row 2"),
    "a label that is no number": (put("labels", (1,), float("nan")), "row 1"),
    "a negative label": (put("labels", (6,), -100), "row 6"),
    "lengths that differ": (lambda given: {**given, "labels": given["labels"][:5]}, "(5,)"),
    "ids of another dtype": (lambda given: {**given, "input_ids": given["input_ids"].float()}, "float32"),
    "ids of another shape": (lambda given: {**given, "input_ids": given["input_ids"][0]}, "(9,)"),
}


def test_bad_tensors_are_refused_before_anything_is_written(
    pretrained: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrained.pretraining("new")
    pretrained.finetuning("ft", "pre", "--set", "data.val=null", "--set", "data.test=null")
    before = snapshot(pretrained.root / "experiments")
    good = tensors(pretrained)
    for number, (fault, (change, named)) in enumerate(FAULTS.items()):
        path = pretrained.root / f"bad{number}.pt"
        torch.save(change(good), path)
        place = ["--set", f"data.train.dataset_path={path}", "--set", "data.val=null"]
        for main, name in ((pretrain.main, "new"), (finetune.main, "ft")):
            code, line = fails(capsys, main, name, *place)
            assert (code, path.name in line, named in line) == (3, True, True), (fault, line)
    assert snapshot(pretrained.root / "experiments") == before
    path = pretrained.root / "good.pt"
    torch.save(good, path)
    settings = [f"data.train.dataset_path={path}", "data.val=null", "data.test=null", "training.epochs=1"]
    flags = [word for setting in settings for word in ("--set", setting)]
    assert finetune.main(["ft", "--quiet", *flags]) == 0


TEXTS = {
    "bad.jsonl": (b'{"text": "fine", "label": "a"}\n{"text": "\xff", "label": "a"}\n', "bad.jsonl:2, byte"),
    "bad.csv": (b"text,label\nfine,a\none,two,three\n", "bad.csv:3"),
    "short.csv": (b"text,label\nfine,a\nalone\n", "short.csv:3"),
    "empty.jsonl": (b'{"text": "fine", "label": "a"}\n{"text": "  ", "label": "a"}\n', "empty.jsonl:2"),
    "number.jsonl": (b'{"text": 5, "label": "a"}\n', "number.jsonl:1"),
    "label.jsonl": (b'{"text": "fine", "label": 1.5}\n', "label.jsonl:1"),
    "nothing.csv": (b"", "nothing.csv"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_bad_text_is_refused_before_anything_is_written(
    checkout: Checkout, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    content, named = TEXTS[name]
    (checkout.root / name).write_bytes(content)
    arguments = [name, "--out", "made", "--tokenizer", "tokenizer"]
    before = snapshot(checkout.root)
    code, line = fails(capsys, prepare.main, *arguments)
    assert (code, named in line) == (3, True), line
    assert snapshot(checkout.root) == before
    assert not list(checkout.root.glob(".made*"))


def test_documents_that_stand_in_train_as_well_are_a_warning(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout.pretraining("pre", "--set", f"data.val.dataset_path={checkout.root / 'store' / 'train'}")
    capsys.readouterr()
    assert pretrain.main(["pre", "--dry-run"]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert "63 of the 63 documents of val stand in train as well" in line


def test_each_split_is_hashed_once_and_named_in_order(
    checkout: Checkout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million training documents take 18 s."""
    train = checkout.root / "store" / "train"
    splits = [f"data.{split}.dataset_path={train}" for split in ("val", "test")]
    checkout.pretraining("pre", *(part for value in splits for part in ("--set", value)))
    hashed: list[Documents] = []

    def watched(documents: Documents) -> UInt64Array:
        hashed.append(documents)
        return digests(documents)

    monkeypatch.setattr(training_run, "digests", watched)
    capsys.readouterr()
    assert pretrain.main(["pre", "--dry-run"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert [line.split(" stand in train")[0][-3:] for line in lines] == ["val", "est"]
    assert len(hashed) == len(set(map(id, hashed))) == 3


def test_what_max_chunks_cuts_is_printed_and_stored(
    pretrained: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pretrained.finetuning(
        "ft", "pre", "--set", "chunking.max_chunks=1", "--set", "training.epochs=1"
    )
    capsys.readouterr()
    assert finetune.main(["ft", "--quiet"]) == 0
    output = capsys.readouterr().out
    data = json.loads((folder / "run.json").read_text(encoding="utf-8"))["data"]
    for split in ("train", "val", "test"):
        lengths = data[split]
        assert lengths["tokens_dropped"] == lengths["tokens"] - lengths["tokens_read"] > 0
        assert f"{lengths['tokens_dropped']:,} tokens are not read" in output


def test_other_data_under_the_old_name_are_refused_on_resume(
    pretrained: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    store = pretrained.root / "store"
    shutil.rmtree(store / "train")
    shutil.copytree(store / "val", store / "train")
    place = ["--set", f"data.train.dataset_path={store / 'train'}"]
    before = snapshot(pretrained.root / "experiments")
    code, line = fails(capsys, pretrain.main, "pre", *place)
    assert (code, "fingerprints.data.train" in line) == (4, True)
    assert fails(capsys, pretrain.main, "pre", *place, "--allow-changed", "fingerprints.data.train")[0] == 4
    assert snapshot(pretrained.root / "experiments") == before


def test_a_store_of_another_tokenizer_is_refused_before_the_first_step(
    pretrained: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    header = pretrained.root / "store" / "train" / "header.json"
    content = json.loads(header.read_text(encoding="utf-8"))
    for key, value in (("vocab_size", 999), ("tokenizer_fingerprint", "f" * 64)):
        changed = {k: v for k, v in content.items() if k not in ("checksums", "header_checksum")}
        header.write_text(json.dumps({**changed, key: value}), encoding="utf-8")
        place = f"data.train.dataset_path={header.parent}"
        code, line = fails(capsys, pretrain.main, "pre", "--set", place)
        assert (code, "store/train" in line) == (3, True)
