"""Whole folders against transformers in several shapes: theirs loaded here, ours there, gradients too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from deberta_cases import make_hf_deberta
from model_cases import (
    PAD,
    assert_same_gradients,
    make_batch,
    make_hf,
    make_labels,
    relative_error,
    spread_weights,
)
from torch import Tensor, nn
from torch.nn import functional as F

from textclf_transformer.model.heads import RobertaForMaskedLM
from textclf_transformer.model.pretrained import roberta_state_from_hf
from textclf_transformer.model.pretrained_deberta import deberta_state_from_hf
from textclf_transformer.model.sequence_classification import RobertaForSequenceClassification

Ours = RobertaForMaskedLM | RobertaForSequenceClassification

BOUND = {torch.float32: 1e-5, torch.float64: 1e-10}
LABELS = 4

# (changes of the shape, length of the batch)
SHAPES: dict[str, tuple[dict[str, int], int]] = {
    "5 heads, 3 layers": ({"hidden_size": 35, "num_attention_heads": 5, "num_hidden_layers": 3}, 9),
    "7 heads of one": ({"hidden_size": 7, "num_attention_heads": 7}, 6),
    "length 1": ({}, 1),
    "longest length": ({}, 16),
}
TASKS: dict[str, type[Ours]] = {
    "ForMaskedLM": RobertaForMaskedLM,
    "ForSequenceClassification": RobertaForSequenceClassification,
}


def batch_for(family: str, length: int) -> tuple[Tensor, Tensor]:
    """Padding inside for a RoBERTa; a DeBERTa of transformers counts padding as places, so on the right.

    The first column is real: transformers takes it for [CLS].
    """
    ids, mask = make_batch("inside" if family == "roberta" else "right", length=length)
    first = mask[:, 0].clone()
    mask[:, 0] = False
    ids[first, 0] = PAD + 1
    return ids, mask


def add_up_exactly(hf: transformers.PreTrainedModel) -> None:
    """Round positions and token types so that their sum, which is stored here in float32, is exact."""
    with torch.no_grad():
        for name in ("position_embeddings", "token_type_embeddings"):
            weight = getattr(hf.roberta.embeddings, name).weight
            weight.copy_((weight * 4096).round() / 4096)


def logits_and_loss(
    model: nn.Module, ids: Tensor, mask: Tensor, targets: Tensor, *, theirs: bool
) -> tuple[Tensor, Tensor]:
    if theirs:
        logits = model(input_ids=ids, attention_mask=(~mask).long()).logits
        loss = F.cross_entropy(logits.flatten(0, -2), targets.flatten())
        return (logits[~mask] if logits.dim() == 3 else logits), loss
    output = model(ids, mask, targets)
    logits = output["logits"]
    return (logits[~mask] if logits.dim() == 3 else logits), output["loss"]


def gradients_by_our_names(hf: transformers.PreTrainedModel, family: str) -> dict[str, Tensor]:
    gradients = {name: parameter.grad for name, parameter in hf.named_parameters()}
    if family == "deberta":
        heads = hf.config.num_attention_heads
        return deberta_state_from_hf(gradients, num_attention_heads=heads)
    # the row of token types has no place in ours, and its gradient is no part of the positions'
    gradients.pop("roberta.embeddings.token_type_embeddings.weight")
    return roberta_state_from_hf(gradients, pad_token_id=PAD)


def assert_same(
    ours: Ours,
    hf: transformers.PreTrainedModel,
    family: str,
    batch: tuple[Tensor, Tensor, Tensor],
    *,
    bound: float,
) -> None:
    """Compare hidden states, logits, loss and the gradient of every parameter."""
    ids, mask, _ = batch
    with torch.no_grad():
        hidden = ours.encoder(ids, mask)["last_hidden_state"]
        their_hidden = hf.base_model(ids, attention_mask=(~mask).long()).last_hidden_state
    assert relative_error(hidden[~mask], their_hidden[~mask]) < bound
    expected, expected_loss = logits_and_loss(hf, *batch, theirs=True)
    found, loss = logits_and_loss(ours, *batch, theirs=False)
    assert relative_error(found, expected) < bound
    assert relative_error(loss, expected_loss) < bound
    ours.zero_grad()
    expected_loss.backward()
    loss.backward()
    assert_same_gradients(ours, gradients_by_our_names(hf, family), bound=bound)


@pytest.mark.parametrize("dtype", BOUND, ids=str)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", ["roberta", "deberta"])
@pytest.mark.parametrize("shape", SHAPES)
def test_folders_compute_the_same_on_both_sides(
    shape: str, family: str, task: str, dtype: torch.dtype, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if dtype == torch.float64 and family == "deberta":
        request.getfixturevalue("in_float64")
    changes, length = SHAPES[shape]
    more = {} if task == "ForMaskedLM" else {"num_labels": LABELS}
    maker = make_hf if family == "roberta" else make_hf_deberta
    hf = maker(f"{family.capitalize()}{task}", **changes, **more)
    if family == "roberta":
        add_up_exactly(hf)
    hf.save_pretrained(tmp_path / "theirs")
    ours = TASKS[task].from_hf(tmp_path / "theirs").to(dtype).eval()
    hf.to(dtype)
    ids, mask = batch_for(family, length)
    targets = make_labels(mask) if task == "ForMaskedLM" else torch.tensor([0, 3, 1, 2])

    assert_same(ours, hf, family, (ids, mask, targets), bound=BOUND[dtype])

    spread_weights(ours.float(), seed=1)
    ours.to_hf(tmp_path / "ours")
    auto = getattr(transformers, f"AutoModel{task}")
    theirs, info = auto.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info.values()), info
    assert_same(ours.to(dtype), theirs.to(dtype).eval(), family, (ids, mask, targets), bound=BOUND[dtype])
