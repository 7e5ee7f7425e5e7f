"""Training steps and evaluations of models on the simulated GPU."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from model_cases import make_batch, make_documents, make_encoder, make_hierarchical, make_labels
from simulated_gpu.simulation import SimulatedGpu

from textclf_transformer.data.collate import DocumentBatch, MlmBatch
from textclf_transformer.model.attention import choose_attention_backend
from textclf_transformer.model.heads import RobertaForMaskedLM
from textclf_transformer.model.pooling import POOLINGS
from textclf_transformer.training.losses import document_loss, masked_lm_loss
from textclf_transformer.training.muon import build_muon
from textclf_transformer.training.numerics import deterministic_algorithms
from textclf_transformer.training.optim import build_adamw
from textclf_transformer.training.step import train_step

CUDA = torch.device("cuda")
_SIZES = {"hidden_size": 32, "num_attention_heads": 4}


def _take_step(
    model: torch.nn.Module,
    batches: Sequence[Any],
    *,
    loss: Callable[..., Any],
    amp_dtype: torch.dtype | None,
    build_optimizer: Callable[..., torch.optim.Optimizer] = build_adamw,
) -> None:
    model.to(CUDA).train()
    with deterministic_algorithms(CUDA):
        train_step(
            model,
            batches,
            loss=loss,
            optimizer=build_optimizer(model, learning_rate=1e-3, weight_decay=0.01),
            learning_rate=1e-3,
            max_grad_norm=0.5,
            device=CUDA,
            amp_dtype=amp_dtype,
            scaler=torch.amp.GradScaler("cuda") if amp_dtype == torch.float16 else None,
            seed=1,
            step=2,
        )


def _backend(*, amp_dtype: torch.dtype | None, attention_kind: str, dropout_prob: float) -> str:
    return choose_attention_backend(
        CUDA, amp_dtype=amp_dtype, attention_kind=attention_kind, dropout_prob=dropout_prob, head_dim=8
    ).name


def _mlm_batch() -> MlmBatch:
    ids, mask = make_batch("right")
    labels = make_labels(mask)
    return MlmBatch(ids, mask, labels, torch.arange(4), int((~mask).sum()), int((labels >= 0).sum()))


def _document_batch(*, several_labels: bool) -> DocumentBatch:
    documents, mask = make_documents([3, 9, 1])
    real = ~mask.all(dim=2)
    labels = torch.ones(3, 4) if several_labels else torch.tensor([0, 1, 2])
    return DocumentBatch(documents[real], mask[real], real.sum(dim=1), labels, torch.arange(3), 100, 3)


def _masked_lm(
    gpu: SimulatedGpu,
    *,
    amp_dtype: torch.dtype | None = torch.bfloat16,
    attention_kind: str = "standard",
    dropout_prob: float = 0.0,
    use_gradient_checkpointing: bool = False,
    build_optimizer: Callable[..., torch.optim.Optimizer] = build_adamw,
) -> None:
    with gpu:
        model = RobertaForMaskedLM(
            make_encoder(
                attention_backend=_backend(
                    amp_dtype=amp_dtype, attention_kind=attention_kind, dropout_prob=dropout_prob
                ),
                attention_kind=attention_kind,
                attention_probs_dropout_prob=dropout_prob,
                use_gradient_checkpointing=use_gradient_checkpointing,
                **_SIZES,
            )
        )
        batches = [_mlm_batch(), _mlm_batch()]
        _take_step(model, batches, loss=masked_lm_loss, amp_dtype=amp_dtype, build_optimizer=build_optimizer)


def _classifier(
    gpu: SimulatedGpu,
    *,
    amp_dtype: torch.dtype | None,
    several_labels: bool = False,
    class_weights: bool = False,
    **settings: object,
) -> None:
    with gpu:
        model = make_hierarchical(
            attention_backend="fused" if amp_dtype is None else "varlen",
            max_chunks=12,
            attention_heads=4,
            **_SIZES,
            **settings,
        )
        loss = functools.partial(document_loss, class_weights=torch.ones(4) if class_weights else None)
        batches = [_document_batch(several_labels=several_labels)] * 2
        _take_step(model, batches, loss=loss, amp_dtype=amp_dtype)


def _two_devices(gpu: SimulatedGpu) -> None:
    with gpu:
        torch.ones(3, device=CUDA) + torch.ones(3)


def _float32_packed(gpu: SimulatedGpu) -> None:
    with gpu:
        model = RobertaForMaskedLM(make_encoder(attention_backend="varlen", **_SIZES))
        _take_step(model, [_mlm_batch()], loss=masked_lm_loss, amp_dtype=None)


def _in_any_order(gpu: SimulatedGpu) -> None:
    with gpu, deterministic_algorithms(CUDA):
        torch.ones(3, device=CUDA, dtype=torch.int64).cumsum(0)
        torch.ones(3, device=CUDA).cumsum(0)


def _shape_from_numbers(gpu: SimulatedGpu) -> None:
    with gpu:
        torch.ones(3, device=CUDA).nonzero()


def _reads(gpu: SimulatedGpu) -> None:
    with gpu:
        numbers = torch.ones(3, device=CUDA)
        float(numbers.sum())
        numbers.tolist()
        numbers.cpu().numpy()
        numbers.to("cpu").numpy()


_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}

STEPS: dict[str, Callable[[SimulatedGpu], None]] = {
    f"masked LM, {kind}, {dtype}, dropout {dropout}, checkpointing {again}": functools.partial(
        _masked_lm,
        amp_dtype=_DTYPES[dtype],
        attention_kind=kind,
        dropout_prob=dropout,
        use_gradient_checkpointing=again,
    )
    for kind in ("standard", "disentangled")
    for dtype, dropout, again in (
        ("bf16", 0.0, True),
        ("bf16", 0.1, False),
        ("fp16", 0.0, False),
        ("fp32", 0.1, True),
    )
}
STEPS["masked LM, Muon"] = functools.partial(_masked_lm, build_optimizer=build_muon)
for _pooling in POOLINGS:
    STEPS |= {
        f"{_pooling}, bf16": functools.partial(_classifier, amp_dtype=torch.bfloat16, pooling=_pooling),
        f"{_pooling}, fp16, several labels": functools.partial(
            _classifier, amp_dtype=torch.float16, pooling=_pooling, several_labels=True
        ),
        f"{_pooling}, fp32, class weights": functools.partial(
            _classifier, amp_dtype=None, pooling=_pooling, class_weights=True
        ),
    }
STEPS |= {
    f"{name} of the tokens": functools.partial(
        _classifier, amp_dtype=torch.bfloat16, token_pooling=name, use_gradient_checkpointing=True
    )
    for name in ("mean", "max")
}
STEPS |= {
    "positions of chunks": functools.partial(
        _classifier, amp_dtype=torch.bfloat16, chunk_position_embeddings=True
    ),
    "ordinal labels, checkpointing": functools.partial(
        _classifier, amp_dtype=torch.bfloat16, ordinal=True, use_gradient_checkpointing=True
    ),
}

# the first five show what the simulation itself sees
CASES: dict[str, Callable[[SimulatedGpu], None]] = {
    "operands on two devices": _two_devices,
    "float32 in packed flash attention": _float32_packed,
    "a sum in any order": _in_any_order,
    "a shape that follows from numbers": _shape_from_numbers,
    "four kinds of reading": _reads,
    **STEPS,
}
