"""What a run is compared with: the baselines, and the model that reads less."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from end_to_end.conftest import Checkout
from evaluate_cases import predictions_on, result_of

from textclf_transformer.commands import prepare
from textclf_transformer.data.corpus import Corpus
from textclf_transformer.data.store import Store
from textclf_transformer.data.text_documents import TextDocuments
from textclf_transformer.evaluation import full_evaluation
from textclf_transformer.evaluation.baselines import LabelledTexts, tfidf_svm_predictions
from textclf_transformer.evaluation.full_evaluation import evaluate_run
from textclf_transformer.evaluation.loaded_run import load_run
from textclf_transformer.evaluation.rivals import (
    FIRST_AND_LAST,
    FIRST_CHUNK,
    MAJORITY,
    SVM_TRAIN,
    fitted_baselines,
    partial_readings,
)


def test_the_rivals_are_what_they_are_called(finetuned: Checkout, noisy: str) -> None:
    scores = {row["name"]: row for row in result_of("ft", "--data", noisy)["scores"]}
    labels, _, _ = predictions_on(noisy)
    train = Store.open(finetuned.root / "store" / "train")
    val = Store.open(finetuned.root / "store" / "val")
    assert train.labels is not None and val.labels is not None
    assert scores["majority"]["accuracy"] == (labels == np.bincount(train.labels).argmax()).mean()
    texts = [json.loads(line)["text"] for line in Path(noisy).read_text(encoding="utf-8").splitlines()]
    fitted = LabelledTexts([train.text(i) for i in range(len(train))], train.labels)
    more = fitted + LabelledTexts([val.text(i) for i in range(len(val))], val.labels)
    for name, part in (("TF-IDF + linear SVM", fitted), ("TF-IDF + linear SVM, train + val", more)):
        assert scores[name]["accuracy"] == (tfidf_svm_predictions(part, texts) == labels).mean()


def test_reading_the_first_chunk_only_is_reading_its_text(finetuned: Checkout, noisy: str) -> None:
    run = load_run("ft")
    documents = TextDocuments.read(Corpus([Path(noisy)]), run.tokenizer, multi_label=False, path=noisy)
    readings = partial_readings(run, documents)
    capacity, stride = run.chunk_size - 2, run.stride
    for name in ("this model, first chunk only", "this model, first + last chunk"):
        expected = []
        for index in range(len(documents)):
            content = torch.from_numpy(documents.tokens(index))
            last = max(0, -(-(len(content) - capacity) // stride)) * stride
            parts = [content[:capacity]]
            if "last" in name and last:
                parts.append(content[last:])
            special = [torch.tensor([run.tokenizer.cls_token_id]), torch.tensor([run.tokenizer.sep_token_id])]
            rows = [torch.cat([special[0], part, special[1]]) for part in parts]
            width = max(map(len, rows))
            ids = torch.full((1, len(rows), width), run.tokenizer.pad_token_id)
            mask = torch.ones(1, len(rows), width, dtype=torch.bool)
            for place, row in enumerate(rows):
                ids[0, place, : len(row)], mask[0, place, : len(row)] = row, False
            with torch.inference_mode():
                logits = run.model(ids, mask)["logits"]
            expected.append(int(logits.argmax()))
        assert readings[name].tolist() == expected


def test_a_model_that_reads_one_chunk_has_no_rival_that_reads_two(finetuned: Checkout) -> None:
    store = Store.open(finetuned.root / "store" / "test")
    run = load_run("ft")
    assert set(partial_readings(run, store)) == {FIRST_CHUNK, FIRST_AND_LAST}
    assert set(partial_readings(replace(run, max_chunks=1), store)) == {FIRST_CHUNK}


def test_val_without_text_is_no_training_data_of_the_svm(finetuned: Checkout) -> None:
    store = Store.open(finetuned.root / "store" / "test")
    train = Store.open(finetuned.root / "store" / "train")
    assert prepare.main(["corpus.jsonl", "--tokenizer", "tokenizer", "--out", "bare", "--no-text"]) == 0
    rivals = fitted_baselines(load_run("ft"), train, Store.open(Path("bare")), store)
    assert set(rivals) == {MAJORITY, SVM_TRAIN}


def test_data_without_text_have_no_svm_and_a_note_that_says_why(
    finetuned: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prepare.main(["corpus.jsonl", "--tokenizer", "tokenizer", "--out", "bare", "--no-text"]) == 0
    run, bare = load_run("ft"), Store.open(Path("bare"))
    whole = {name: Store.open(finetuned.root / "store" / name) for name in ("train", "test")}
    for train, documents, said in (
        (whole["train"], whole["test"], 0),
        (whole["train"], bare, 1),
        (bare, whole["test"], 1),
    ):
        own = {"train": (train, None), "val": (None, "")}
        monkeypatch.setattr(full_evaluation, "try_own_split", lambda run, split, own=own: own[split])
        result = evaluate_run(run, documents)
        assert sum(note.startswith("no TF-IDF + linear SVM") for note in result["notes"]) == said
        assert any("SVM" in row["name"] for row in result["scores"]) != bool(said)


def test_without_text_there_is_no_svm(finetuned: Checkout) -> None:
    prepare_arguments = ["corpus.jsonl", "--tokenizer", "tokenizer", "--out", "bare", "--no-text"]
    assert prepare.main(prepare_arguments) == 0
    result = result_of("ft", "--data", "bare")
    assert "majority" in {row["name"] for row in result["scores"]}
    assert not any("SVM" in row["name"] for row in result["scores"])
    assert any("no text" in note for note in result["notes"])
