from __future__ import annotations

import numpy as np
import pytest
import torch
from in_memory import CLS, MASK, PAD, SEP, VOCAB_SIZE
from torch.utils.data import TensorDataset

from textclf_transformer.data.batches import DocumentBatches
from textclf_transformer.data.tensor_documents import TensorDocuments
from textclf_transformer.errors import DataError

FLAT = [
    [CLS, 10, 11, SEP, PAD, PAD],
    [CLS, 12, SEP, 13, 14, SEP],
    [15, 16, 17, 18, 19, 20],
]
CHUNKED = [
    [[CLS, 10, 11, SEP], [CLS, 12, SEP, PAD]],
    [[CLS, 13, SEP, PAD], [PAD, PAD, PAD, PAD]],
]


def tensors_of(ids, labels=None) -> dict[str, torch.Tensor]:
    ids = torch.tensor(ids)
    tensors = {"input_ids": ids, "attention_mask": ids == PAD}
    if labels is not None:
        tensors["labels"] = torch.tensor(labels)
    return tensors


def open_pt(path) -> TensorDocuments:
    return TensorDocuments.open(
        path, cls_token_id=CLS, sep_token_id=SEP, pad_token_id=PAD, vocab_size=VOCAB_SIZE
    )


@pytest.fixture
def opened(tmp_path):
    """Save an object as a .pt file and open it."""

    def save_and_open(content) -> TensorDocuments:
        torch.save(content, tmp_path / "train.pt")
        return open_pt(tmp_path / "train.pt")

    return save_and_open


def contents(documents) -> list[list[int]]:
    return [documents.tokens(index).tolist() for index in range(len(documents))]


def test_flat_rows_lose_the_special_tokens_at_their_ends_only(opened):
    documents = opened(tensors_of(FLAT, labels=[2, 0, 1]))
    assert contents(documents) == [[10, 11], [12, SEP, 13, 14], [15, 16, 17, 18, 19, 20]]
    assert documents.lengths.tolist() == [2, 4, 6]
    assert documents.tokens(0, 1, 2).tolist() == documents.tokens(0).tolist()[1:2]
    assert documents.tokens(0).dtype == documents.lengths.dtype == documents.labels.dtype == np.int64
    assert documents.labels.tolist() == [2, 0, 1]
    assert documents.label_names == ("0", "1", "2")
    assert not documents.preset_chunks


def test_several_special_tokens_at_an_end_are_stripped_and_mask_tokens_stay(opened):
    documents = opened(tensors_of([[CLS, CLS, MASK, 9, MASK, SEP, SEP], [CLS, 8, 7, 6, 5, SEP, PAD]]))
    assert contents(documents) == [[MASK, 9, MASK], [8, 7, 6, 5]]
    assert documents.labels is None and documents.label_names is None


def test_a_tensor_dataset_is_the_same_as_a_dict(opened):
    tensors = tensors_of(FLAT, labels=[0, 1, 1])
    from_dict, from_dataset = opened(tensors), opened(TensorDataset(*tensors.values()))
    assert contents(from_dict) == contents(from_dataset)
    assert from_dict.labels.tolist() == from_dataset.labels.tolist()
    assert from_dict.fingerprint == from_dataset.fingerprint


def test_what_lies_under_the_mask_is_never_read(opened):
    tensors = tensors_of(FLAT)
    tensors["input_ids"][0, 4:] = torch.tensor([55, VOCAB_SIZE + 7])
    assert contents(opened(tensors)) == contents(opened(tensors_of(FLAT)))


def test_padding_may_stand_anywhere(opened):
    documents = opened(tensors_of([[PAD, PAD, CLS, 10, PAD, 11, SEP]]))
    assert contents(documents) == [[10, 11]]


def test_the_fingerprint_follows_ids_boundaries_and_labels(opened):
    reference = opened(tensors_of(FLAT, labels=[0, 1, 1])).fingerprint
    assert opened(tensors_of(FLAT, labels=[0, 1, 1])).fingerprint == reference
    changed = [row[:] for row in FLAT]
    changed[2][3] += 1
    moved = [[CLS, 10, SEP, PAD, PAD, PAD], [11, 12, SEP, 13, 14, SEP], FLAT[2]]
    others = [tensors_of(changed, labels=[0, 1, 1]), tensors_of(FLAT, labels=[1, 1, 1]), tensors_of(FLAT)]
    others.append(tensors_of(moved, labels=[0, 1, 1]))
    assert reference not in [opened(tensors).fingerprint for tensors in others]


