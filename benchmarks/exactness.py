"""How exact the fast path is: losses and gradients beside plain ones, and a training curve in bf16."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.mlm import MlmWork
from benchmarks.peers import MAX_GRAD_NORM, Peer, hugging_face
from benchmarks.workloads import MASK_P, SEED, SPECIAL_TOKENS, Documents, Dropouts, Shape, make_tokenizer
from textclf_transformer.data.batches import MlmBatches
from textclf_transformer.model.pretrained import roberta_state_from_hf
from textclf_transformer.training.losses import masked_lm_loss
from textclf_transformer.training.optim import build_adamw
from textclf_transformer.training.step import train_step
from textclf_transformer.utils import derive_seed

NO_DROPOUT = Dropouts(attention=0.0, hidden=0.0)
BOUNDS = {torch.float32: 1e-5, torch.float64: 1e-10}
CPU = torch.device("cpu")

CURVE_SHAPE = Shape(2, 64, 2, 128, 300, length=64)
CURVE_RATE = 2e-3
CURVE_DOCUMENTS = 64

Gradients = dict[str, Tensor]


def fast_gradients(model: Any, work: MlmWork) -> tuple[float, Gradients]:
    """Return loss and gradients by the way that training goes: real tokens, head on targets only."""
    model.zero_grad()
    batches = work.micro_batches()
    targets = sum(batch.num_targets for batch in batches)
    losses = [masked_lm_loss(model, batch) / targets for batch in batches]
    loss = torch.stack(losses).sum()
    loss.backward()
    return loss.item(), _gradients(model)


def plain_gradients(model: nn.Module, work: MlmWork) -> tuple[float, Gradients]:
    """Return the same by way of the logits of all positions and torch's own cross-entropy."""
    model.zero_grad()
    (batch,) = work.micro_batches()
    loss = model(batch.input_ids, batch.attention_mask, batch.labels)["loss"]
    loss.backward()
    return loss.item(), _gradients(model)


def hugging_face_gradients(model: Any, work: MlmWork, dtype: torch.dtype) -> tuple[float, Gradients]:
    """Return the same of Hugging Face's model with equal weights and padded rows, under our names."""
    (batch,) = work.micro_batches()
    theirs = hugging_face(model, "RobertaForMaskedLM", Peer("naive", NO_DROPOUT)).to(dtype)
    loss = theirs(
        input_ids=batch.input_ids, attention_mask=(~batch.attention_mask).long(), labels=batch.labels
    ).loss
    loss.backward()
    state = {name: p.grad for name, p in theirs.named_parameters() if "token_type" not in name}
    return loss.item(), roberta_state_from_hf(state, pad_token_id=model.encoder.pad_token_id)


