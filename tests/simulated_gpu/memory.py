"""The dry run's estimate of memory beside what the tensors of a step take on the simulated GPU."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

import torch
from simulated_gpu.models import CUDA
from simulated_gpu.simulation import SimulatedGpu

from textclf_transformer.commands.estimate import StepLoad, estimate_cost
from textclf_transformer.data.collate import DocumentBatch
from textclf_transformer.model.encoder import RobertaModel
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.training.losses import document_loss
from textclf_transformer.training.optim import build_adamw
from textclf_transformer.training.step import train_step

LENGTH, CHUNKS, GROUP, KEPT = 128, 40, 4, 2


def _classifier(*, in_groups: bool) -> HierarchicalRobertaForClassification:
    encoder = RobertaModel(
        vocab_size=1000,
        hidden_size=256,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=1024,
        max_position_embeddings=LENGTH + 1,
        pad_token_id=0,
        attention_backend="varlen",
    )
    return HierarchicalRobertaForClassification(
        encoder,
        num_labels=3,
        use_gradient_checkpointing=in_groups,
        chunks_per_group=GROUP,
        kept_chunk_groups=KEPT,
    )


def _batch() -> DocumentBatch:
    ids = torch.ones(CHUNKS, LENGTH, dtype=torch.int64)
    mask = torch.zeros(CHUNKS, LENGTH, dtype=torch.bool)
    label, sample = torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    return DocumentBatch(ids, mask, torch.tensor([CHUNKS]), label, sample, CHUNKS * LENGTH, 1)


def _step(gpu: SimulatedGpu, *, recompute: Literal["nothing", "chunks"]) -> None:
    tokens = CHUNKS * LENGTH
    with gpu:
        model = _classifier(in_groups=recompute == "chunks").to(CUDA).train()
        optimizer = build_adamw(model, learning_rate=1e-3, weight_decay=0.01)
        for _ in range(2):  # AdamW's moments come with the first
            gpu.peak_bytes = gpu.live_bytes
            train_step(
                model,
                [_batch(), _batch()],  # gradients are there when the second one's activations are
                loss=document_loss,
                optimizer=optimizer,
                learning_rate=1e-3,
                max_grad_norm=1.0,
                device=CUDA,
                amp_dtype=torch.bfloat16,
                scaler=None,
                seed=1,
                step=1,
            )
    cost = estimate_cost(
        model,
        model.encoder,
        StepLoad(
            sequence_length=LENGTH,
            tokens_per_step=2 * tokens,
            tokens_per_micro_batch=tokens,
            wanted_share=1 / LENGTH,
            recompute=recompute,
            tokens_per_group=GROUP * LENGTH,
            tokens_kept=KEPT * GROUP * LENGTH,
            amp=True,
            attention_backend="varlen",
            attention_dropout=False,
        ),
    )
    estimate = cost.state_bytes + cost.activation_bytes
    assert 1.0 < estimate / gpu.peak_bytes < 1.1, f"{estimate} estimated, {gpu.peak_bytes} counted"


CASES: dict[str, Callable[[SimulatedGpu], None]] = {
    "memory of a step": functools.partial(_step, recompute="nothing"),
    "memory of a step in groups": functools.partial(_step, recompute="chunks"),
}