def test_given_chunks_are_used_as_given(opened):
    documents = opened(tensors_of(CHUNKED, labels=[0, 1]))
    assert documents.preset_chunks
    assert [chunk.tolist() for chunk in documents.chunks(0)] == [[CLS, 10, 11, SEP], [CLS, 12, SEP]]
    assert [chunk.tolist() for chunk in documents.chunks(1)] == [[CLS, 13, SEP]]
    assert documents.chunk_lengths.tolist() == [[4, 3], [3, 0]]
    assert contents(documents) == [[10, 11, 12], [13]]
    assert documents.lengths.tolist() == [3, 1]


def test_a_padding_chunk_between_real_ones_is_left_out(opened):
    documents = opened(tensors_of([[[CLS, 7, SEP], [PAD] * 3, [CLS, 8, SEP]]]))
    assert [chunk.tolist() for chunk in documents.chunks(0)] == [[CLS, 7, SEP], [CLS, 8, SEP]]
    assert documents.chunk_lengths.tolist() == [[3, 3, 0]]


def batches_of(documents, *, chunk_size=4, max_chunks=2) -> DocumentBatches:
    return DocumentBatches(
        documents,
        cls_token_id=CLS,
        sep_token_id=SEP,
        pad_token_id=PAD,
        chunk_size=chunk_size,
        stride=1,
        max_chunks=max_chunks,
        samples_per_step=2,
        tokens_per_micro_batch=100,
        seed=0,
    )


def test_given_chunks_reach_the_batch_without_padding_chunks(opened):
    batches = batches_of(opened(tensors_of(CHUNKED, labels=[0, 1])))
    (batch,) = batches.evaluation()
    assert batch.input_ids.tolist() == [[CLS, 10, 11, SEP], [CLS, 12, SEP, PAD], [CLS, 13, SEP, PAD]]
    assert batch.chunk_counts.tolist() == [2, 1]
    assert batches.num_tokens == batch.num_tokens == 10


def test_given_chunks_beyond_max_chunks_are_counted(opened):
    batches = batches_of(opened(tensors_of(CHUNKED)), max_chunks=1)
    assert [batch.chunk_counts.tolist() for batch in batches.evaluation()] == [[1, 1]]
    assert (batches.coverage.tokens_dropped, batches.coverage.documents_cut) == (3, 1)


def test_a_given_chunk_that_is_too_long_is_named(opened):
    with pytest.raises(DataError, match=r"train\.pt: row 0, chunk 0; found 4 tokens, expected at most 3"):
        batches_of(opened(tensors_of(CHUNKED)), chunk_size=3)


def test_several_labels_as_integers_or_floats(opened):
    for dtype in (torch.int64, torch.float32, torch.bfloat16, torch.bool):
        tensors = tensors_of(FLAT) | {"labels": torch.tensor([[0, 1], [1, 1], [0, 0]], dtype=dtype)}
        documents = opened(tensors)
        assert documents.labels.tolist() == [[0, 1], [1, 1], [0, 0]]
        assert documents.labels.dtype == np.int64
        assert documents.label_names == ("0", "1")


def with_value(ids, place, value):
    """The tensors of ``ids`` with one id changed and the mask as it was."""
    tensors = tensors_of(ids)
    tensors["input_ids"][place] = value
    return tensors


FLAT_TENSORS = tensors_of(FLAT)
CHUNKED_TENSORS = tensors_of(CHUNKED)
IDS, PADDING = FLAT_TENSORS["input_ids"], FLAT_TENSORS["attention_mask"]