def _gradients(model: nn.Module) -> Gradients:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def largest_difference(ours: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> float:
    """Return the largest distance of two gradients, relative to each tensor's largest value.

    A tensor whose gradient is 0 but for rounding (the bias of the keys) is measured by the largest of all.
    """
    if ours.keys() != others.keys():
        raise ValueError(f"other tensors: {sorted(ours.keys() ^ others.keys())}")
    largest = max(float(tensor.abs().max()) for tensor in others.values())
    return max(
        float((tensor - others[name]).abs().max()) / max(float(others[name].abs().max()), 1e-3 * largest)
        for name, tensor in ours.items()
    )


def compare_gradients(shape: Shape, lengths: tuple[int, ...]) -> list[list[str]]:
    """Return a table: the fast path beside the plain one and beside Hugging Face, in float32 and float64."""
    work = MlmWork(shape, lengths, CPU)
    rows = []
    for dtype, bound in BOUNDS.items():
        model = work.model(NO_DROPOUT).to(dtype)
        loss, gradients = fast_gradients(model, work)
        exact = work.model(NO_DROPOUT)  # its weights before they were turned into another dtype
        others = {
            "our plain path (dense head, torch's cross-entropy)": plain_gradients(model, work),
            "Hugging Face": hugging_face_gradients(exact, work, dtype),
        }
        for name, (other_loss, other_gradients) in others.items():
            rows.append(
                [
                    str(dtype).removeprefix("torch."),
                    name,
                    f"{abs(loss - other_loss) / abs(other_loss):.1e}",
                    f"{largest_difference(gradients, other_gradients):.1e}",
                    f"{bound:.0e}",
                ]
            )
    return rows


class Patterns(Documents):
    """Documents in which most tokens follow from the one before, so that there is something to learn."""

    def tokens(self, index: int, start: int = 0, stop: int | None = None) -> NDArray[np.int64]:
        """Return the tokens of one document, the same at each call, or those from ``start`` to ``stop``."""
        words = self.vocab - len(SPECIAL_TOKENS)
        following = np.random.default_rng(derive_seed("benchmark", "patterns")).permutation(words)
        stream = np.random.default_rng(derive_seed("benchmark", "pattern", index))
        token = int(stream.integers(words))
        tokens = []
        for is_random in stream.random(int(self.lengths[index])) < 0.1:
            token = int(stream.integers(words)) if is_random else int(following[token])
            tokens.append(token + len(SPECIAL_TOKENS))
        return np.array(tokens)[start:stop]


def training_curve(*, seed: int, steps: int, amp_dtype: torch.dtype | None) -> list[float]:
    """Return the loss of each step of a small model."""
    documents = Patterns(np.full(CURVE_DOCUMENTS, CURVE_SHAPE.length - 2), CURVE_SHAPE.vocab_size)
    tokenizer = make_tokenizer(CURVE_SHAPE.vocab_size)
    batches = MlmBatches(
        documents,
        tokenizer,
        max_sequence_length=CURVE_SHAPE.length,
        mask_p=MASK_P,
        mask_token_p=0.8,
        random_token_p=0.1,
        samples_per_step=16,
        tokens_per_micro_batch=16 * CURVE_SHAPE.length,
        seed=seed,
    )
    work = MlmWork(CURVE_SHAPE, (CURVE_SHAPE.length,), CPU)
    model = work.model(Dropouts(attention=0.0, hidden=0.1), seed=seed).train()
    optimizer = build_adamw(model, learning_rate=CURVE_RATE, weight_decay=0.01)
    loss: Callable[[Any, Any], Tensor] = masked_lm_loss
    losses = []
    for step in range(steps):
        result = train_step(
            model,
            batches.step(*divmod(step, batches.steps_per_epoch)),
            loss=loss,
            optimizer=optimizer,
            learning_rate=CURVE_RATE,
            max_grad_norm=MAX_GRAD_NORM,
            device=CPU,
            amp_dtype=amp_dtype,
            scaler=None,
            seed=seed,
            step=step,
        )
        losses.append(result.loss_sum / result.target_count)
    return losses


def compare_curves(*, steps: int, seeds: int) -> list[list[str]]:
    """Return a table: mean losses over each third of the run, bf16 beside the spread of float32 seeds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a model only waits for a second one
    try:
        curves = {
            dtype: [training_curve(seed=SEED + i, steps=steps, amp_dtype=dtype) for i in range(seeds)]
            for dtype in (None, torch.bfloat16)
        }
    finally:
        torch.set_num_threads(threads)
    third = steps // 3
    rows = []
    for start in range(0, 3 * third, third):
        means = {
            dtype: [statistics.mean(curve[start : start + third]) for curve in own]
            for dtype, own in curves.items()
        }
        exact, half = means[None], means[torch.bfloat16]
        spread = max(exact) - min(exact)
        shift = max(abs(a - b) for a, b in zip(half, exact, strict=True))
        rows.append(
            [
                f"{start + 1}–{start + third}",
                ", ".join(f"{value:.4f}" for value in exact),
                ", ".join(f"{value:.4f}" for value in half),
                f"{spread:.4f}",
                f"{shift:.4f}",
            ]
        )
    return rows


def measure_exactness(shape: Shape, lengths: tuple[int, ...], *, steps: int, seeds: int) -> dict[str, Any]:
    """Return both tables."""
    return {
        "tables": [
            {
                "header": ("dtype", "fast path beside", "loss differs by", "gradients by", "at most"),
                "rows": compare_gradients(shape, lengths),
            },
            {
                "header": (
                    "steps",
                    "loss, float32 seeds",
                    "the same seeds in bf16",
                    "spread of the seeds",
                    "largest shift by bf16",
                ),
                "rows": compare_curves(steps=steps, seeds=seeds),
            },
        ],
        "note": "Gradients of all tensors, each difference relative to the tensor's largest value. bf16 "
        "passes where its shift stays within the spread of the seeds.",
    }
