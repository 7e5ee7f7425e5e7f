"""From a document's or a sequence's vector to its labels: our head, and the one that transformers has.

B batch, D hidden size, L labels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from textclf_transformer.model.dropout import Dropout
from textclf_transformer.model.ordinal import CumulativeLink

CLASSIFIER_KINDS = ("normalised", "huggingface")

# In RoBERTa's head and in DeBERTa's, by the kind of attention.
SEQUENCE_HEAD_ACTIVATIONS = {"standard": "tanh", "disentangled": "gelu"}


def in_dtype_of(head: nn.Module, vectors: Tensor) -> Tensor:
    """Return ``vectors`` in the dtype of the head's weights.

    That is float32, though autocast gives less, unless a caller has cast the model, as by ``model.half()``.
    """
    return vectors.to(next((parameter.dtype for parameter in head.parameters()), torch.float32))


class ClassifierHead(nn.Module):
    """LayerNorm, Linear(D → D/2), tanh, dropout, Linear(→ L) or, for ordered labels, a cumulative link.

    Args:
        hidden_size: D.
        num_labels: L.
        layer_norm_eps: added to the variance.
        dropout_prob: drop probability before the last layer.
        ordinal: whether the labels have an order, see ``CumulativeLink``.
    """

    def __init__(
        self, *, hidden_size: int, num_labels: int, layer_norm_eps: float, dropout_prob: float, ordinal: bool
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.dense = nn.Linear(hidden_size, hidden_size // 2)
        self.dropout = Dropout(dropout_prob)
        self.output = (
            CumulativeLink(input_size=hidden_size // 2, num_labels=num_labels)
            if ordinal
            else nn.Linear(hidden_size // 2, num_labels)
        )

    def forward(self, documents: Tensor) -> Tensor:
        """Map (B, D) to logits (B, L), with ``ordinal`` log-probabilities."""
        return self.output(self.dropout(torch.tanh(self.dense(self.norm(documents)))))


class SequenceHead(nn.Module):
    """Dropout, Linear(D → D), activation, dropout, Linear(→ L).

    As in transformers: RoBERTa's head has tanh, DeBERTa's GELU.

    Args:
        hidden_size: D.
        num_labels: L.
        activation: "tanh" or "gelu".
        dropout_prob: drop probability before both layers.
    """

    def __init__(self, *, hidden_size: int, num_labels: int, activation: str, dropout_prob: float) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.activation = {"tanh": nn.Tanh(), "gelu": nn.GELU()}[activation]
        self.dropout = Dropout(dropout_prob)
        self.output = nn.Linear(hidden_size, num_labels)

    def forward(self, sequences: Tensor) -> Tensor:
        """Map (B, D) to logits (B, L)."""
        logits: Tensor = self.output(self.dropout(self.activation(self.dense(self.dropout(sequences)))))
        return logits


def build_classifier_head(
    kind: str,
    *,
    pooling: str,
    token_pooling: str,
    attention_kind: str,
    hidden_size: int,
    num_labels: int,
    layer_norm_eps: float,
    dropout_prob: float,
    ordinal: bool,
) -> ClassifierHead | SequenceHead:
    """Return the head of a kind, one of ``CLASSIFIER_KINDS``; the arguments are those of the two classes.

    Raises:
        ValueError: the kind is unknown, or Hugging Face's head would stand on another vector than the first
            chunk's [CLS] or on labels with an order.
    """
    if kind not in CLASSIFIER_KINDS:
        raise ValueError(f"unknown classifier {kind!r}, expected one of {CLASSIFIER_KINDS}")
    if kind == "normalised":
        return ClassifierHead(
            hidden_size=hidden_size,
            num_labels=num_labels,
            layer_norm_eps=layer_norm_eps,
            dropout_prob=dropout_prob,
            ordinal=ordinal,
        )
    if (pooling, token_pooling) != ("cls", "cls") or ordinal:
        raise ValueError(
            "Hugging Face's head needs pooling cls, token_pooling cls and labels without an order"
        )
    return SequenceHead(
        hidden_size=hidden_size,
        num_labels=num_labels,
        activation=SEQUENCE_HEAD_ACTIVATIONS[attention_kind],
        dropout_prob=dropout_prob,
    )
