"""What a notebook gets: the rows that the commands would train on, as keywords of a model."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from textclf_transformer import create_classification_dataloader, create_mlm_dataloader, get_tokenizer
from textclf_transformer.data.opening import open_documents
from textclf_transformer.data.tensor_documents import ChunkedTensorDocuments
from textclf_transformer.errors import ConfigError, DataError
from textclf_transformer.tokenizer.base import TokenizerWrapper
from textclf_transformer.tokenizer.byte_bpe_tokenizer_wrapper import ByteLevelBPETokenizerWrapper
from textclf_transformer.tokenizer.training import train_byte_level_bpe

TEXTS = [f"word{i} and then some more words that are the same" for i in range(20)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TokenizerWrapper:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    trained = train_byte_level_bpe(TEXTS, vocab_size=300, min_frequency=2)
    ByteLevelBPETokenizerWrapper.from_tokenizer(trained).save(folder)
    return get_tokenizer(folder)


def content_ids(tokenizer: TokenizerWrapper, text: str) -> list[int]:
    return [int(token) for token in tokenizer.encode_batch([text])[0].ids]


def restored(batch: dict[str, torch.Tensor]) -> list[list[int]]:
    """Return the rows of a masked batch without mask and padding."""
    ids = torch.where(batch["labels"] == -100, batch["input_ids"], batch["labels"])
    return [row[~pad].tolist() for row, pad in zip(ids, batch["attention_mask"], strict=True)]


def test_each_epoch_has_all_texts_under_a_new_mask(tokenizer: TokenizerWrapper) -> None:
    loader = create_mlm_dataloader(TEXTS, tokenizer, batch_size=8, mask_probability=0.3)
    assert len(loader) == 3
    first, second = list(loader), list(loader)
    wanted = sorted(
        [tokenizer.cls_token_id, *content_ids(tokenizer, text), tokenizer.sep_token_id] for text in TEXTS
    )
    for epoch in (first, second):
        assert [len(batch["input_ids"]) for batch in epoch] == [8, 8, 4]
        assert sorted(row for batch in epoch for row in restored(batch)) == wanted
    masks = [
        {
            tuple(row): tuple(masked[~pad].tolist())
            for b in epoch
            for row, masked, pad in zip(restored(b), b["input_ids"], b["attention_mask"], strict=True)
        }
        for epoch in (first, second)
    ]
    assert sum(masks[0][row] != masks[1][row] for row in masks[0]) > 15
    share = sum(int((b["labels"] != -100).sum()) for b in first) / sum(len(row) - 2 for row in wanted)
    assert share == pytest.approx(0.3, abs=0.1)
    loader.epoch = 0
    assert all(torch.equal(a[k], b[k]) for a, b in zip(first, loader, strict=True) for k in a)


def test_labels_follow_their_texts(tokenizer: TokenizerWrapper) -> None:
    names = ["b" if i % 3 else "a" for i in range(20)]
    by_text = {tuple(content_ids(tokenizer, text)): name for text, name in zip(TEXTS, names, strict=True)}
    loader = create_classification_dataloader(TEXTS, names, tokenizer, batch_size=6)
    assert loader.label_names == ("a", "b")
    seen = 0
    for batch in loader:
        for ids, pad, label in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True):
            assert by_text[tuple(ids[~pad].tolist()[1:-1])] == loader.label_names[label]
            seen += 1
    assert seen == 20
    turned = create_classification_dataloader(TEXTS, names, tokenizer, batch_size=20, label_names=["b", "a"])
    assert int(next(iter(turned))["labels"].sum()) == names.count("a")
    numbers = create_classification_dataloader(TEXTS, list(range(20)), tokenizer, batch_size=20)
    assert numbers.label_names is not None and numbers.label_names[10] == "10"
    assert sorted(next(iter(numbers))["labels"].tolist()) == list(range(20))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([0, 2, 2], ("0", "1", "2")),
        (np.array([0, 2, 2]), ("0", "1", "2")),
        (list(np.array([0, 2, 2])), ("0", "1", "2")),
        (torch.tensor([0, 2, 2]), ("0", "1", "2")),
        (list(torch.tensor([0, 2, 2])), ("0", "1", "2")),
        ([False, True, True], ("false", "true")),
        (np.array([False, True, True]), ("false", "true")),
        (list(np.array([False, True, True])), ("false", "true")),
        (np.array(["a", "b", "b"]), ("a", "b")),
    ],
)
def test_labels_count_for_what_they_are_wherever_they_come_from(
    tokenizer: TokenizerWrapper, labels: Any, names: tuple[str, ...]
) -> None:
    loader = create_classification_dataloader(TEXTS[:3], labels, tokenizer, batch_size=3)
    assert loader.label_names == names
    last = len(names) - 1
    assert sorted(next(iter(loader))["labels"].tolist()) == [0, last, last]


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, None, "2", True])
def test_a_batch_holds_a_text_at_least(tokenizer: TokenizerWrapper, batch_size: Any) -> None:
    with pytest.raises(ConfigError, match="batch_size; found"):
        create_mlm_dataloader(TEXTS, tokenizer, batch_size=batch_size)
    with pytest.raises(ConfigError, match="batch_size; found"):
        create_classification_dataloader(TEXTS, [0] * len(TEXTS), tokenizer, batch_size=batch_size)


def test_chunks_of_a_document_stand_in_their_order_before_padding_chunks(tokenizer: TokenizerWrapper) -> None:
    texts = [TEXTS[0], " ".join(TEXTS)]
    loader = create_classification_dataloader(
        texts, [0, 1], tokenizer, batch_size=2, chunk_size=16, max_chunks=4
    )
    (batch,) = list(loader)
    ids, mask, labels = batch["input_ids"], batch["attention_mask"], batch["labels"]
    assert ids.shape == mask.shape == (2, 4, 16)
    long, short = (int((labels == label).nonzero()) for label in (1, 0))
    content = [int(i) for chunk in range(4) for i in ids[long, chunk][~mask[long, chunk]][1:-1]]
    assert content == content_ids(tokenizer, texts[1])[: 4 * 14]
    assert mask[short, 1:].all() and (ids[short, 1:] == tokenizer.pad_token_id).all()


def test_the_keys_of_a_dict_are_names_in_an_order(tokenizer: TokenizerWrapper) -> None:
    names: Any = {"y": 0, "x": 1}.keys()
    loader = create_classification_dataloader(
        ["a", "b"], ["x", "y"], tokenizer, batch_size=2, label_names=names
    )
    assert loader.label_names == ("y", "x")


def test_what_is_not_read_is_said(tokenizer: TokenizerWrapper, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        create_classification_dataloader(TEXTS, [0] * 20, tokenizer, batch_size=2, chunk_size=8)
    assert "are not read" in caplog.text


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        ([], [], "there are no documents"),
        (["a", ""], ["x", "y"], r"texts\[1\]"),
        (["a", None], ["x", "y"], r"texts\[1\]"),
        (["a", "\u200b"], ["x", "y"], r"the text is empty; texts\[1\]"),
        (["a", "half \ud800 a pair"], ["x", "y"], r"no valid character; texts\[1\]"),
        ("ab", ["x", "y"], "one string"),
        ({"text": ["a", "b"]}, ["x"], "texts are no items in an order; found dict"),
        (["a", "b"], "xy", "labels are no items in an order; found one string"),
        (["a", "b"], {"x", "y"}, "labels are no items in an order; found set"),
        (["a", "b"], {"x": 0, "y": 1}, "labels are no items in an order; found dict"),
        (["a", "b"], [0, 10**9], r"too high.*labels\[1\]; found 1000000000.*as strings"),
        (["a", "b"], ["x"], "one label"),
        (["a", "b"], ["x", "z"], "z"),
        (["a", "b"], ["x", None], r"labels\[1\].*null"),
        (["a", "b"], np.ones((2, 2)), r"of shape \(2, 2\)"),
    ],
)
def test_faulty_texts_and_labels(
    tokenizer: TokenizerWrapper, texts: list[str], labels: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        create_classification_dataloader(texts, labels, tokenizer, batch_size=2, label_names=["x", "y"])


def test_a_frame_is_not_taken_for_the_names_of_its_columns(tokenizer: TokenizerWrapper) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": TEXTS, "label": ["x"] * len(TEXTS)})
    with pytest.raises(DataError, match="texts are no items in an order; found DataFrame"):
        create_mlm_dataloader(frame, tokenizer, batch_size=2)
    with pytest.raises(DataError, match="texts are no items in an order; found DataFrame"):
        create_classification_dataloader(frame, ["x", "y"], tokenizer, batch_size=2)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("xy", "label_names are no items in an order; found one string"),
        ({"x", "y"}, "label_names are no items in an order; found set"),
        (["x", "y", "x"], "stands twice; label_names"),
        (["x", None], r"label_names\[1\]"),
    ],
)
def test_faulty_names(tokenizer: TokenizerWrapper, names: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        create_classification_dataloader(["a", "b"], ["x", "y"], tokenizer, batch_size=2, label_names=names)


def test_names_may_be_the_numbers_that_labels_are(tokenizer: TokenizerWrapper) -> None:
    loader = create_classification_dataloader(["a", "b"], [2, 7], tokenizer, batch_size=2, label_names=[7, 2])
    assert loader.label_names == ("7", "2")
    assert sorted(next(iter(loader))["labels"].tolist()) == [0, 1]


def test_texts_and_labels_may_come_one_by_one(tokenizer: TokenizerWrapper) -> None:
    given: Any = ((text for text in TEXTS), (place % 2 for place in range(len(TEXTS))))
    loader = create_classification_dataloader(*given, tokenizer, batch_size=20)
    assert int(next(iter(loader))["labels"].sum()) == 10


@pytest.mark.parametrize("setting", ["stride", "max_chunks"])
def test_zero_is_not_taken_for_the_default(tokenizer: TokenizerWrapper, setting: str) -> None:
    with pytest.raises(ConfigError, match=setting):
        create_classification_dataloader(
            TEXTS, [0] * len(TEXTS), tokenizer, batch_size=2, chunk_size=16, **{setting: 0}
        )


def test_the_blocks_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "notebooks.md"
    blocks = page.read_text(encoding="utf-8").split("```python\n")[1:]
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block.split("```")[0], page.name, "exec"), names)
    assert len(blocks) == 6
    output = names["output"]
    assert isinstance(output, dict) and output["logits"].shape == (2, 2)
    assert output["attention_weights"].shape == (2, 6)
    tokenizer: Any = names["tokenizer"]
    documents = open_documents(Path("mine.pt"), tokenizer=tokenizer, key="data.train.dataset_path")
    assert isinstance(documents, ChunkedTensorDocuments) and documents.label_names == ("0", "1")


@pytest.mark.parametrize(
    "given",
    [{"seed": None}, {"chunk_size": "8"}, {"stride": 1.5}, {"max_chunks": 1.5}, {"tokenizer": "tokenizer"}],
    ids=lambda given: next(iter(given)),
)
def test_an_argument_of_a_wrong_type_is_named(tokenizer: TokenizerWrapper, given: dict[str, Any]) -> None:
    (name,) = given
    arguments = {"tokenizer": tokenizer, "batch_size": 2, **given}
    with pytest.raises(ConfigError, match=f"; {name}; found"):
        create_classification_dataloader(TEXTS, [0] * len(TEXTS), **arguments)


@pytest.mark.parametrize(
    "given",
    [
        {"seed": 1.5},
        {"max_sequence_length": None},
        {"mask_probability": "0.15"},
        {"mask_probability": 15},
        {"tokenizer": None},
    ],
    ids=str,
)
def test_an_argument_of_a_wrong_type_is_named_for_mlm_too(
    tokenizer: TokenizerWrapper, given: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=f"; {next(iter(given))}; found"):
        create_mlm_dataloader(TEXTS, **{"tokenizer": tokenizer, "batch_size": 2, **given})


def test_a_loader_can_be_sent_to_another_process(tokenizer: TokenizerWrapper) -> None:
    loaders = [
        create_mlm_dataloader(TEXTS, tokenizer, batch_size=8),
        create_classification_dataloader(TEXTS, ["a", "b"] * 10, tokenizer, batch_size=8, max_chunks=2),
    ]
    for loader in loaders:
        list(loader)
        sent = pickle.loads(pickle.dumps(loader))
        assert (sent.epoch, sent.label_names) == (1, loader.label_names)
        for there, here in zip(sent, loader, strict=True):
            assert there.keys() == here.keys()
            assert all(torch.equal(there[name], here[name]) for name in here)
