from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import CPU, ToyBatch, select, toy_loss, toy_net, toy_samples

from textclf_transformer.errors import NonFiniteError
from textclf_transformer.training.numerics import deterministic_algorithms
from textclf_transformer.training.optim import build_adamw
from textclf_transformer.training.step import MicroBatchTooLargeError, StepResult, train_step


def take_step(
    model: nn.Module,
    parts: list[list[int]],
    *,
    optimizer: torch.optim.Optimizer | None = None,
    **changes: Any,
) -> StepResult:
    settings: dict[str, Any] = {
        "loss": toy_loss,
        "learning_rate": 0.05,
        "max_grad_norm": 1e9,
        "device": CPU,
        "amp_dtype": None,
        "scaler": None,
        "seed": 0,
        "step": 0,
    }
    batches = [select(toy_samples(), torch.tensor(part)) for part in parts]
    optimizer = optimizer or build_adamw(model, learning_rate=1.0, weight_decay=0.01)
    return train_step(model, batches, optimizer=optimizer, **{**settings, **changes})


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def largest_difference(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def test_accumulation_equals_one_large_batch_with_unequal_target_counts() -> None:
    whole, parts = toy_net(dropout=0.0).double(), toy_net(dropout=0.0).double()
    # samples 0, 7 and 14 have no target: the micro-batches count 2, 2, 1 and 0 targets
    one = take_step(whole, [[0, 1, 2, 3, 4, 7, 5, 14]])
    several = take_step(parts, [[0, 1, 2], [3, 4], [7, 5], [14]])
    assert one.target_count == several.target_count == 5
    assert several.loss_sum == pytest.approx(one.loss_sum, rel=1e-12)
    assert several.grad_norm == pytest.approx(one.grad_norm, rel=1e-9)
    assert largest_difference(weights(whole), weights(parts)) < 1e-6
    assert largest_difference(weights(whole), weights(toy_net(dropout=0.0).double())) > 1e-3


def test_a_step_without_targets_leaves_the_weights_alone() -> None:
    model = toy_net()
    before = weights(model)
    result = take_step(model, [[0, 7], [14]])
    assert (result.loss_sum, result.target_count, result.num_tokens, result.grad_norm) == (0.0, 0, 12, 0.0)
    assert largest_difference(before, weights(model)) == 0.0


def test_clipping_equals_a_hand_computation() -> None:
    model = toy_net(dropout=0.0).double()
    sgd = torch.optim.SGD([{"params": model.parameters(), "lr_scale": 1.0}], lr=1.0)
    batch = select(toy_samples(), torch.tensor([1, 2, 3]))
    (toy_loss(model, batch) / 3).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    norm = math.sqrt(sum(float((g**2).sum()) for g in gradients.values()))
    limit = norm / 4
    before = weights(model)
    result = take_step(model, [[1, 2, 3]], optimizer=sgd, learning_rate=2.0, max_grad_norm=limit)
    assert result.grad_norm == pytest.approx(norm, rel=1e-9)
    # torch divides by norm + 1e-6, so that a norm of 0 is no trouble
    expected = {name: before[name] - 2.0 * gradients[name] * limit / (norm + 1e-6) for name in gradients}
    assert largest_difference(expected, weights(model)) < 1e-12


def test_dropout_depends_on_seed_step_and_micro_batch_alone() -> None:
    def loss_of(*, disturb: bool = False, **changes: Any) -> float:
        if disturb:
            torch.rand(17)
        return take_step(toy_net(dropout=0.5), [[1, 2], [1, 2]], **changes).loss_sum

    assert loss_of() == loss_of(disturb=True)
    assert loss_of() != loss_of(seed=1)
    assert loss_of() != loss_of(step=1)
    seen: list[float] = []

    def recording(model: nn.Module, batch: ToyBatch) -> Tensor:
        loss = toy_loss(model, batch)
        seen.append(float(loss.detach()))
        return loss

    loss_of(loss=recording)
    assert seen[0] != seen[1]  # the same samples, another mask


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_before_the_update_and_names_the_samples(value: float) -> None:
    model = toy_net()
    before = weights(model)

    def broken(net: nn.Module, batch: ToyBatch) -> Tensor:
        return toy_loss(net, batch) * (value if 4 in batch.sample_indices else 1.0)

    with pytest.raises(
        NonFiniteError, match=r"the loss is not finite.*step 12, training samples 4, 5;"
    ) as caught:
        take_step(model, [[1, 2], [4, 5]], loss=broken, step=11)
    assert caught.value.exit_code == 5
    assert largest_difference(before, weights(model)) == 0.0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_of_many_samples_with_a_loss_that_is_not_finite_sixteen_are_named() -> None:
    def broken(net: nn.Module, batch: ToyBatch) -> Tensor:
        return toy_loss(net, batch) * math.nan

    with pytest.raises(NonFiniteError, match=r"samples (\d, ){15}\d and 4 more; "):
        take_step(toy_net(), [[number % 8 for number in range(20)]], loss=broken)
    with pytest.raises(NonFiniteError, match=r"samples (\d, ){15}\d; "):
        take_step(toy_net(), [[number % 8 for number in range(16)]], loss=broken)


class BrokenGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient * math.inf


def broken_gradient(model: nn.Module, batch: ToyBatch) -> Tensor:
    return BrokenGradient.apply(toy_loss(model, batch))


def test_a_gradient_that_is_not_finite_stops_before_the_update() -> None:
    model = toy_net()
    before = weights(model)
    with pytest.raises(NonFiniteError, match="the gradient is not finite"):
        take_step(model, [[1, 2]], loss=broken_gradient)
    assert largest_difference(before, weights(model)) == 0.0


def test_an_overflow_is_the_scalers_business_until_the_scale_is_used_up() -> None:
    model = toy_net()
    before = weights(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    optimizer = build_adamw(model, learning_rate=1.0, weight_decay=0.01)
    for scale in (4.0, 2.0):
        assert scaler.get_scale() == scale
        take_step(model, [[1, 2]], loss=broken_gradient, scaler=scaler, optimizer=optimizer)
    assert largest_difference(before, weights(model)) == 0.0
    with pytest.raises(NonFiniteError):
        take_step(model, [[1, 2]], loss=broken_gradient, scaler=scaler, optimizer=optimizer)


def test_the_scaler_changes_nothing_else() -> None:
    plain, scaled = toy_net(), toy_net()
    take_step(plain, [[1, 2], [3]], max_grad_norm=0.1)
    take_step(scaled, [[1, 2], [3]], max_grad_norm=0.1, scaler=torch.amp.GradScaler("cpu", init_scale=1024.0))
    assert largest_difference(weights(plain), weights(scaled)) < 1e-6


def test_autocast_keeps_the_weights_in_float32() -> None:
    model = toy_net()
    seen: list[torch.dtype] = []
    model.output.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    take_step(model, [[1, 2]], amp_dtype=torch.bfloat16)
    assert seen == [torch.bfloat16]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_deterministic_algorithms_are_on_inside_and_restored(device: str) -> None:
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(KeyError), deterministic_algorithms(torch.device(device)):
        assert torch.are_deterministic_algorithms_enabled()
        # else flash attention goes backward by its other kernel on a GPU
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory
        raise KeyError
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory


ALLOCATOR_FAULTS = {
    "cpu": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried "
        "to allocate 4398046511104 bytes. Error code 12 (Cannot allocate memory)\nmore lines"
    ),
    "gpu": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "python": MemoryError(),
}


@pytest.mark.parametrize("kind", ALLOCATOR_FAULTS)
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_shortage_of_memory_leaves_weights_and_gradients_alone(kind: str, where: str) -> None:
    model = toy_net()
    before = weights(model)

    class Failing(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, value: Tensor) -> Tensor:
            if where == "forward":
                raise ALLOCATOR_FAULTS[kind]
            return value.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
            raise ALLOCATOR_FAULTS[kind]

    def failing(net: nn.Module, batch: ToyBatch) -> Tensor:
        loss = toy_loss(net, batch)
        return Failing.apply(loss) if 4 in batch.sample_indices else loss

    with pytest.raises(MicroBatchTooLargeError) as caught:
        take_step(model, [[1, 2, 3], [4, 5]], loss=failing)
    assert (caught.value.samples, caught.value.tokens) == (2, 12)
    assert "\n" not in str(caught.value)
    assert str(caught.value)
    assert largest_difference(before, weights(model)) == 0.0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_other_faults_are_not_taken_for_a_shortage_of_memory() -> None:
    def failing(net: nn.Module, batch: ToyBatch) -> Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        take_step(toy_net(), [[1, 2]], loss=failing)


def test_a_real_refusal_of_the_cpu_allocator_is_recognised() -> None:
    def failing(net: nn.Module, batch: ToyBatch) -> Tensor:
        return torch.empty(1 << 60, dtype=torch.int8).sum()

    with pytest.raises(MicroBatchTooLargeError, match="DefaultCPUAllocator"):
        take_step(toy_net(), [[1, 2]], loss=failing)


@pytest.mark.cuda
@pytest.mark.parametrize("amp_dtype", [None, torch.bfloat16, torch.float16])
def test_a_step_on_a_gpu_learns(amp_dtype: torch.dtype | None) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    device = torch.device("cuda")
    model = toy_net(dropout=0.0).to(device)
    optimizer = build_adamw(model, learning_rate=1.0, weight_decay=0.01)
    scaler = torch.amp.GradScaler("cuda") if amp_dtype == torch.float16 else None
    losses = [
        take_step(
            model, [[1, 2, 3], [4]], optimizer=optimizer, device=device, amp_dtype=amp_dtype, scaler=scaler
        ).loss_sum
        for _ in range(60)
    ]
    assert losses[-1] < 0.3 * losses[0]
