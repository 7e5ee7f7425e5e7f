"""What is measured in each suite: the rows, and what is asked of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from benchmarks.document_work import DocumentWork
from benchmarks.exactness import measure_exactness
from benchmarks.frozen_base import measure_frozen_base
from benchmarks.growth import measure_growth
from benchmarks.long_documents import measure_documents
from benchmarks.mlm import MlmWork, measure_mlm
from benchmarks.peers import Peer, prediction_peers, training_peers
from benchmarks.preparing import measure_preparing
from benchmarks.workloads import (
    FOUR_LAYERS,
    MAX_CHUNKS,
    ROBERTA_BASE,
    SIX_LAYERS,
    Shape,
    document_lengths,
    lognormal_chunk_counts,
    normal_lengths,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
MEAN_CHUNKS = 8

Wanted = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that is measured.

    Attributes:
        name: of its file.
        title: what is done.
        device: where.
        measure: returns what the page shows: ``comparisons`` with their facts, or ``tables``.
        wanted: name of a comparison → the ratio that is asked for at least, and the one aimed at.
    """

    name: str
    title: str
    device: torch.device
    measure: Callable[[], dict[str, Any]]
    wanted: Wanted = field(default_factory=dict)


def mlm_row(
    name: str, title: str, work: MlmWork, peers: Mapping[str, Peer], wanted: Wanted, repetitions: int
) -> Row:
    """Return a row of masked-language-model steps."""
    measure = functools.partial(measure_mlm, work, peers, repetitions=repetitions)
    return Row(name, f"MLM step, {title}", work.device, measure, wanted)


def document_row(
    name: str,
    title: str,
    shape: Shape,
    documents: int,
    peers: Mapping[str, Peer],
    wanted: Wanted,
    *,
    training: bool,
    repetitions: int,
    device: torch.device = CPU,
    compiled: bool = False,
) -> Row:
    """Return a row of long documents, chunk counts log-normal with mean 8, at most 20."""
    work, chunks = lognormal_documents(shape, documents, device, training=training)
    work = replace(work, compiled=compiled)
    measure = functools.partial(measure_documents, work, peers, repetitions=repetitions)
    kind = "training step" if training else "prediction"
    return Row(name, f"Long documents, {kind}, {title}, {chunks}", device, measure, wanted)


def lognormal_documents(
    shape: Shape, documents: int, device: torch.device, *, training: bool
) -> tuple[DocumentWork, str]:
    """Return documents of log-normal chunk counts, mean 8, at most 20, and the same in words."""
    counts = lognormal_chunk_counts(documents, mean=MEAN_CHUNKS, most=MAX_CHUNKS)
    lengths = tuple(document_lengths(counts, chunk_size=shape.length))
    words = f"{documents} documents of {sum(counts) / len(counts):.1f} chunks on average"
    if documents == 1:
        words = f"1 document of {counts[0]} chunks"
    return DocumentWork(shape, lengths, device, training=training), words


def frozen_row(documents: int, repetitions: int) -> Row:
    """Return the row of epochs with a frozen encoder."""
    work, words = lognormal_documents(SIX_LAYERS, documents, CPU, training=True)
    measure = functools.partial(measure_frozen_base, work, samples_per_step=8, repetitions=repetitions)
    return Row("frozen-6x256", f"Epochs with a frozen encoder, 6×256, {words}", CPU, measure)


def preparing_row(sizes: tuple[int, ...], repetitions: int) -> Row:
    """Return the row of ``textclf prepare``, for corpora of these many characters."""
    measure = functools.partial(measure_preparing, sizes, repetitions=repetitions)
    return Row("prepare", "Preparing text: textclf prepare beside encode_batch alone", CPU, measure)


def exactness_row(documents: int) -> Row:
    """Return the row of losses, gradients and the curve in bf16."""
    measure = functools.partial(measure_exactness, SIX_LAYERS, mixed(documents), steps=300, seeds=3)
    return Row("exactness", "Exactness of the fast path, 6×256, and of bf16, 2×64", CPU, measure)


def growth_row(chunk_counts: tuple[int, ...], store_sizes: tuple[int, ...], repetitions: int) -> Row:
    """Return the row of how cost grows; ``store_sizes`` in MB."""
    measure = functools.partial(
        measure_growth,
        SIX_LAYERS,
        lengths=(64, 128, 256, 512),
        tokens=4096,
        chunk_counts=chunk_counts,
        store_sizes=store_sizes,
        repetitions=repetitions,
    )
    return Row("growth", "How cost grows, 6×256, V 16000", CPU, measure)


def asked(naive: tuple[float, float], strong: tuple[float, float]) -> Wanted:
    """Return what is asked against each peer of a row."""
    return {"naive": naive, "strong, dropout 0.1": strong, "strong, our dropout": strong, "strong": strong}


def mixed(count: int) -> tuple[int, ...]:
    """Return lengths as documents have them: N(256, 128), at most 512."""
    return tuple(normal_lengths(count, mean=256, deviation=128, most=512))


BASE_MLM = asked((6, 8.5), (1.5, 2))
FOUR_MLM = asked((30, 50), (6, 10))
SIX_MLM = asked((7.5, 10), (3, 4))
LONG = asked((14, 25), (1.5, 2.2))
PREDICTION = asked((8, 13), (1.8, 2.6))

