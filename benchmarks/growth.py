"""How cost grows: with the length of rows, with the chunks of a document, with the size of the data."""

from __future__ import annotations

import functools
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.document_work import DocumentWork
from benchmarks.harness import Sample, Side, SideProcess, alternate
from benchmarks.long_documents import our_side as our_documents
from benchmarks.mlm import MlmWork
from benchmarks.mlm import our_side as our_mlm
from benchmarks.workloads import (
    MASK_P,
    SEED,
    SPECIAL_TOKENS,
    TEMPLATE,
    Shape,
    document_lengths,
    make_tokenizer,
)
from textclf_transformer.data.batches import MlmBatches
from textclf_transformer.data.encoding import EncodedBatch
from textclf_transformer.data.opening import open_documents
from textclf_transformer.data.store_writer import StoreWriter
from textclf_transformer.data.text_files import Document
from textclf_transformer.utils import AUTO_MICRO_BATCH_TOKENS

CPU = torch.device("cpu")
TOKENS_PER_DOCUMENT = 500
DOCUMENTS_AT_ONCE = 2_000
LOADED_STEPS = 20

_ANONYMOUS = re.compile(r"^RssAnon:\s+(\d+) kB$", re.MULTILINE)


def measure_sides(sides: dict[str, Callable[[], Side]], *, repetitions: int) -> dict[str, list[Sample]]:
    """Measure several sides in turn, each in a process of its own."""
    with ExitStack() as stack:
        processes = {
            name: stack.enter_context(SideProcess(name, open_side, CPU)) for name, open_side in sides.items()
        }
        return alternate({name: side.run for name, side in processes.items()}, repetitions=repetitions)


