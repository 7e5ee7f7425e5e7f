from __future__ import annotations

import numpy as np
import pytest
import torch
from in_memory import CLS, PAD, SEP, VOCAB_SIZE, MaskingTokenizer

from textclf_transformer.data.batches import DocumentBatches
from textclf_transformer.data.opening import open_documents
from textclf_transformer.data.store_format import TOKENS
from textclf_transformer.data.store_writer import write_store
from textclf_transformer.data.tensor_export import write_tensors
from textclf_transformer.data.text_files import Document
from textclf_transformer.errors import DataError
from textclf_transformer.tokenizer.training import train_wordpiece
from textclf_transformer.tokenizer.wordpiece_tokenizer_wrapper import WordPieceTokenizerWrapper

TEXTS = ["the judge read the law to the court", "a goal", "the team read a book", "law and goal and law"]


def tokenizer_of(folder, *, extra_words=(), lowercase=True) -> WordPieceTokenizerWrapper:
    tokenizer = train_wordpiece([*TEXTS, *extra_words], vocab_size=200, min_frequency=1, lowercase=lowercase)
    special = {role: f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
    WordPieceTokenizerWrapper(tokenizer, special).save(folder)
    return WordPieceTokenizerWrapper.load(folder)


@pytest.fixture
def tokenizer(tmp_path):
    return tokenizer_of(tmp_path / "tokenizer")


@pytest.fixture
def store_folder(tmp_path, tokenizer):
    folder = tmp_path / "store"
    folder.mkdir()
    documents = [
        Document(text=text, label=label, id=str(row), group=None, source=f"text:{row}")
        for row, (text, label) in enumerate(zip(TEXTS, ("law", "art", "art", "law"), strict=True))
    ]
    write_store(
        folder,
        documents,
        tokenizer=tokenizer,
        tokenizer_kind="wordpiece",
        keep_text=False,
        multi_label=False,
    )
    return folder


def save_pt(path, last_id=9):
    ids = torch.tensor([[CLS, 7, 8, SEP, PAD], [CLS, 5, 6, last_id, SEP]])
    torch.save({"input_ids": ids, "attention_mask": ids == PAD}, path)
    return path


def batches_of(documents) -> DocumentBatches:
    return DocumentBatches(
        documents,
        cls_token_id=CLS,
        sep_token_id=SEP,
        pad_token_id=PAD,
        chunk_size=6,
        stride=4,
        max_chunks=10,
        samples_per_step=2,
        tokens_per_micro_batch=1000,
        seed=0,
    )


def test_a_pt_file_opens(tmp_path):
    documents = open_documents(save_pt(tmp_path / "train.pt"), tokenizer=MaskingTokenizer())
    assert documents.tokens(1).tolist() == [5, 6, 9]


def test_a_store_opens(store_folder, tokenizer):
    documents = open_documents(store_folder, tokenizer=tokenizer)
    expected = [encoding.ids for encoding in tokenizer.encode_batch(TEXTS)]
    assert [documents.tokens(index).tolist() for index in range(len(documents))] == expected
    assert (documents.labels.tolist(), documents.label_names) == ([1, 0, 0, 1], ("art", "law"))


def test_a_store_and_the_pt_file_made_of_it_give_the_same_batches(store_folder, tokenizer, tmp_path):
    store = open_documents(store_folder, tokenizer=tokenizer)
    write_tensors(store, tmp_path / "store.pt", pad_token_id=tokenizer.pad_token_id)
    tensors = open_documents(tmp_path / "store.pt", tokenizer=tokenizer)
    assert np.array_equal(tensors.lengths, store.lengths)
    for of_store, of_tensors in zip(
        batches_of(store).step(0, 0), batches_of(tensors).step(0, 0), strict=True
    ):
        assert torch.equal(of_store.input_ids, of_tensors.input_ids)
        assert torch.equal(of_store.labels, of_tensors.labels)


def test_rows_that_would_be_mostly_padding_are_refused(store_folder, tokenizer, tmp_path, monkeypatch):
    store = open_documents(store_folder, tokenizer=tokenizer)
    most = len(store) * int(store.lengths.max())
    monkeypatch.setattr("textclf_transformer.data.tensor_export.MAX_POSITIONS", most - 1)
    with pytest.raises(DataError, match=r"too many and too long.*store\.pt.*4 documents.*--format store"):
        write_tensors(store, tmp_path / "store.pt", pad_token_id=tokenizer.pad_token_id)
    assert not (tmp_path / "store.pt").exists()
    monkeypatch.setattr("textclf_transformer.data.tensor_export.MAX_POSITIONS", most)
    write_tensors(store, tmp_path / "store.pt", pad_token_id=tokenizer.pad_token_id)


def test_ids_of_a_pt_file_must_be_in_the_vocabulary(tmp_path):
    path = save_pt(tmp_path / "train.pt", last_id=VOCAB_SIZE)
    with pytest.raises(DataError, match=r"train\.pt: input_ids, row 1, column 3.*found 1000"):
        open_documents(path, tokenizer=MaskingTokenizer())


def test_a_store_of_another_tokenizer_is_refused_with_both_fingerprints(store_folder, tokenizer, tmp_path):
    other = tokenizer_of(tmp_path / "other", lowercase=False)
    assert other.vocab_size == tokenizer.vocab_size
    with pytest.raises(DataError, match="prepare the text again with this tokenizer") as caught:
        open_documents(store_folder, tokenizer=other)
    assert f"found tokenizer {tokenizer.fingerprint[:16]}" in str(caught.value)
    assert f"expected {other.fingerprint[:16]}" in str(caught.value)


def test_a_store_of_another_vocabulary_is_refused_with_both_sizes(store_folder, tokenizer, tmp_path):
    other = tokenizer_of(tmp_path / "other", extra_words=["umbrella"])
    with pytest.raises(
        DataError, match=rf"found {tokenizer.vocab_size} tokens.*expected {other.vocab_size} "
    ):
        open_documents(store_folder, tokenizer=other)


def test_a_missing_path_is_named_with_its_key_and_what_to_type(tmp_path):
    with pytest.raises(DataError) as caught:
        open_documents(tmp_path / "gone", tokenizer=MaskingTokenizer(), key="data.val.dataset_path")
    message = str(caught.value)
    assert f"data.val.dataset_path: {tmp_path / 'gone'}" in message
    assert f"textclf prepare INPUT --out {tmp_path / 'gone'}" in message


def test_text_that_was_not_prepared_is_refused(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"not a data set.*textclf prepare .*train\.csv --out STORE"):
        open_documents(tmp_path / "train.csv", tokenizer=MaskingTokenizer())


def test_a_store_that_shrinks_under_a_running_job_is_named(store_folder, tokenizer):
    batches = batches_of(open_documents(store_folder, tokenizer=tokenizer))
    batches.step(0, 0)
    evaluation = batches.evaluation()
    with (store_folder / TOKENS).open("r+b") as file:
        file.truncate(4)
    with pytest.raises(DataError, match=r"tokens\.bin.*found 4 bytes"):
        batches.step(0, 1)
    with pytest.raises(DataError, match=r"tokens\.bin.*found 4 bytes"):
        next(evaluation)
