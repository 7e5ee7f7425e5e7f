"""DeBERTa's enhanced mask decoder (He et al. 2021, section 3.2): absolute places where words are guessed.

With disentangled attention the encoder knows distances alone. Before a hidden word is guessed, the last layer
runs twice in place of once: keys and values are its usual input both times; the queries are that input plus a
vector of the absolute place the first time, and the first time's output the second time. The weights of the
layer are the encoder's own.

N real tokens, D hidden size.
"""

from __future__ import annotations

from torch import Tensor, nn

from textclf_transformer.model.disentangled import DisentangledSelfAttention
from textclf_transformer.model.layers import EncoderLayer
from textclf_transformer.model.layout import Selection, SequenceLayout


class EnhancedMaskDecoder(nn.Module):
    """What runs in place of an encoder's last layer for masked language modelling.

    Args:
        hidden_size: D.
        max_position_embeddings: rows of the position table, as in ``RobertaModel``.
        pad_token_id: its row stays zero; positions begin behind it.
    """

    def __init__(self, *, hidden_size: int, max_position_embeddings: int, pad_token_id: int) -> None:
        super().__init__()
        self.position_embeddings = nn.Embedding(
            max_position_embeddings, hidden_size, padding_idx=pad_token_id
        )

    def forward(
        self,
        hidden: Tensor,
        position_ids: Tensor,
        last_layer: EncoderLayer,
        layout: SequenceLayout,
        selection: Selection | None,
        relative_positions: Tensor,
    ) -> Tensor:
        """Decode.

        Args:
            hidden: (N, D), the input of the last layer.
            position_ids: (N,) int64, ``pad_token_id`` + 1, + 2, … within each sequence.
            last_layer: the encoder's, with disentangled attention.
            layout: which tokens form a sequence.
            selection: tokens whose output is wanted; None means all.
            relative_positions: the encoder's table.

        Returns:
            (N', D).
        """
        attention = last_layer.attention
        assert isinstance(attention, DisentangledSelfAttention)
        queries = hidden + self.position_embeddings(position_ids)
        context = attention.attend_from(queries, hidden, layout, relative_positions)
        queries = last_layer.after_attention(context, queries)
        context = attention.attend_from(queries, hidden, layout, relative_positions)
        if selection is not None:
            context, queries = selection.of(context), selection.of(queries)
        return last_layer.after_attention(context, queries)
