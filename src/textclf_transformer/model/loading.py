"""Strict loading: every tensor fits, or an error counts what did not; what is meant to be new is named."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from textclf_transformer.errors import CheckpointError, listed
from textclf_transformer.model.pretrained import ENCODER_PREFIX

ModuleT = TypeVar("ModuleT", bound=nn.Module)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a strict load did.

    Attributes:
        source: where the tensors came from.
        matched: tensors that were loaded.
        left_behind: names that the source has and that were not asked for, such as the head beside an
            encoder.
        new: names of the model that keep their fresh initialisation, as was asked for.
    """

    source: str
    matched: int
    left_behind: tuple[str, ...] = ()
    new: tuple[str, ...] = ()

    def log(self) -> None:
        """Write the line to the log: a warning where something was left behind or is new."""
        _log.log(logging.WARNING if self.left_behind or self.new else logging.INFO, "%s", self)

    def __str__(self) -> str:
        """Return one line for the log; what is missing or unexpected is an error before there is a report."""
        parts = [f"{self.source}: {self.matched} tensors matched, 0 missing, 0 unexpected"]
        if self.left_behind:
            parts.append(f"left behind: {', '.join(self.left_behind)}")
        if self.new:
            parts.append(f"newly initialised: {', '.join(self.new)}")
        return "; ".join(parts)


def load_strict(
    module: nn.Module,
    state: Mapping[str, Tensor],
    *,
    source: str,
    leave_behind: tuple[str, ...] = (),
    new: tuple[str, ...] = (),
) -> LoadReport:
    """Load tensors by name; all of them must fit, except what is named here.

    Args:
        module: the module to load into; untouched if anything does not fit.
        state: tensors by the module's names.
        source: where they come from, for errors and the report.
        leave_behind: beginnings of names in ``state`` that are passed over.
        new: beginnings of names of the module that are meant to stay freshly initialised.

    Returns:
        What was loaded and what was not.

    Raises:
        CheckpointError: names are missing or unexpected, or shapes or kinds of numbers differ; it counts them
            and gives the first few.
    """
    wanted, fresh, passed = check_fit(module, state, source=source, leave_behind=leave_behind, new=new)
    module.load_state_dict({name: state[name] for name in wanted}, strict=not fresh)
    return LoadReport(source, len(wanted), left_behind=tuple(sorted(passed)), new=tuple(sorted(fresh)))


def build_loaded(
    build: Callable[[], ModuleT],
    state: Mapping[str, Tensor],
    *,
    source: str,
    leave_behind: tuple[str, ...] = (),
) -> tuple[ModuleT, LoadReport]:
    """Build a model that has its tensors from ``state``, in float32 whatever torch's default dtype is.

    One that claims to be larger than its tensors is refused before it takes the memory, and the random
    weights that the tensors replace leave the CPU's global generator as it was.

    Args:
        build: returns the model; called twice, the first time on the meta device.
        state: tensors by the model's names.
        source: where they come from, for errors and the report.
        leave_behind: beginnings of names in ``state`` that are passed over.

    Returns:
        The model, and what was loaded and what was not.

    Raises:
        CheckpointError: as ``load_strict``.
    """
    with torch.device("meta"):
        check_fit(build(), state, source=source, leave_behind=leave_behind)
    with torch.random.fork_rng(devices=[]):
        model = build().float()
    return model, load_strict(model, state, source=source, leave_behind=leave_behind)


def check_fit(
    module: nn.Module,
    state: Mapping[str, Tensor],
    *,
    source: str,
    leave_behind: tuple[str, ...] = (),
    new: tuple[str, ...] = (),
) -> tuple[set[str], set[str], set[str]]:
    """Check as ``load_strict`` does, without loading; the module may lie on the meta device.

    Returns:
        The names to load, those that stay new and those left behind.
    """
    own = module.state_dict()
    fresh = {name for name in own if name.startswith(new)} if new else set()
    wanted = own.keys() - fresh
    passed = (
        {name for name in state.keys() - wanted if name.startswith(leave_behind)} if leave_behind else set()
    )
    missing = sorted(wanted - state.keys())
    unexpected = sorted(state.keys() - wanted - passed)
    if missing or unexpected:
        raise CheckpointError(
            "the weights do not fit the model",
            where=source,
            found=f"{len(wanted) - len(missing)} matched, "
            f"{_count('missing', missing)}, {_count('unexpected', unexpected)}",
        )
    for name in sorted(wanted):
        if state[name].shape != own[name].shape:
            raise CheckpointError(
                f"the tensor {name} has another shape",
                where=source,
                found=tuple(state[name].shape),
                expected=str(tuple(own[name].shape)),
            )
        if state[name].is_floating_point() != own[name].is_floating_point():
            # copying would turn quantised weights into weights of -128 to 127
            raise CheckpointError(
                f"the tensor {name} holds numbers of another kind",
                where=source,
                found=state[name].dtype,
                expected=str(own[name].dtype),
            )
    return wanted, fresh, passed


def _count(kind: str, names: list[str]) -> str:
    if not names:
        return f"0 {kind}"
    return f"{len(names)} {kind} ({listed(names, at_most=3)})"


def fit_encoder(encoder: nn.Module, state: Mapping[str, Tensor], *, source: str) -> LoadReport:
    """Check as ``load_encoder`` does, without loading; the encoder may lie on the meta device."""
    inner, rest = _split_encoder(state)
    wanted, _, _ = check_fit(encoder, inner, source=source)
    return LoadReport(source, len(wanted), left_behind=rest)


def load_encoder(encoder: nn.Module, state: Mapping[str, Tensor], *, source: str) -> LoadReport:
    """Load an encoder from the state of any of our models that has one; the rest is left behind and listed.

    Args:
        encoder: a ``RobertaModel``.
        state: tensors by our names, the encoder's under ``encoder.``.
        source: where they come from, for errors and the report.

    Returns:
        What was loaded and what was left behind.

    Raises:
        CheckpointError: the encoder's tensors do not fit; it counts what matched.
    """
    inner, rest = _split_encoder(state)
    return replace(load_strict(encoder, inner, source=source), left_behind=rest)


def build_loaded_encoder(
    build: Callable[[], ModuleT], state: Mapping[str, Tensor], *, source: str
) -> tuple[ModuleT, LoadReport]:
    """Build an encoder as ``build_loaded`` does, from what ``load_encoder`` takes."""
    inner, rest = _split_encoder(state)
    encoder, report = build_loaded(build, inner, source=source)
    return encoder, replace(report, left_behind=rest)


def _split_encoder(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the encoder's tensors without their prefix, and the names of all others."""
    inner = {
        name.removeprefix(ENCODER_PREFIX): t for name, t in state.items() if name.startswith(ENCODER_PREFIX)
    }
    return inner, tuple(sorted(name for name in state if not name.startswith(ENCODER_PREFIX)))
