"""Which part of a classifier is trained from which epoch on (gradual unfreezing, Howard & Ruder 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from textclf_transformer.config import FreezePhaseSection
from textclf_transformer.errors import ConfigError
from textclf_transformer.model.freezing import EncoderClassifier
from textclf_transformer.training.optim import build_adamw, carry_state


class FreezeSchedule:
    """Freezes and unfreezes at the beginning of epochs.

    A frozen part builds no graph, gets no gradient and has no optimizer state; a wholly frozen encoder runs
    in evaluation mode. A parameter that is trained on keeps its moments; another begins with none.

    Args:
        phases: by rising ``from_epoch``, the first from 0.
        learning_rate: the peak of phases that name none.
        weight_decay: see ``build_adamw``.
        layerwise_lr_decay: see ``build_adamw``; frozen layers count, so a layer's rate is its own throughout.
        num_hidden_layers: layers of the encoder.

    Attributes:
        phases: as given.
        epoch: the one that the model was last brought into, from 0.

    Raises:
        ConfigError: a phase trains more layers than there are.
    """

    def __init__(
        self,
        phases: Sequence[FreezePhaseSection],
        *,
        learning_rate: float,
        weight_decay: float,
        layerwise_lr_decay: float,
        num_hidden_layers: int,
    ) -> None:
        self.phases = tuple(phases)
        self.epoch = 0
        self._learning_rate = learning_rate
        self._weight_decay = weight_decay
        self._layerwise_lr_decay = layerwise_lr_decay
        self._current: FreezePhaseSection | None = None
        for phase in self.phases:
            if phase.k is not None and phase.k > num_hidden_layers:
                raise ConfigError(
                    "a phase trains more layers than the encoder has",
                    where="training.freeze",
                    found=f"k {phase.k} from epoch {phase.from_epoch}",
                    expected=f"a k of at most {num_hidden_layers}",
                )

    def phase_of(self, epoch: int) -> FreezePhaseSection:
        """Return the phase that ``epoch`` (from 0) belongs to."""
        return [phase for phase in self.phases if phase.from_epoch <= epoch][-1]

    def peak_rate(self, epoch: int) -> float:
        """Return the peak learning rate of ``epoch`` (from 0)."""
        return self.phase_of(epoch).learning_rate or self._learning_rate

    def enter(
        self, model: Any, optimizer: torch.optim.Optimizer, *, epoch: int
    ) -> tuple[torch.optim.Optimizer, float]:
        """Bring a model into the phase of an epoch; nothing happens where it is in it already.

        Args:
            model: an ``EncoderClassifier``.
            optimizer: of the phase before.
            epoch: from 0.

        Returns:
            The optimizer of the trained parameters, and the peak learning rate.
        """
        self.epoch = epoch
        phase = self.phase_of(epoch)
        if phase is not self._current:
            train_only(model, phase.train, k=phase.k)
            optimizer, before = (
                build_adamw(
                    model,
                    learning_rate=self._learning_rate,
                    weight_decay=self._weight_decay,
                    layerwise_lr_decay=self._layerwise_lr_decay,
                ),
                optimizer,
            )
            carry_state(before, optimizer)
            self._current = phase
        return optimizer, self.peak_rate(epoch)


def frozen_epochs(phases: Sequence[FreezePhaseSection] | None, *, epochs: int) -> int:
    """Return for how many epochs, from the first on, the encoder is wholly frozen.

    Args:
        phases: of ``training.freeze``; None: nothing is frozen.
        epochs: of the run.
    """
    for phase in phases or []:
        if phase.train != "head":
            return phase.from_epoch
    return epochs if phases else 0


def train_only(model: EncoderClassifier, part: str, *, k: int | None) -> None:
    """Freeze all but a part of a classifier; what stands on the encoder is always trained.

    Args:
        model: the classifier.
        part: "head": the encoder is frozen; "top_k": its embeddings and all but the top ``k`` layers are;
            "all": nothing is.
        k: layers, 1 to all of them, for "top_k".
    """
    if part == "head":
        model.freeze_base_model()
    elif part == "top_k":
        assert k is not None  # the config sees to it
        model.freeze_bottom_k_layers(len(model.encoder.layers) - k)
    else:
        model.unfreeze_base_model()
