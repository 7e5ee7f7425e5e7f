"""The parts of the RoBERTa encoder (layers as in Devlin et al. 2018): embeddings, self-attention, one layer.

All of it runs on the N real tokens of a batch; padding has been taken out before.

N real tokens, N' those whose output is wanted, D hidden size, H heads, K head dim, V vocabulary.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from textclf_transformer.model.attention import attend, check_backend, check_heads
from textclf_transformer.model.disentangled import ContentEmbeddings, DisentangledSelfAttention
from textclf_transformer.model.dropout import Dropout, check_probability
from textclf_transformer.model.layout import Selection, SequenceLayout
from textclf_transformer.model.linear import Linear, linear

ATTENTION_KINDS = ("standard", "disentangled")


class Embeddings(nn.Module):
    """Word embedding + learned position embedding, LayerNorm, dropout.

    Args:
        vocab_size: V.
        hidden_size: D.
        max_position_embeddings: rows of the position table; the first ``pad_token_id + 1`` are never used by
            tokens.
        pad_token_id: its rows stay zero.
        layer_norm_eps: added to the variance.
        dropout_prob: drop probability of the sum.
    """

    relative_positions: None = None  # positions are in the sum already; see ``ContentEmbeddings``

    def __init__(
        self,
        *,
        vocab_size: int,
        hidden_size: int,
        max_position_embeddings: int,
        pad_token_id: int,
        layer_norm_eps: float,
        dropout_prob: float,
    ) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(vocab_size, hidden_size, padding_idx=pad_token_id)
        self.position_embeddings = nn.Embedding(
            max_position_embeddings, hidden_size, padding_idx=pad_token_id
        )
        self.norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.dropout = Dropout(dropout_prob)

    def forward(self, token_ids: Tensor, position_ids: Tensor) -> Tensor:
        """Map (N,) token ids and (N,) position ids to (N, D)."""
        summed = self.word_embeddings(token_ids) + self.position_embeddings(position_ids)
        return self.dropout(self.norm(summed))


def build_embeddings(
    attention_kind: str,
    *,
    vocab_size: int,
    hidden_size: int,
    max_position_embeddings: int,
    max_relative_positions: int,
    pad_token_id: int,
    layer_norm_eps: float,
    dropout_prob: float,
) -> Embeddings | ContentEmbeddings:
    """Return the embeddings that go with a kind of attention, see the two classes."""
    if attention_kind == "disentangled":
        return ContentEmbeddings(
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            max_relative_positions=max_relative_positions,
            pad_token_id=pad_token_id,
            layer_norm_eps=layer_norm_eps,
            dropout_prob=dropout_prob,
        )
    return Embeddings(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        max_position_embeddings=max_position_embeddings,
        pad_token_id=pad_token_id,
        layer_norm_eps=layer_norm_eps,
        dropout_prob=dropout_prob,
    )


class SelfAttention(nn.Module):
    """Multi-head self-attention; query, key and value come from one matrix product.

    Args:
        hidden_size: D.
        num_attention_heads: H; must divide D.
        attention_probs_dropout_prob: drop probability of the attention weights.
        backend: see ``attend``.

    Raises:
        ValueError: H does not divide D, the backend is unknown, or the drop probability is none.
    """

    def __init__(
        self, *, hidden_size: int, num_attention_heads: int, attention_probs_dropout_prob: float, backend: str
    ) -> None:
        super().__init__()
        check_heads(num_attention_heads, hidden_size)
        check_backend(backend)
        check_probability(attention_probs_dropout_prob)
        self.num_attention_heads = num_attention_heads
        self.dropout_prob = attention_probs_dropout_prob
        self.backend = backend
        self.query_key_value = Linear(hidden_size, 3 * hidden_size)

    def forward(
        self,
        hidden: Tensor,
        layout: SequenceLayout,
        relative_positions: Tensor | None = None,
        selection: Selection | None = None,
    ) -> Tensor:
        """Map (N, D) to (N', D): the heads' outputs side by side, before the output projection.

        ``relative_positions`` is what ``DisentangledSelfAttention`` reads; here positions are in ``hidden``.
        """
        heads = (self.num_attention_heads, hidden.shape[1] // self.num_attention_heads)
        query = query_layout = None
        if selection is None:
            packed = self.query_key_value(hidden).unflatten(1, (3, *heads))
        else:
            sizes = (hidden.shape[1], 2 * hidden.shape[1])
            weights = self.query_key_value.weight.split(sizes)
            biases = self.query_key_value.bias.split(sizes)
            query = linear(selection.of(hidden), weights[0], biases[0]).unflatten(1, heads)
            query_layout = selection.layout
            packed = linear(hidden, weights[1], biases[1]).unflatten(1, (2, *heads))
        context = attend(
            packed,
            layout,
            backend=self.backend,
            dropout_p=self.dropout_prob if self.training else 0.0,
            query=query,
            query_layout=query_layout,
        )
        return context.flatten(1)


class EncoderLayer(nn.Module):
    """Self-attention, then a feed-forward network, each with dropout, residual sum and LayerNorm (post-norm).

    Args:
        hidden_size: D.
        num_attention_heads: H.
        intermediate_size: width of the feed-forward network.
        layer_norm_eps: added to the variance.
        hidden_dropout_prob: drop probability before each residual sum.
        attention_probs_dropout_prob: drop probability of the attention weights.
        attention_backend: see ``attend``.
        attention_kind: one of ``ATTENTION_KINDS``; disentangled is DeBERTa's.

    Attributes:
        compiled: whether ``torch.compile`` runs what follows the attention; equal to rounding, dropout aside.

    Raises:
        ValueError: H does not divide D, or the attention has no such backend.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        num_attention_heads: int,
        intermediate_size: int,
        layer_norm_eps: float,
        hidden_dropout_prob: float,
        attention_probs_dropout_prob: float,
        attention_backend: str,
        attention_kind: str = "standard",
    ) -> None:
        super().__init__()
        self.attention: SelfAttention | DisentangledSelfAttention
        if attention_kind == "disentangled":
            self.attention = DisentangledSelfAttention(
                hidden_size=hidden_size,
                num_attention_heads=num_attention_heads,
                attention_probs_dropout_prob=attention_probs_dropout_prob,
                position_dropout_prob=hidden_dropout_prob,
                backend=attention_backend,
            )
        else:
            self.attention = SelfAttention(
                hidden_size=hidden_size,
                num_attention_heads=num_attention_heads,
                attention_probs_dropout_prob=attention_probs_dropout_prob,
                backend=attention_backend,
            )
        self.attention_output = Linear(hidden_size, hidden_size)
        self.attention_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.intermediate = Linear(hidden_size, intermediate_size)
        self.output = Linear(intermediate_size, hidden_size)
        self.output_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.dropout = Dropout(hidden_dropout_prob)
        self.compiled = False

    def forward(
        self,
        hidden: Tensor,
        layout: SequenceLayout,
        selection: Selection | None = None,
        relative_positions: Tensor | None = None,
    ) -> Tensor:
        """Run the layer.

        Args:
            hidden: (N, D).
            layout: which tokens form a sequence.
            selection: tokens whose output is wanted; None means all. They attend to every token; all else
                runs for these alone, which is exact and saves most of a last layer.
            relative_positions: the encoder's table for disentangled attention, else None.

        Returns:
            (N', D).
        """
        context = self.attention(hidden, layout, relative_positions, selection)
        return self.after_attention(context, hidden if selection is None else selection.of(hidden))

    def after_attention(self, context: Tensor, hidden: Tensor) -> Tensor:
        """Run what follows the attention: (N', D) heads' outputs and (N', D) residual stream to (N', D)."""
        run = _compiled_after_attention() if self.compiled else EncoderLayer._after_attention
        return run(self, context, hidden)

    def _after_attention(self, context: Tensor, hidden: Tensor) -> Tensor:
        hidden = self.attention_norm(_residual_sum(hidden, self.dropout(self.attention_output(context))))
        expanded = self.intermediate.gelu(hidden)
        return self.output_norm(_residual_sum(hidden, self.dropout(self.output(expanded))))


def _residual_sum(hidden: Tensor, update: Tensor) -> Tensor:
    if hidden.device.type == "cpu" and (hidden.dtype, update.dtype) == (torch.float32, torch.bfloat16):
        # A sum of two dtypes would widen one of them into a tensor of its own and then write a third.
        return update.to(torch.float32).add_(hidden)
    return hidden + update


@functools.cache
def _compiled_after_attention() -> Callable[[EncoderLayer, Tensor, Tensor], Tensor]:
    """Return the compiled function; all layers share it, and their weights go in as its arguments."""
    # Without attention there are rows alone, any number of them. What depends on lengths is left outside: it
    # would be compiled again for each batch.
    compiled: Callable[[EncoderLayer, Tensor, Tensor], Tensor] = torch.compile(
        EncoderLayer._after_attention, dynamic=True
    )
    return compiled
