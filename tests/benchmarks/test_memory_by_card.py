from __future__ import annotations

import itertools

import pytest

from benchmarks.memory_by_card import (
    BATCH_SIZES,
    CARDS_GIB,
    END,
    GROUPS,
    PAGE,
    SHARE_OF_CARD,
    START,
    largest_batch,
    needed_gib,
    roberta_base,
    tables,
)
from textclf_transformer.commands.estimate import StepLoad, estimate_cost
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification


@pytest.fixture(scope="module")
def model() -> HierarchicalRobertaForClassification:
    return roberta_base()


def page_rows(heading: str) -> dict[str, list[str]]:
    """Return the cells of the page's table whose first column is so named."""
    made = PAGE.read_text(encoding="utf-8").split(START)[1].split(END)[0]
    lines = made[made.index(f"| {heading} |") :].split("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in rows}


def test_the_page_has_the_tables_that_the_script_makes() -> None:
    made = PAGE.read_text(encoding="utf-8").split(START)[1].split(END)[0]
    assert made.strip() == "\n".join(tables()).strip(), "run python -m benchmarks.memory_by_card"


def test_the_figures_are_those_of_the_estimate(model: HierarchicalRobertaForClassification) -> None:
    rows = page_rows("documents")
    assert list(rows) == [str(size) for size in BATCH_SIZES]
    for documents, cells in rows.items():
        tokens = int(documents) * 20 * 512
        for group, cell in zip(GROUPS, cells, strict=True):
            load = StepLoad(
                sequence_length=512,
                tokens_per_step=tokens,
                tokens_per_micro_batch=tokens,
                wanted_share=1 / 512,
                recompute="nothing" if group is None else "chunks",
                tokens_per_group=(group or 0) * 512,
                tokens_kept=2 * (group or 0) * 512,
                amp=True,
                attention_backend="varlen",
                attention_dropout=True,
            )
            cost = estimate_cost(model, model.encoder, load)
            assert cost.trainable_parameters == cost.parameters == 124_549_379
            assert cell == f"{(cost.state_bytes + cost.activation_bytes) / 2**30:.1f}"


def test_more_documents_or_larger_groups_never_need_less(
    model: HierarchicalRobertaForClassification,
) -> None:
    """No checkpointing is as one group of everything. Each group kept has 16-bit weights of its own."""
    copies = 2 * sum(p.numel() for p in model.encoder.layers.parameters() if p.ndim == 2) / 2**30
    *_, largest = smaller_to_larger = [*(group for group in GROUPS if group is not None), None]
    assert largest is None
    for size in BATCH_SIZES:
        column = [needed_gib(model, batch_size=size, chunks_per_group=group) for group in smaller_to_larger]
        assert all(less <= more + copies for less, more in itertools.pairwise(column))
    for group in GROUPS:
        row = [needed_gib(model, batch_size=size, chunks_per_group=group) for size in BATCH_SIZES]
        assert row == sorted(row)
    assert needed_gib(model, batch_size=32, chunks_per_group=4) < needed_gib(
        model, batch_size=1, chunks_per_group=None
    )


def test_the_largest_batch_fits_and_one_document_more_does_not(
    model: HierarchicalRobertaForClassification,
) -> None:
    for group in GROUPS:
        fitting = [largest_batch(model, card_gib=card, chunks_per_group=group) for card in CARDS_GIB]
        assert fitting == sorted(fitting)
        for card, documents in zip(CARDS_GIB, fitting, strict=True):
            room = SHARE_OF_CARD * card
            assert documents == 0 or room >= needed_gib(model, batch_size=documents, chunks_per_group=group)
            assert documents == BATCH_SIZES[-1] or room < needed_gib(
                model, batch_size=documents + 1, chunks_per_group=group
            )
    assert largest_batch(model, card_gib=2, chunks_per_group=4) == 0


def test_rows_of_cards_name_what_fits(model: HierarchicalRobertaForClassification) -> None:
    rows = page_rows("card")
    assert list(rows) == [f"{card} GB" for card in CARDS_GIB]
    for card in CARDS_GIB:
        documents = largest_batch(model, card_gib=card, chunks_per_group=None)
        assert 0 < documents < BATCH_SIZES[-1] and rows[f"{card} GB"][0] == str(documents)
        assert rows[f"{card} GB"][1] == f"{BATCH_SIZES[-1]} or more"
