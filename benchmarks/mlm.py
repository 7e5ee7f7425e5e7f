"""One optimizer step of masked-language-model training."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.harness import compare
from benchmarks.ours import OurStep, settle_process
from benchmarks.peers import (
    IGNORE_INDEX,
    Peer,
    hugging_face,
    keep_mask,
    pad,
    peer_optimizer,
    peer_update,
)
from benchmarks.workloads import (
    MASK_P,
    SEED,
    Documents,
    Dropouts,
    Shape,
    make_tokenizer,
    mlm_step_flops,
)
from textclf_transformer.data.batches import MlmBatches
from textclf_transformer.data.collate import MlmBatch
from textclf_transformer.model.heads import RobertaForMaskedLM
from textclf_transformer.training.building import attention_backend_of, build_masked_lm
from textclf_transformer.training.losses import masked_lm_loss
from textclf_transformer.training.numerics import autocast, choose_amp_dtype
from textclf_transformer.utils import AUTO_MICRO_BATCH_TOKENS


@dataclass(frozen=True, slots=True)
class MlmWork:
    """What is learned from in one step.

    Attributes:
        shape: the encoder.
        lengths: tokens of each row, [CLS] and [SEP] included.
        device: where.
        compiled: whether our layers are compiled.
    """

    shape: Shape
    lengths: tuple[int, ...]
    device: torch.device
    compiled: bool = False

    def micro_batches(self) -> list[MlmBatch]:
        """Return the masked rows as our loop gets them."""
        return MlmBatches(
            Documents(np.array(self.lengths) - 2, self.shape.vocab_size),
            make_tokenizer(self.shape.vocab_size),
            max_sequence_length=self.shape.length,
            mask_p=MASK_P,
            mask_token_p=0.8,
            random_token_p=0.1,
            samples_per_step=len(self.lengths),
            tokens_per_micro_batch=AUTO_MICRO_BATCH_TOKENS[self.device.type],
            seed=SEED,
        ).step(0, 0)

    def model(self, dropouts: Dropouts, *, seed: int = SEED) -> RobertaForMaskedLM:
        """Return the model that pretraining would build, with the same weights at each call."""
        torch.manual_seed(seed)
        architecture = self.shape.architecture(dropouts)
        return build_masked_lm(
            architecture,
            vocab_size=self.shape.vocab_size,
            pad_token_id=make_tokenizer(self.shape.vocab_size).pad_token_id,
            tie_mlm_weights=True,
            enhanced_mask_decoder=None,
            attention_backend=attention_backend_of(
                architecture,
                device=self.device,
                amp_dtype=choose_amp_dtype(self.device, use_amp=True, amp_dtype="auto"),
            ).name,
            use_gradient_checkpointing=False,
        )

    def facts(self) -> dict[str, float]:
        """Return real tokens, targets and operations of one step."""
        batches = self.micro_batches()
        targets = [int(row.sum()) for batch in batches for row in batch.labels != IGNORE_INDEX]
        lengths = [int(row.sum()) for batch in batches for row in ~batch.attention_mask]
        return {
            "tokens": sum(lengths),
            "targets": sum(targets),
            "flops": mlm_step_flops(self.shape, lengths, targets),
        }


def our_side(work: MlmWork, dropouts: Dropouts) -> OurStep:
    """Return our training step."""
    settle_process()
    model = work.model(dropouts)
    if work.compiled:
        model.encoder.compile_layers()
    return OurStep(model, work.micro_batches(), loss=masked_lm_loss, device=work.device)


class TheirMlm:
    """Hugging Face's RobertaForMaskedLM on the same rows."""

    def __init__(self, work: MlmWork, peer: Peer) -> None:
        self._device, self._peer = work.device, peer
        pad_token_id = make_tokenizer(work.shape.vocab_size).pad_token_id
        ours = work.model(peer.dropouts)
        self._model: nn.Module = hugging_face(ours, "RobertaForMaskedLM", peer).to(self._device)
        self._model.train()
        self._optimizer = peer_optimizer(self._model)
        self._forward = torch.compile(self._model, dynamic=True) if peer.compiled else self._model
        rows = [
            (ids[~mask], labels[~mask])
            for batch in work.micro_batches()
            for ids, mask, labels in zip(batch.input_ids, batch.attention_mask, batch.labels, strict=True)
        ]
        self._batches = []
        lengths = [len(ids) for ids, _ in rows]
        for group in peer.groups(lengths):
            group_lengths = [lengths[index] for index in group]
            width = peer.width(group_lengths, work.shape.length)
            inputs = {
                "input_ids": pad([rows[index][0] for index in group], width, pad_token_id),
                "attention_mask": keep_mask(group_lengths, width),
                "labels": pad([rows[index][1] for index in group], width, IGNORE_INDEX),
            }
            self._batches.append({name: tensor.to(self._device) for name, tensor in inputs.items()})
        self._targets = [int((batch["labels"] != IGNORE_INDEX).sum()) for batch in self._batches]

    def run(self) -> None:
        """Train one step; the passes over its batches add up to the gradient of the mean loss."""
        for batch, targets in zip(self._batches, self._targets, strict=True):
            with autocast(self._device, self._peer.amp_dtype(self._device)):
                loss = self._forward(**batch).loss
            (loss * (targets / sum(self._targets))).backward()
        peer_update(self._model, self._optimizer)

    def check(self) -> list[float]:
        """Return the loss in float32 without dropout."""
        self._model.eval()
        total = 0.0
        with torch.inference_mode():
            for batch, targets in zip(self._batches, self._targets, strict=True):
                total += float(self._model(**batch).loss) * targets
        self._model.train()
        return [total / sum(self._targets)]


def measure_mlm(work: MlmWork, peers: Mapping[str, Peer], *, repetitions: int) -> dict[str, Any]:
    """Measure our step against each peer; our dropout is the template's against naive, else the peer's."""
    return {
        **work.facts(),
        "comparisons": {
            name: {
                "peer": str(peer),
                "their_dropout": str(peer.dropouts),
                "our_dropout": str(peer.our_dropouts),
                **compare(
                    functools.partial(our_side, work, peer.our_dropouts),
                    functools.partial(TheirMlm, work, peer),
                    repetitions=repetitions,
                    device=work.device,
                ),
            }
            for name, peer in peers.items()
        },
    }