FAULTS = {
    "ids of 32 bits": (FLAT_TENSORS | {"input_ids": IDS.int()}, "input_ids has the wrong dtype", "int32"),
    "float ids with NaN": (
        FLAT_TENSORS | {"input_ids": torch.full((3, 6), float("nan"))},
        "input_ids has the wrong dtype",
        r"torch\.float32, expected torch\.int64",
    ),
    "ids of one dimension": (
        FLAT_TENSORS | {"input_ids": IDS[0]},
        "input_ids has the wrong shape",
        r"\(6,\)",
    ),
    "no document": (
        {"input_ids": IDS[:0], "attention_mask": PADDING[:0]},
        "input_ids has the wrong shape",
        r"\(0, 6\)",
    ),
    "mask of integers": (
        FLAT_TENSORS | {"attention_mask": (~PADDING).long()},
        "attention_mask is not bool",
        r"int64.*True = PAD.*attention_mask == 0",
    ),
    "mask of another length": (
        FLAT_TENSORS | {"attention_mask": PADDING[:2]},
        "attention_mask has the wrong shape",
        r"\(2, 6\), expected \(3, 6\)",
    ),
    "labels of another length": (
        FLAT_TENSORS | {"labels": torch.tensor([0, 1])},
        "labels has the wrong shape",
        r"\(2,\), expected \(3,\)",
    ),
    "labels of three dimensions": (
        FLAT_TENSORS | {"labels": torch.zeros(3, 1, 1)},
        "labels has the wrong shape",
        r"\(3, 1, 1\)",
    ),
    "inverted mask": (
        FLAT_TENSORS | {"attention_mask": ~PADDING},
        "the mask looks inverted",
        r"attention_mask, row 0, column 4.*True = PAD.*~attention_mask",
    ),
    "inverted mask of chunks": (
        CHUNKED_TENSORS | {"attention_mask": ~CHUNKED_TENSORS["attention_mask"]},
        "the mask looks inverted",
        "row 0, chunk 1, column 3",
    ),
    "negative id": (with_value(FLAT, (1, 3), -4), "token id is negative", "row 1, column 3.*found -4"),
    "id beyond the vocabulary": (
        with_value(FLAT, (2, 5), VOCAB_SIZE),
        "token id is outside the vocabulary",
        f"row 2, column 5.*found {VOCAB_SIZE}, expected 0 to {VOCAB_SIZE - 1}",
    ),
    "id beyond the vocabulary in a chunk": (
        with_value(CHUNKED, (1, 0, 1), 5000),
        "token id is outside the vocabulary",
        "row 1, chunk 0, column 1",
    ),
    "nothing but padding": (tensors_of([FLAT[0], [PAD] * 6]), "document is empty", "row 1"),
    "nothing but special tokens": (
        tensors_of([FLAT[0], FLAT[1], [CLS, SEP, SEP, PAD, PAD, PAD]]),
        "document is empty",
        "row 2",
    ),
    "chunks of nothing but special tokens": (
        tensors_of([CHUNKED[0], [[CLS, SEP, PAD, PAD], [PAD] * 4]]),
        "document is empty",
        "row 1",
    ),
    "negative label": (tensors_of(FLAT, [0, -100, 1]), "label is out of range", "labels, row 1.*found -100"),
    "label that is an id": (tensors_of(FLAT, [0, 1, 10**12]), "label is out of range", "row 2"),
    "fractional label": (tensors_of(FLAT, [0.0, 1.0, 0.5]), "label is fractional", "row 2.*found 0.5"),
    "label NaN": (tensors_of(FLAT, [0.0, float("nan"), 0.5]), "label is NaN or infinite", "row 1"),
    "several labels not 0 or 1": (
        tensors_of(FLAT, [[0.0, 1.0], [1.0, 0.0], [1.0, 2.0]]),
        "label is out of range",
        "row 2, column 1.*expected 0 or 1",
    ),
    "several labels fractional": (
        tensors_of(FLAT, [[0.0, 1.0], [0.3, 0.0], [1.0, 2.0]]),
        "label is fractional",
        "row 1, column 0",
    ),
    "complex labels": (
        FLAT_TENSORS | {"labels": torch.zeros(3, dtype=torch.complex64)},
        "labels has the wrong dtype",
        "complex64",
    ),
    "no mask": ({"input_ids": IDS}, "tensor attention_mask is missing", "found input_ids"),
    "no ids": ({"ids": IDS, "attention_mask": PADDING}, "tensor input_ids is missing", "found ids"),
    "an extra tensor": (
        FLAT_TENSORS | {"token_type_ids": IDS},
        "tensors that are not read",
        "token_type_ids",
    ),
    "a list for a tensor": (FLAT_TENSORS | {"labels": [0, 1, 0]}, "labels is not a tensor", "found list"),
    "one tensor alone": (IDS, "another content", "found Tensor"),
    "a dataset of one tensor": (TensorDataset(IDS), "wrong number of tensors", "found 1"),
    "a dataset of four tensors": (TensorDataset(IDS, IDS, IDS, IDS), "wrong number of tensors", "found 4"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_with_file_row_and_column(fault, opened):
    content, what, details = FAULTS[fault]
    with pytest.raises(DataError, match=details) as caught:
        opened(content)
    message = str(caught.value)
    assert what in message
    assert "train.pt" in message
    assert "\n" not in message


def test_a_tensor_dataset_of_something_else_is_refused(opened):
    forged = TensorDataset(torch.zeros(1))
    forged.tensors = 5
    with pytest.raises(
        DataError, match=r"wrong number of tensors; .*train\.pt; found int, expected a Tensor"
    ):
        opened(forged)


def test_a_damaged_file_is_refused(tmp_path):
    torch.save(FLAT_TENSORS, tmp_path / "train.pt")
    whole = (tmp_path / "train.pt").read_bytes()
    (tmp_path / "train.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"train\.pt"):
        open_pt(tmp_path / "train.pt")
