"""What only a GPU can show; all of it skips without one."""

from __future__ import annotations

import copy

import pytest
import torch
from model_cases import (
    make_batch,
    make_documents,
    make_encoder,
    make_hierarchical,
    make_labels,
    relative_error,
    spread_weights,
)
from torch import Tensor

from textclf_transformer.model.attention import attend, choose_attention_backend
from textclf_transformer.model.heads import RobertaForMaskedLM
from textclf_transformer.model.layout import SequenceLayout
from textclf_transformer.training.losses import masked_lm_loss
from textclf_transformer.training.optim import build_adamw

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CUDA = torch.device("cuda")


def mask_of_lengths(lengths: list[int]) -> Tensor:
    return torch.arange(max(lengths)) >= torch.tensor(lengths).unsqueeze(1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_packed_flash_attention_equals_the_dense_kernel(dtype: torch.dtype) -> None:
    """Bound: 2**-6 of the largest value in bf16, output and gradients; 2**-8 in fp16."""
    lengths = [70, 1, 128, 0, 33]
    layout = SequenceLayout.from_mask(mask_of_lengths(lengths), num_heads=4, device=CUDA)
    torch.manual_seed(0)
    inputs = [torch.randn(sum(lengths), 4, 64, device=CUDA, requires_grad=True) for _ in range(3)]
    exact = attend(torch.stack(inputs, dim=1), layout, backend="explicit", dropout_p=0.0)
    packed = attend(torch.stack(inputs, dim=1).to(dtype), layout, backend="varlen", dropout_p=0.0)
    bound = 2**-6 if dtype == torch.bfloat16 else 2**-8
    assert packed.dtype == dtype
    assert relative_error(packed.float(), exact) < bound
    weights = torch.randn_like(exact)
    found = torch.autograd.grad((packed.float() * weights).sum(), inputs)
    for gradient, expected in zip(found, torch.autograd.grad((exact * weights).sum(), inputs), strict=True):
        assert relative_error(gradient, expected) < bound


@pytest.mark.parametrize("on_host", [True, False], ids=["ids on the CPU", "ids on the GPU"])
def test_a_gpu_computes_what_a_cpu_computes(on_host: bool) -> None:
    model = spread_weights(RobertaForMaskedLM(make_encoder(attention_backend="fused"))).eval()
    ids, mask = make_batch("inside")
    labels = make_labels(mask)
    expected = model.masked_loss(ids, mask, labels)
    place = "cpu" if on_host else "cuda"
    moved = copy.deepcopy(model).to(CUDA)
    found = moved.masked_loss(ids.to(place), mask.to(place), labels.to(place))
    assert found.device.type == "cuda"
    assert relative_error(found.cpu(), expected) < 1e-4


def test_a_training_step_waits_for_nothing() -> None:
    """Forward, backward and update with batches on the CPU; torch raises where the host would wait."""
    settings = {"hidden_size": 32, "num_attention_heads": 4, "embedding_dropout_prob": 0.1}
    backend = choose_attention_backend(
        CUDA, amp_dtype=torch.bfloat16, attention_kind="standard", dropout_prob=0.0, head_dim=8
    ).name
    masked_lm = RobertaForMaskedLM(make_encoder(attention_backend=backend, **settings)).to(CUDA).train()
    classifier = make_hierarchical(use_gradient_checkpointing=True).to(CUDA).train()
    ids, mask = make_batch("right")
    labels = make_labels(mask)
    documents, document_mask = make_documents([3, 9])

    def step(optimizer: torch.optim.Optimizer, *, classify: bool) -> None:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            if classify:
                real = ~document_mask.all(dim=2)
                counts = real.sum(dim=1)
                out = classifier.classify_chunks(documents[real], document_mask[real], counts)
                loss = out["logits"].square().sum()
            else:
                loss = masked_lm.masked_loss(ids, mask, labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    for classify, model in ((False, masked_lm), (True, classifier)):
        optimizer = build_adamw(model, learning_rate=1e-3, weight_decay=0.01)
        assert optimizer.defaults["fused"]
        step(optimizer, classify=classify)  # the first one makes workspaces and states
        torch.cuda.set_sync_debug_mode("error")
        try:
            step(optimizer, classify=classify)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_dropout_of_a_group_computed_again_is_that_of_a_kept_one() -> None:
    """Ids and mask on the CPU, as the training loop leaves them."""
    documents, document_mask = make_documents([9, 2])
    real = ~document_mask.all(dim=2)
    gradients = []
    for kept_groups in (3, 0):
        model = make_hierarchical(
            use_gradient_checkpointing=True,
            kept_chunk_groups=kept_groups,
            hidden_dropout_prob=0.3,
            embedding_dropout_prob=0.3,
            attention_backend="fused",
        )
        model.to(CUDA).train()
        torch.manual_seed(11)
        out = model.classify_chunks(documents[real], document_mask[real], real.sum(dim=1))
        out["logits"].square().sum().backward()
        gradients.append(model.encoder.layers[0].intermediate.weight.grad)
    assert relative_error(gradients[1], gradients[0]) < 1e-4


def test_the_loss_of_a_batch_on_the_host_reaches_the_gpu() -> None:
    model = RobertaForMaskedLM(make_encoder(attention_backend="fused")).to(CUDA)
    ids, mask = make_batch("right")
    batch = MlmRows(ids, mask, make_labels(mask))
    assert masked_lm_loss(model, batch).device.type == "cuda"  # type: ignore[arg-type]


class MlmRows:
    def __init__(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> None:
        self.input_ids, self.attention_mask, self.labels = input_ids, attention_mask, labels
