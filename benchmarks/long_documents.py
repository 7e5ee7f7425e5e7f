"""Long documents in chunks: one optimizer step, and prediction."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.document_peer import Theirs
from benchmarks.document_work import LABEL_NAMES, DocumentWork
from benchmarks.harness import Side, compare
from benchmarks.ours import OurStep
from benchmarks.peers import (
    Peer,
)
from benchmarks.workloads import (
    MAX_CHUNKS,
    SEED,
    TEMPLATE,
    Dropouts,
    make_tokenizer,
)
from textclf_transformer.evaluation.loaded_run import MICRO_BATCH_TOKENS, LoadedRun
from textclf_transformer.experiment import RunFolder
from textclf_transformer.training.losses import document_loss


class OurPrediction:
    """What evaluate and predict do once the text is tokens."""

    def __init__(self, work: DocumentWork) -> None:
        self._documents = work.documents()
        self._run = LoadedRun(
            run=RunFolder.at(Path("benchmark")),
            checkpoint=Path("benchmark"),
            step=0,
            model=work.model(TEMPLATE).to(work.device).eval(),
            tokenizer=make_tokenizer(work.shape.vocab_size),
            label_names=LABEL_NAMES,
            multi_label=False,
            ordered=False,
            chunk_size=work.shape.length,
            stride=work.shape.length - 2,
            max_chunks=MAX_CHUNKS,
            seed=SEED,
            data_paths={},
            device=work.device,
            amp_dtype=None,
            trained_amp_dtype=None,
            tokens_per_micro_batch=MICRO_BATCH_TOKENS[work.device.type],
        )

    def run(self) -> None:
        """Classify the documents."""
        self._logits()

    def check(self) -> list[float]:
        """Return the logits."""
        return [float(value) for value in self._logits().flatten()]

    def _logits(self) -> np.ndarray[Any, Any]:
        return self._run.logits(self._run.batches(self._documents))


def our_side(work: DocumentWork, dropouts: Dropouts) -> Side:
    """Return our side of the work."""
    if not work.training:
        return OurPrediction(work)
    return OurStep(work.model(dropouts), work.micro_batches(), loss=document_loss, device=work.device)


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
