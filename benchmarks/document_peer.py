"""Hugging Face's encoder over the chunks of long documents."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.document_work import DocumentWork
from benchmarks.peers import (
    Peer,
    hugging_face,
    keep_mask,
    pad,
    peer_optimizer,
    peer_update,
)
from benchmarks.workloads import (
    MAX_CHUNKS,
    make_tokenizer,
)
from textclf_transformer.data.collate import DocumentBatch
from textclf_transformer.training.losses import label_loss
from textclf_transformer.training.numerics import autocast


@dataclass(slots=True)
class _Pass:
    """Documents that the other side computes together."""

    chunks: list[Tensor]
    counts: list[int]
    labels: list[int]
    samples: list[int]


class Theirs:
    """Hugging Face's RobertaModel over the chunks, our pooling and classifier (a thousandth of the work) on
    top.

    naive computes all ``MAX_CHUNKS`` chunks of each document, padded ones included, one place after the
    other, with gradient checkpointing in training. strong computes the real chunks only, those of similar
    length together.
    """

    def __init__(self, work: DocumentWork, peer: Peer) -> None:
        self._device, self._peer, self._training = work.device, peer, work.training
        self._head = work.model(peer.dropouts).to(self._device)
        self._encoder = hugging_face(self._head.encoder, "RobertaModel", peer, add_pooling_layer=False).to(
            self._device
        )
        # of our model, only what stands on top of the encoder is used from here on
        for parameter in self._head.encoder.parameters():
            parameter.requires_grad_(False)
            parameter.data = torch.empty(0)
        if peer.style == "naive" and self._training:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # its new name came with 5.20
                self._encoder.gradient_checkpointing_enable()
        self._parts = nn.ModuleList([self._encoder, self._head]).train(self._training)
        self._forward = torch.compile(self._encoder, dynamic=True) if peer.compiled else self._encoder
        self._trained = nn.ParameterList(p for p in self._parts.parameters() if p.requires_grad)
        self._optimizer = peer_optimizer(self._trained) if self._training else None
        self._passes = [pass_ for batch in work.micro_batches() for pass_ in self._cut(work, batch)]

    def _cut(self, work: DocumentWork, batch: DocumentBatch) -> list[_Pass]:
        """Divide a batch of ours into what fits into memory: at most ``rows`` documents, or their chunks."""
        tokenizer = make_tokenizer(work.shape.vocab_size)
        rows = [ids[~mask].tolist() for ids, mask in zip(batch.input_ids, batch.attention_mask, strict=True)]
        assert batch.labels is not None
        passes: list[_Pass] = []
        first = 0
        for count, label, sample in zip(
            batch.chunk_counts.tolist(), batch.labels, batch.sample_indices.tolist(), strict=True
        ):
            chunks = [torch.tensor(row) for row in rows[first : first + count]]
            first += count
            full = passes and (
                len(passes[-1].samples) == self._peer.rows
                or (self._peer.style == "strong" and len(passes[-1].chunks) + count > MAX_CHUNKS)
            )
            if not passes or full:
                passes.append(_Pass([], [], [], []))
            passes[-1].chunks.extend(chunks)
            passes[-1].counts.append(count)
            passes[-1].labels.append(int(label))
            passes[-1].samples.append(sample)
        self._empty = torch.tensor([tokenizer.cls_token_id, tokenizer.sep_token_id])
        self._pad_token_id, self._longest = tokenizer.pad_token_id, work.shape.length
        return passes

    def run(self) -> None:
        """Train one step, or classify the documents."""
        if self._optimizer is None:
            with torch.inference_mode():
                for pass_ in self._passes:
                    self._logits(pass_, self._peer.amp_dtype(self._device)).float().cpu()
            return
        for pass_ in self._passes:
            logits = self._logits(pass_, self._peer.amp_dtype(self._device))
            loss = label_loss(logits, torch.tensor(pass_.labels, device=self._device))
            (loss / sum(len(other.samples) for other in self._passes)).backward()
        peer_update(self._trained, self._optimizer)

    def check(self) -> list[float]:
        """Return the loss in float32 without dropout; of prediction the logits, in the documents' order."""
        self._parts.eval()
        loss = 0.0
        logits: dict[int, list[float]] = {}
        with torch.inference_mode():
            for pass_ in self._passes:
                output = self._logits(pass_, None)
                loss += float(label_loss(output, torch.tensor(pass_.labels, device=self._device)))
                logits.update(zip(pass_.samples, output.tolist(), strict=True))
        self._parts.train(self._training)
        if self._training:
            return [loss / len(logits)]
        return [value for _, row in sorted(logits.items()) for value in row]

    def _logits(self, pass_: _Pass, amp_dtype: torch.dtype | None) -> Tensor:
        with autocast(self._device, amp_dtype):
            encode = self._by_place if self._peer.style == "naive" else self._real_chunks
            return self._head.classify_vectors(encode(pass_), torch.tensor(pass_.counts))["logits"]

    def _by_place(self, pass_: _Pass) -> Tensor:
        """Encode chunk 0 of all documents, then chunk 1 … up to ``MAX_CHUNKS``; return the real ones'
        vectors.
        """
        vectors = []
        documents = list(torch.arange(len(pass_.chunks)).split(pass_.counts))
        for place in range(MAX_CHUNKS):
            chunks = [pass_.chunks[int(own[place])] if place < len(own) else self._empty for own in documents]
            vectors.append(self._encode(chunks, self._longest))
        stacked = torch.stack(vectors, dim=1)  # (documents, MAX_CHUNKS, D)
        real = torch.arange(MAX_CHUNKS) < torch.tensor(pass_.counts).unsqueeze(1)
        return stacked[real.to(self._device)]

    def _real_chunks(self, pass_: _Pass) -> Tensor:
        """Encode the real chunks, grouped by length."""
        groups = self._peer.groups([len(chunk) for chunk in pass_.chunks])
        order = torch.tensor([index for group in groups for index in group])
        vectors = []
        for group in groups:
            chunks = [pass_.chunks[index] for index in group]
            vectors.append(self._encode(chunks, max(map(len, chunks))))
        return torch.cat(vectors)[order.argsort().to(self._device)]

    def _encode(self, chunks: list[Tensor], width: int) -> Tensor:
        ids = pad(chunks, width, self._pad_token_id).to(self._device)
        mask = keep_mask([len(chunk) for chunk in chunks], width).to(self._device)
        hidden: Tensor = self._forward(input_ids=ids, attention_mask=mask).last_hidden_state
        return hidden[:, 0]
