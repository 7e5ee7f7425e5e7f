"""A CUDA device that knows the place, shape and dtype of each tensor, but no numbers.

What only a GPU would refuse is refused here, too: operands on two devices, float32 in packed flash attention,
and, under deterministic algorithms, what has no kernel there that repeats itself. And where the host would
wait for the device (to read a number, to learn how many cells are True, to copy from memory that is not
pinned), the wait is noted with the function that caused it. Tensors on the CPU stay real, so batches, masks
and files are real as well. The process must have loaded the driver, see ``driver``.
"""

from __future__ import annotations

import traceback
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

_HALF = (torch.float16, torch.bfloat16)
_READS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.item.default}
# On CUDA, by the documentation of torch.use_deterministic_algorithms; pictures and the like left out.
_NOT_REPEATABLE = {
    torch.ops.aten.cumsum.default,
    torch.ops.aten.histc.default,
    torch.ops.aten.median.dim,
    torch.ops.aten.put.default,
    torch.ops.aten.put_.default,
}
_VARLEN = "torch_attn._varlen_attn.default"
_OURS = ("textclf_transformer", "benchmarks")

# function → how often the host waited for the device in it
Waits = dict[str, int]


class HostWaitsError(Exception):
    """The host would wait for the device to learn a shape; a simulated one cannot answer."""