def by_length(shape: Shape, lengths: Sequence[int], *, tokens: int, repetitions: int) -> list[list[str]]:
    """Return a table: a training step over as many tokens, in rows of different lengths."""
    works = {str(length): MlmWork(shape, (length,) * max(tokens // length, 1), CPU) for length in lengths}
    samples = measure_sides(
        {name: functools.partial(our_mlm, work, TEMPLATE) for name, work in works.items()},
        repetitions=repetitions,
    )
    rows = []
    first: tuple[float, float] | None = None
    for name, work in works.items():
        facts = work.facts()
        seconds = statistics.median(sample.seconds for sample in samples[name]) / facts["tokens"]
        flops = facts["flops"] / facts["tokens"]
        first = first or (seconds, flops)
        rows.append([name, f"{1e6 * seconds:.1f}", f"{seconds / first[0]:.2f}", f"{flops / first[1]:.2f}"])
    return rows


def by_chunks(shape: Shape, chunk_counts: Sequence[int], *, repetitions: int) -> list[list[str]]:
    """Return a table: a training step on one document, with gradient checkpointing over groups of chunks."""
    works = {
        str(count): DocumentWork(
            shape,
            tuple(document_lengths([count], chunk_size=shape.length)),
            CPU,
            training=True,
            max_chunks=max(chunk_counts),
            gradient_checkpointing=True,
        )
        for count in chunk_counts
    }
    samples = measure_sides(
        {name: functools.partial(our_documents, work, TEMPLATE) for name, work in works.items()},
        repetitions=repetitions,
    )
    rows = []
    for name, work in works.items():
        tokens = work.facts()["tokens"]
        seconds = statistics.median(sample.seconds for sample in samples[name])
        growth = max(sample.growth_mib for sample in samples[name])
        peak = max(sample.peak_mib for sample in samples[name])
        rows.append(
            [name, f"{seconds:.2f}", f"{1e6 * seconds / tokens:.1f}", f"{growth:,.0f}", f"{peak:,.0f}"]
        )
    return rows


@dataclass(frozen=True, slots=True)
class StoreWork:
    """A token store without text, made of random tokens.

    Attributes:
        folder: where it lies.
        vocab_size: of its tokens.
    """

    folder: Path
    vocab_size: int

    def write(self, *, megabytes: float) -> None:
        """Write it; two bytes for each token."""
        self.folder.mkdir()
        documents = max(int(megabytes * 1e6 / 2 / TOKENS_PER_DOCUMENT), 1)
        stream = np.random.default_rng(SEED)
        with StoreWriter(
            self.folder,
            tokenizer=make_tokenizer(self.vocab_size),
            tokenizer_kind="wordpiece",
            keep_text=False,
            multi_label=False,
        ) as writer:
            for start in range(0, documents, DOCUMENTS_AT_ONCE):
                count = min(DOCUMENTS_AT_ONCE, documents - start)
                tokens = stream.integers(
                    len(SPECIAL_TOKENS), self.vocab_size, size=count * TOKENS_PER_DOCUMENT
                )
                writer.append(
                    EncodedBatch(
                        [Document("", None, str(start + row), None, "made up") for row in range(count)],
                        tokens.astype("<u2"),
                        np.full(count, TOKENS_PER_DOCUMENT),
                        None,
                        None,
                        0,
                    )
                )
            writer.finish()


class Loading:
    """Opening a store and drawing batches from all over it."""

    def __init__(self, work: StoreWork) -> None:
        self._work = work

    def run(self) -> None:
        """Open it and draw the first step."""
        self._open().step(0, 0)

    def check(self) -> list[float]:
        """Return seconds to the first batch, seconds for a further one, and MiB that are not file pages."""
        before, start = _anonymous_mib(), time.perf_counter()
        batches = self._open()
        batches.step(0, 0)
        opened = time.perf_counter()
        steps = min(LOADED_STEPS, batches.steps_per_epoch)
        for step in range(steps):
            batches.step(0, step)
        per_step = (time.perf_counter() - opened) / steps
        return [opened - start, per_step, _anonymous_mib() - before]

    def _open(self) -> MlmBatches:
        tokenizer = make_tokenizer(self._work.vocab_size)
        return MlmBatches(
            open_documents(self._work.folder, tokenizer=tokenizer),
            tokenizer,
            max_sequence_length=TOKENS_PER_DOCUMENT + 2,
            mask_p=MASK_P,
            mask_token_p=0.8,
            random_token_p=0.1,
            samples_per_step=32,
            tokens_per_micro_batch=AUTO_MICRO_BATCH_TOKENS["cpu"],
            seed=SEED,
        )


def _anonymous_mib() -> float:
    found = _ANONYMOUS.search(Path("/proc/self/status").read_text(encoding="ascii"))
    return float("nan") if found is None else int(found[1]) / 1024


def by_store(vocab_size: int, sizes: Sequence[float]) -> list[list[str]]:
    """Return a table: stores of these sizes in MB, each opened in a fresh process after a first, warm one."""
    rows = []
    for megabytes in sizes:
        with tempfile.TemporaryDirectory() as temporary:
            work = StoreWork(Path(temporary) / "store", vocab_size)
            work.write(megabytes=megabytes)
            taken = []
            for _ in range(3):
                with SideProcess("loading", functools.partial(Loading, work), CPU) as side:
                    taken.append(side.check())
            start, step, memory = (statistics.median(column) for column in zip(*taken, strict=True))
        rows.append([f"{megabytes:g} MB", f"{1e3 * start:.0f}", f"{1e3 * step:.1f}", f"{memory:.0f}"])
    return rows


def measure_growth(
    shape: Shape,
    *,
    lengths: Sequence[int],
    tokens: int,
    chunk_counts: Sequence[int],
    store_sizes: Sequence[float],
    repetitions: int,
) -> dict[str, Any]:
    """Return the three tables."""
    return {
        "tables": [
            {
                "header": (
                    "tokens of a row",
                    "µs for a token",
                    "against the first",
                    "operations against the first",
                ),
                "rows": by_length(shape, lengths, tokens=tokens, repetitions=repetitions),
            },
            {
                "header": (
                    "chunks of the document",
                    "seconds for a step",
                    "µs for a token",
                    "MiB above before",
                    "peak MiB",
                ),
                "rows": by_chunks(shape, chunk_counts, repetitions=repetitions),
            },
            {
                "header": ("token store", "ms to the first batch", "ms for a further one", "MiB of memory"),
                "rows": by_store(shape.vocab_size, store_sizes),
            },
        ],
        "note": "Rows and documents: our training step with the template's dropout; documents with "
        "`training.gradient_checkpointing`. Store: opening it, and batches of 32 × 502 tokens from all "
        "over it.",
    }
