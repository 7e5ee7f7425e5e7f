"""Attention and occlusion are what they say, and their places are places in the original text."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from end_to_end.conftest import Checkout

from textclf_transformer.data.chunking import chunk_spans
from textclf_transformer.data.collate import add_special_tokens
from textclf_transformer.data.encoding import encode_documents
from textclf_transformer.data.text_documents import TOKEN_DTYPE, TextDocuments
from textclf_transformer.data.text_files import Document
from textclf_transformer.errors import NonFiniteError
from textclf_transformer.evaluation import explain
from textclf_transformer.evaluation.explain import all_passages, decisive_passages, explain_documents
from textclf_transformer.evaluation.loaded_run import LoadedRun, load_run

LONG = "Sœil ☕ SOIL and some pèople who — said!! that it was \U0001f331 seed early. " * 3
TEXTS = (
    "soil seed",
    LONG,
    "the ship of the tide once again there it was late early some people who said that " * 2,
)


def tokenised(run: LoadedRun, texts: tuple[str, ...] = TEXTS) -> TextDocuments:
    documents = [Document(text, None, str(place), None, "memory") for place, text in enumerate(texts)]
    batch = encode_documents(documents, run.tokenizer, token_dtype=TOKEN_DTYPE, with_text=True)
    return TextDocuments.from_batch(batch, run.tokenizer, path="memory")


def chunks_of(run: LoadedRun, documents: TextDocuments, index: int) -> list[torch.Tensor]:
    content = documents.tokens(index)
    spans = chunk_spans(len(content), chunk_size=run.chunk_size, stride=run.stride, max_chunks=run.max_chunks)
    ids = {"cls_token_id": run.tokenizer.cls_token_id, "sep_token_id": run.tokenizer.sep_token_id}
    return [torch.from_numpy(add_special_tokens(content[start:stop], **ids)) for start, stop in spans]


def forward(run: LoadedRun, chunks: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """The model on one padded document, as anybody would call it."""
    ids = torch.nn.utils.rnn.pad_sequence(chunks, batch_first=True, padding_value=run.tokenizer.pad_token_id)
    lengths = torch.tensor([len(chunk) for chunk in chunks])
    mask = torch.arange(ids.shape[1]) >= lengths[:, None]
    with torch.inference_mode():
        return run.model(ids[None], mask[None], return_attention=True)


def test_what_is_explained_of_several_labels_is_all_of_the_decision():
    logits = np.array([[2.0, -1.0, 0.5], [-3.0, 0.0, 1.0]], dtype=np.float32)
    found = explain._log_probability_of(np.array([[1, 0, 1]]), logits, multi_label=True)
    chances = 1 / (1 + np.exp(-logits.astype(np.float64)))
    expected = np.log(chances[:, 0] * (1 - chances[:, 1]) * chances[:, 2])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_logit_that_is_not_finite_is_named(finetuned: Checkout) -> None:
    run = load_run("ft", float32=True)
    with torch.no_grad():
        next(run.model.parameters()).fill_(torch.nan)
    with pytest.raises(NonFiniteError, match="document"):
        explain_documents(run, run.batches(tokenised(run)))


def test_scores_are_those_of_the_model_itself(finetuned: Checkout) -> None:
    run = load_run("ft", float32=True)
    documents = tokenised(run)
    batches = run.batches(documents)
    logits, scores = explain_documents(run, batches)
    assert np.array_equal(logits, run.logits(batches))
    for index in range(len(TEXTS)):
        chunks = chunks_of(run, documents, index)
        whole = forward(run, chunks)
        np.testing.assert_allclose(scores[index].attention_weights, whole["attention_weights"][0], rtol=1e-4)
        drops = scores[index].occlusion_drops
        if len(chunks) == 1:
            assert drops is None
            continue
        label = int(whole["logits"].argmax())
        full = whole["logits"].log_softmax(1)[0, label]
        without = [forward(run, chunks[:c] + chunks[c + 1 :])["logits"] for c in range(len(chunks))]
        expected = [float(full - logits.log_softmax(1)[0, label]) for logits in without]
        assert drops is not None
        np.testing.assert_allclose(drops, expected, atol=1e-5)
    assert scores[0].occlusion_drops is None and scores[1].occlusion_drops is not None


def test_places_are_those_of_the_original_text(finetuned: Checkout) -> None:
    run = load_run("ft", float32=True)
    documents = tokenised(run)
    _, scores = explain_documents(run, run.batches(documents))
    for index, text in enumerate(TEXTS):
        spans = chunk_spans(
            int(documents.lengths[index]),
            chunk_size=run.chunk_size,
            stride=run.stride,
            max_chunks=run.max_chunks,
        )
        passages = all_passages(run, documents, index, scores[index])
        assert [passage.chunk for passage in passages] == list(range(len(spans)))
        for passage in passages:
            assert passage.text == text[passage.start : passage.end] != ""
            start, stop = spans[passage.chunk]
            again = run.tokenizer.encode_batch([passage.text])[0]
            assert again.ids == documents.tokens(index)[start:stop].tolist()


def test_the_passages_are_the_first_by_each_measure(finetuned: Checkout) -> None:
    run = load_run("ft", float32=True)
    documents = tokenised(run)
    _, scores = explain_documents(run, run.batches(documents))
    passages = decisive_passages(all_passages(run, documents, 1, scores[1]))
    drops = scores[1].occlusion_drops
    assert drops is not None
    assert passages[0].chunk == drops.argmax() and passages[0].occlusion_drop == drops.max()
    assert int(scores[1].attention_weights.argmax()) in {passage.chunk for passage in passages}
    found = [passage.occlusion_drop for passage in passages]
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("vectors_at_once", [1, 7])
def test_groups_of_variants_change_nothing(
    finetuned: Checkout, monkeypatch: pytest.MonkeyPatch, vectors_at_once: int
) -> None:
    run = load_run("ft", float32=True)
    batches = run.batches(tokenised(run))
    _, expected = explain_documents(run, batches)
    monkeypatch.setattr("textclf_transformer.evaluation.explain._VECTORS_AT_ONCE", vectors_at_once)
    _, found = explain_documents(run, batches)
    for one, other in zip(expected, found, strict=True):
        if one.occlusion_drops is not None:
            np.testing.assert_allclose(one.occlusion_drops, other.occlusion_drops, atol=1e-6)