class SimulatedGpu(TorchDispatchMode):
    """While it is active, tensors can be made on ``cuda`` and computed with.

    Attributes:
        waits: where the host waited.
        live_bytes: of all tensors on the GPU; what an operation takes within itself is not seen.
        peak_bytes: the largest that was; to be set where a measurement begins.
    """

    def __init__(self) -> None:
        super().__init__()
        self._fakes = FakeTensorMode(allow_non_fake_inputs=True)
        self.waits: Waits = {}
        self.live_bytes = self.peak_bytes = 0
        self._storages: set[int] = set()

    def __enter__(self) -> SimulatedGpu:
        _plug_in(self)
        super().__enter__()
        return self

    def __torch_dispatch__(
        self,
        operation: Any,
        types: Sequence[type],
        arguments: Sequence[Any] = (),
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        options = options or {}
        leaves = tree_leaves((arguments, options))
        if not any(is_on_gpu(leaf) or _is_gpu(leaf) for leaf in leaves):
            return operation(*arguments, **options)
        if operation in _READS and is_on_gpu(arguments[0]):
            self.wait()
            return 1.0 if arguments[0].dtype.is_floating_point else 1
        if operation is torch.ops.aten._to_copy.default:
            if _is_cpu(options.get("device")):
                return self.read(arguments[0]).to(options.get("dtype"))
            if not is_on_gpu(arguments[0]) and not options.get("non_blocking"):
                self.wait()
        if str(operation) == _VARLEN:
            _check_varlen(*arguments[:5])
        if operation in _NOT_REPEATABLE and torch.are_deterministic_algorithms_enabled():
            _check_repeatable(operation, arguments[0])
        try:
            with self._fakes:
                results = operation(*tree_map(self._lift, arguments), **tree_map(self._lift, options))
        except DynamicOutputShapeException as fault:
            raise HostWaitsError(f"{operation} in {_caller()}") from fault
        for tensor in filter(is_on_gpu, tree_leaves(results)):
            self._count(tensor.untyped_storage())
        return results

    def _count(self, storage: torch.UntypedStorage) -> None:
        identity, size = storage._cdata, storage.nbytes()
        if identity not in self._storages:
            self._storages.add(identity)
            weakref.finalize(storage, self._forget, identity, size)
            self.live_bytes += size
            self.peak_bytes = max(self.peak_bytes, self.live_bytes)

    def _forget(self, identity: int, size: int) -> None:
        self._storages.remove(identity)
        self.live_bytes -= size

    def _lift(self, value: Any) -> Any:
        is_real = isinstance(value, Tensor) and not isinstance(value, FakeTensor)
        return self._fakes.from_tensor(value.detach()) if is_real else value

    def wait(self) -> None:
        """Note a wait."""
        where = _caller()
        self.waits[where] = self.waits.get(where, 0) + 1

    def read(self, tensor: Tensor) -> Tensor:
        """Return a tensor of ones on the CPU for one on the GPU; the host waits for it."""
        self.wait()
        return torch.ones(tensor.shape, dtype=tensor.dtype)


def is_on_gpu(value: object) -> bool:
    """Whether this is a tensor on the simulated GPU."""
    return isinstance(value, FakeTensor) and value.device.type == "cuda"


def _is_gpu(value: object) -> bool:
    return isinstance(value, torch.device) and value.type == "cuda"


def _is_cpu(value: object) -> bool:
    return isinstance(value, torch.device) and value.type == "cpu"


def _caller() -> str:
    """Return the innermost function of ours on the stack."""
    for frame in reversed(traceback.extract_stack()):
        parts = Path(frame.filename).parts
        for package in _OURS:
            if package in parts:
                return f"{'/'.join(parts[parts.index(package) + 1 :])}:{frame.name}"
    return "a test"


def _check_varlen(query: Tensor, key: Tensor, value: Tensor, starts: Tensor, key_starts: Tensor) -> None:
    """Refuse what flash attention's kernel refuses and its fake does not."""
    for tensor in (query, key, value):
        if tensor.dtype not in _HALF or tensor.ndim != 3 or tensor.shape[2] % 8 or tensor.stride(2) != 1:
            raise TypeError(f"flash attention of {tensor.dtype} {tuple(tensor.shape)} {tensor.stride()}")
    if {starts.dtype, key_starts.dtype} != {torch.int32}:
        raise TypeError(f"flash attention with ends of {starts.dtype} and {key_starts.dtype}")


def _check_repeatable(operation: Any, tensor: Tensor) -> None:
    """Refuse what adds up in any order; of whole numbers that is the same sum."""
    if tensor.is_floating_point():
        raise RuntimeError(f"{operation} does not have a deterministic implementation")


_active: SimulatedGpu | None = None


def _plug_in(gpu: SimulatedGpu) -> None:
    """Answer in the place of ``torch.cuda``; of the reads that no operation shows, note the waits."""
    global _active
    is_first, _active = _active is None, gpu
    if not is_first:
        return
    # a module's tensors become other ones when they move, as a fake cannot take a real one's place
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    answers: dict[str, object] = {
        "is_available": True,
        "device_count": 1,
        "current_device": 0,
        "get_device_name": "a simulated GPU",
        "get_device_capability": (9, 0),
        "get_device_properties": SimpleNamespace(major=9, minor=0, total_memory=80 << 30),
        "is_bf16_supported": True,
        "memory_allocated": 1 << 20,
        "max_memory_allocated": 1 << 20,
        **dict.fromkeys(
            ("_lazy_init", "set_device", "empty_cache", "synchronize", "reset_peak_memory_stats")
        ),
    }
    for name, answer in answers.items():
        setattr(torch.cuda, name, lambda *_, _answer=answer, **__: _answer)
    torch.backends.cuda.is_flash_attention_available = lambda: True
    _replace("pin_memory", lambda tensor: tensor, for_gpu=False)
    _replace("cpu", lambda tensor: gpu_in_use().read(tensor))
    _replace("tolist", lambda tensor: gpu_in_use().read(tensor).tolist())
    _replace("data_ptr", lambda tensor: id(tensor))
    original = torch.tensor

    def tensor(data: object, *, device: Any = None, **options: Any) -> Tensor:
        made: Tensor = original(data, **options)
        return made if device is None else made.to(device)

    torch.tensor = tensor


def gpu_in_use() -> SimulatedGpu:
    """Return the simulation that is active, or was last."""
    assert _active is not None
    return _active


def _replace(name: str, answer: Callable[[Tensor], Any], *, for_gpu: bool = True) -> None:
    original = getattr(Tensor, name)

    def method(self: Tensor, *arguments: Any, **options: Any) -> Any:
        if is_on_gpu(self) == for_gpu:
            return answer(self)
        return original(self, *arguments, **options)

    for kind in (Tensor, FakeTensor):  # which has some of these of its own
        setattr(kind, name, method)
