"""Memory of a training step by batch size and gradient checkpointing, as the dry run estimates it.

    python -m benchmarks.memory_by_card

Writes two tables into docs/memory.md for roberta-base over documents of 20 chunks of 512 tokens: what a batch
needs, and which batch fits which card. Nothing is trained and no weights are made, so it takes seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from benchmarks.measuring import write_between
from textclf_transformer.commands.estimate import CostEstimate, StepLoad, estimate_cost
from textclf_transformer.experiment import CHECKOUT
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.model.presets import create_model

PAGE = CHECKOUT / "docs" / "memory.md"
START, END = "<!-- table: made by python -m benchmarks.memory_by_card -->", "<!-- end of table by card -->"
CARDS_GIB = (8, 12, 16, 24)
BATCH_SIZES = (1, 2, 4, 8, 16, 32)
# Chunks of a group under checkpointing, None: no checkpointing. 4 is the default.
GROUPS = (None, 4, 16, 32)
# The estimate leaves out the device's context and what the allocator rounds up.
SHARE_OF_CARD = 0.9
GIB = 1 << 30


def roberta_base(*, freeze_embeddings: bool = False) -> HierarchicalRobertaForClassification:
    """Return the published model, 20 chunks of 512 tokens, without memory for its weights."""
    with torch.device("meta"):
        return create_model(freeze_embeddings=freeze_embeddings)


def cost(
    model: HierarchicalRobertaForClassification, *, batch_size: int, chunks_per_group: int | None
) -> CostEstimate:
    """Return the dry run's estimate of a step in bf16 whose documents are full and computed at once.

    Args:
        model: from ``roberta_base``.
        batch_size: documents.
        chunks_per_group: chunks of a group that is computed again; None: everything is kept.
    """
    length, chunks = model.encoder.max_sequence_length, model.max_chunks
    assert chunks is not None
    tokens, group = batch_size * chunks * length, (chunks_per_group or 0) * length
    load = StepLoad(
        sequence_length=length,
        tokens_per_step=tokens,
        tokens_per_micro_batch=tokens,
        wanted_share=1 / length,
        recompute="nothing" if chunks_per_group is None else "chunks",
        tokens_per_group=group,
        tokens_kept=model.kept_chunk_groups * group,
        amp=True,
        attention_backend="varlen",
        attention_dropout=False,
    )
    return estimate_cost(model, model.encoder, load)


def needed_gib(
    model: HierarchicalRobertaForClassification, *, batch_size: int, chunks_per_group: int | None
) -> float:
    """Return weights, gradients, optimizer state and activations together."""
    estimate = cost(model, batch_size=batch_size, chunks_per_group=chunks_per_group)
    return (estimate.state_bytes + estimate.activation_bytes) / GIB


def largest_batch(
    model: HierarchicalRobertaForClassification, *, card_gib: float, chunks_per_group: int | None
) -> int:
    """Return how many documents fit a card, at most the last of ``BATCH_SIZES``; 0: not one."""
    fitting = 0
    for batch_size in range(1, BATCH_SIZES[-1] + 1):
        if needed_gib(model, batch_size=batch_size, chunks_per_group=chunks_per_group) > (
            SHARE_OF_CARD * card_gib
        ):
            break
        fitting = batch_size
    return fitting


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _headings(first: str) -> list[str]:
    names = ["no checkpointing" if group is None else f"groups of {group}" for group in GROUPS]
    return [_row([first, *names]), "|---:" * (1 + len(GROUPS)) + "|"]


def tables() -> list[str]:
    """Return both tables and what they stand for, in Markdown."""
    model = roberta_base()
    state = cost(model, batch_size=1, chunks_per_group=None).state_bytes / GIB
    frozen = cost(roberta_base(freeze_embeddings=True), batch_size=1, chunks_per_group=None).state_bytes / GIB
    lines = ["GiB for a micro-batch of so many documents:", "", *_headings("documents")]
    for size in BATCH_SIZES:
        needed = [needed_gib(model, batch_size=size, chunks_per_group=group) for group in GROUPS]
        lines.append(_row([size, *(f"{gib:.1f}" for gib in needed)]))
    lines += ["", "Most documents of a micro-batch that fit:", "", *_headings("card")]
    for card in CARDS_GIB:
        fitting = [largest_batch(model, card_gib=card, chunks_per_group=group) for group in GROUPS]
        cells = [f"{n} or more" if n == BATCH_SIZES[-1] else n or "none" for n in fitting]
        lines.append(_row([f"{card} GB", *cells]))
    return [
        *lines,
        "",
        f"Each figure holds {state:.1f} GiB of weights, gradients and AdamW's two moments; with the "
        f"embeddings frozen that is {state - frozen:.1f} GiB less. A card counts as full at "
        f"{100 * SHARE_OF_CARD:.0f} %, because "
        "the estimate leaves out the GPU's own context and what its allocator rounds up.",
        "",
    ]


def main() -> int:
    """Write the tables."""
    lines = tables()
    print("\n".join(lines))
    write_between(PAGE, START, END, "\n".join(lines))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
