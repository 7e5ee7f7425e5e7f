"""Freezing and counting the parameters of a classifier that stands on an encoder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar, Self

from torch import nn

from textclf_transformer.model.encoder import RobertaModel


def count_parameters(modules: Iterable[nn.Module], *, trainable_only: bool = False) -> int:
    """Return the number of scalars in the parameters below ``modules``, each tensor once."""
    unique = {id(p): p for module in modules for p in module.parameters()}
    return sum(p.numel() for p in unique.values() if p.requires_grad or not trainable_only)


class EncoderClassifier(nn.Module):
    """Base of the classifiers: what they can freeze and count.

    A frozen part takes no gradient, so no graph is built for it and an optimizer made afterwards keeps no
    state. A wholly frozen encoder also runs without dropout, whatever ``train()`` says.

    Subclasses have an ``encoder`` and a ``classifier``; whatever else they have counts as the aggregator.
    Their ``settings`` are the keywords that build the same model again, of the types in ``SETTING_TYPES``;
    those in ``ADDED_SETTINGS`` older versions did not write, and had these values.

    Args:
        encoder: the encoder; owned by this model from now on.
    """

    SETTING_TYPES: ClassVar[Mapping[str, tuple[type, ...]]]
    ADDED_SETTINGS: ClassVar[Mapping[str, object]] = {}
    settings: dict[str, str | int | float | bool | None]
    classifier: nn.Module
    num_labels: int

    def __init__(self, encoder: RobertaModel) -> None:
        super().__init__()
        self.encoder = encoder

    def train(self, mode: bool = True) -> Self:
        """Switch to training or evaluation; a wholly frozen encoder stays in evaluation."""
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self.encoder.parameters()):
            self.encoder.eval()
        return self

    def freeze_embeddings(self) -> None:
        """Freeze the embeddings; the rest stays as it is."""
        self.encoder.embeddings.requires_grad_(False)
        self.train(self.training)

    def freeze_base_model(self) -> None:
        """Freeze the whole encoder."""
        self.encoder.requires_grad_(False)
        self.train(self.training)

    def freeze_bottom_k_layers(self, k: int) -> None:
        """Freeze the embeddings and the lowest ``k`` layers; make the other layers trainable.

        Args:
            k: from 0 to the number of layers.

        Raises:
            ValueError: ``k`` is out of range.
        """
        layers = self.encoder.layers
        if not 0 <= k <= len(layers):
            raise ValueError(f"cannot freeze {k} layers of {len(layers)}")
        self.encoder.embeddings.requires_grad_(False)
        for index, layer in enumerate(layers):
            layer.requires_grad_(index >= k)
        self.train(self.training)

    def unfreeze_base_model(self) -> None:
        """Make the whole encoder trainable, the embeddings included."""
        self.encoder.requires_grad_(True)
        self.train(self.training)

    def count_parameters(self) -> int:
        """Return the number of parameters."""
        return count_parameters([self])

    def count_trainable_parameters(self) -> int:
        """Return the number of parameters that are not frozen."""
        return count_parameters([self], trainable_only=True)

    def get_parameter_breakdown(self) -> dict[str, int]:
        """Return the number of parameters of each part, and their sum.

        Returns:
            ``roberta_embeddings, roberta_encoder, attention_aggregator, classifier, total``.
        """
        parts: dict[str, list[nn.Module]] = {
            "roberta_embeddings": [self.encoder.embeddings],
            "roberta_encoder": [self.encoder.layers],
            "attention_aggregator": [
                part for name, part in self.named_children() if name not in {"encoder", "classifier"}
            ],
            "classifier": [self.classifier],
        }
        return {name: count_parameters(modules) for name, modules in parts.items()} | {
            "total": self.count_parameters()
        }


def parameters_in_words(model: nn.Module) -> str:
    """Return one line for the log: the parameters, by part where the model knows its parts."""
    whole = {"total": count_parameters([model])}
    parts = model.get_parameter_breakdown() if isinstance(model, EncoderClassifier) else whole
    counts = ", ".join(f"{name} {count:,}" for name, count in parts.items())
    return f"parameters: {counts}; trained {count_parameters([model], trainable_only=True):,}"
