"""Long documents in chunks: one optimizer step, and prediction."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.document_peer import Theirs
from benchmarks.document_work import DocumentWork
from benchmarks.harness import Side, compare
from benchmarks.ours import OurStep, dense_attention, settle_process
from benchmarks.peers import Peer
from benchmarks.workloads import TEMPLATE, Dropouts
from textclf_transformer.evaluation.inference import document_logits
from textclf_transformer.training.losses import document_loss
from textclf_transformer.training.numerics import choose_amp_dtype


class OurPrediction:
    """What evaluate and predict do once the text is tokens, batches made beside the computing."""

    def __init__(self, work: DocumentWork) -> None:
        self._work = work
        self._model = work.model(TEMPLATE).to(work.device).eval()
        self._amp_dtype = choose_amp_dtype(work.device, use_amp=True, amp_dtype="auto")

    def run(self) -> None:
        """Classify the documents."""
        self._logits(self._amp_dtype)

    def check(self) -> list[float]:
        """Return the logits in float32."""
        with dense_attention(self._model):
            return [float(value) for value in self._logits(None).flatten()]

    def _logits(self, amp_dtype: torch.dtype | None) -> NDArray[np.float32]:
        return document_logits(
            self._model,
            self._work.batches(),
            device=self._work.device,
            amp_dtype=amp_dtype,
            should_stop=lambda: False,
        )


def our_side(work: DocumentWork, dropouts: Dropouts) -> Side:
    """Return our side of the work."""
    settle_process()
    if not work.training:
        return OurPrediction(work)
    model = work.model(dropouts)
    if work.compiled:
        model.encoder.compile_layers()
    return OurStep(model, work.micro_batches(), loss=document_loss, device=work.device)


def measure_documents(work: DocumentWork, peers: Mapping[str, Peer], *, repetitions: int) -> dict[str, Any]:
    """Measure our side against each peer; our dropout is the template's against naive, else the peer's."""
    comparisons = {}
    for name, peer in peers.items():
        comparisons[name] = {
            "peer": str(peer),
            "their_dropout": str(peer.dropouts) if work.training else "none",
            "our_dropout": str(peer.our_dropouts) if work.training else "none",
            **compare(
                functools.partial(our_side, work, peer.our_dropouts),
                functools.partial(Theirs, work, peer),
                repetitions=repetitions,
                device=work.device,
            ),
        }
    return {**work.facts(), "comparisons": comparisons}