EAGER = training_peers(compiled=False)
COMPILED = training_peers(compiled=True)
# whole chunks of roberta-base with gradients: as many as fit beside our side into 24 GB
FEWER_ROWS = training_peers(compiled=False, rows=2)
PREDICTING = prediction_peers()
STRONG = ("strong, dropout 0.1", "strong, our dropout")
ASKED = ("naive", *STRONG)


def some(peers: Mapping[str, Peer], *names: str) -> Mapping[str, Peer]:
    """Return the peers of these names: the small suite leaves out what takes long."""
    return {name: peers[name] for name in names}


def in_one_pass(peers: Mapping[str, Peer], rows: int) -> Mapping[str, Peer]:
    """Let naive compute a step's ``rows`` at once, as a plain loop does."""
    return {name: replace(peer, rows=rows) if name == "naive" else peer for name, peer in peers.items()}


def mlm_rows(*, base: int, four: int, six: int, repetitions: int, peers: tuple[str, ...]) -> list[Row]:
    """Return the three rows with these numbers of sequences, beside ``peers``."""
    return [
        mlm_row(
            "mlm-base",
            f"roberta-base, {base} × 512 full",
            MlmWork(ROBERTA_BASE, (512,) * base, CPU),
            in_one_pass(some(EAGER, *peers), base),
            BASE_MLM,
            repetitions,
        ),
        mlm_row(
            "mlm-4x256",
            f"4×256, V 50265, {four} documents of lengths N(256, 128)",
            MlmWork(FOUR_LAYERS, mixed(four), CPU),
            in_one_pass(some(COMPILED, *peers), four),
            FOUR_MLM,
            repetitions,
        ),
        mlm_row(
            "mlm-6x256",
            f"6×256, V 16000, {six} × 512 full",
            MlmWork(SIX_LAYERS, (512,) * six, CPU),
            in_one_pass(some(EAGER, *peers), six),
            SIX_MLM,
            repetitions,
        ),
    ]


def small_rows() -> list[Row]:
    """Return what ``make bench`` measures."""
    return [
        *mlm_rows(base=1, four=16, six=8, repetitions=2, peers=ASKED),
        document_row(
            "long-6x256",
            "6×256",
            SIX_LAYERS,
            4,
            some(EAGER, *ASKED),
            LONG,
            training=True,
            repetitions=2,
        ),
        document_row(
            "long-base",
            "roberta-base",
            ROBERTA_BASE,
            1,
            some(EAGER, *STRONG),
            LONG,
            training=True,
            repetitions=2,
        ),
        document_row(
            "predict-6x256", "6×256", SIX_LAYERS, 4, PREDICTING, PREDICTION, training=False, repetitions=3
        ),
        frozen_row(documents=16, repetitions=3),
        preparing_row((2_000_000, 8_000_000), repetitions=2),
        exactness_row(documents=4),
        growth_row((1, 8, 32), (1, 100), repetitions=2),
    ]


def full_rows() -> list[Row]:
    """Return what ``make bench-full`` measures."""
    return [
        *mlm_rows(base=8, four=32, six=32, repetitions=3, peers=tuple(EAGER)),
        document_row("long-6x256", "6×256", SIX_LAYERS, 8, EAGER, LONG, training=True, repetitions=3),
        document_row(
            "long-base", "roberta-base", ROBERTA_BASE, 2, FEWER_ROWS, LONG, training=True, repetitions=2
        ),
        document_row(
            "predict-6x256", "6×256", SIX_LAYERS, 32, PREDICTING, PREDICTION, training=False, repetitions=3
        ),
        document_row(
            "predict-base",
            "roberta-base",
            ROBERTA_BASE,
            4,
            PREDICTING,
            PREDICTION,
            training=False,
            repetitions=2,
        ),
        frozen_row(documents=128, repetitions=3),
        preparing_row((10_000_000, 80_000_000), repetitions=3),
        exactness_row(documents=16),
        growth_row((1, 2, 4, 8, 16, 32, 64, 128), (1, 10, 100, 1000), repetitions=3),
    ]


def gpu_rows() -> list[Row]:
    """Return what ``make bench-gpu`` measures."""
    peers = some(training_peers(compiled=True, rows=64), *STRONG)
    rows = []
    for compiled, suffix, words in ((False, "", ""), (True, "-compiled", ", our layers compiled")):
        rows += [
            mlm_row(
                f"mlm-base-gpu{suffix}",
                f"roberta-base, 256 documents of lengths N(256, 128){words}",
                MlmWork(ROBERTA_BASE, mixed(256), CUDA, compiled),
                peers,
                {},
                10,
            ),
            document_row(
                f"long-base-gpu{suffix}",
                f"roberta-base{words}",
                ROBERTA_BASE,
                32,
                peers,
                asked((14, 25), (5, 5)),
                training=True,
                repetitions=10,
                device=CUDA,
                compiled=compiled,
            ),
        ]
    return rows


SUITES: Mapping[str, list[Row]] = {"small": small_rows(), "full": full_rows(), "gpu": gpu_rows()}
