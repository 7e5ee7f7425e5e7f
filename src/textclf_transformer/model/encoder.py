"""The RoBERTa encoder (Liu et al. 2019): post-norm, learned positions, no segments.

It runs on the N real tokens of a batch: padding is taken out once before the embeddings and put back, if at
all, after the last layer.

B batch of sequences, S positions in a sequence, N real tokens, D hidden size, H heads, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from textclf_transformer.model.attention import SequenceLayout, check_attention_mask
from textclf_transformer.model.hf_config import HfConfig
from textclf_transformer.model.hf_folder import read_hf_folder, write_hf_folder
from textclf_transformer.model.initialisation import initialise_weights
from textclf_transformer.model.layers import Embeddings, EncoderLayer
from textclf_transformer.model.loading import load_encoder
from textclf_transformer.model.pretrained import ENCODER_PREFIX, roberta_state_to_hf


def unpack(tokens: Tensor, places: Tensor) -> Tensor:
    """Spread packed rows over a padded tensor.

    Args:
        tokens: (N, D).
        places: bool of any shape with N True cells, in row order.

    Returns:
        (*places.shape, D), zero where ``places`` is False.
    """
    flat = tokens.new_zeros(places.numel(), tokens.shape[-1])
    flat = flat.index_copy(0, places.flatten().nonzero().squeeze(1), tokens)
    return flat.view(*places.shape, tokens.shape[-1])


class RobertaModel(nn.Module):
    """The encoder: ids and mask in, hidden states out.

    Args:
        vocab_size: V.
        hidden_size: D.
        num_hidden_layers: layers of the stack.
        num_attention_heads: H; must divide D.
        intermediate_size: width of the feed-forward networks.
        max_position_embeddings: rows of the position table: the longest sequence + ``pad_token_id`` + 1.
        pad_token_id: id of the padding token.
        layer_norm_eps: added to the variance.
        hidden_dropout_prob: drop probability before residual sums.
        attention_probs_dropout_prob: drop probability of attention weights.
        embedding_dropout_prob: drop probability after the embeddings.
        attention_backend: see ``attend``.
        use_gradient_checkpointing: keep only each layer's input and compute the layer again in the backward
            pass.

    Raises:
        ValueError: ``num_attention_heads`` does not divide ``hidden_size``, there is no layer, or the
            position table has no room.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        hidden_size: int,
        num_hidden_layers: int,
        num_attention_heads: int,
        intermediate_size: int,
        max_position_embeddings: int,
        pad_token_id: int,
        layer_norm_eps: float = 1e-5,
        hidden_dropout_prob: float = 0.1,
        attention_probs_dropout_prob: float = 0.0,
        embedding_dropout_prob: float = 0.1,
        attention_backend: str = "explicit",
        use_gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if num_hidden_layers < 1:
            raise ValueError(f"num_hidden_layers must be at least 1, found {num_hidden_layers}")
        self.hidden_size = hidden_size
        self.num_attention_heads = num_attention_heads
        self.pad_token_id = pad_token_id
        self.max_sequence_length = max_position_embeddings - pad_token_id - 1
        self.use_gradient_checkpointing = use_gradient_checkpointing
        if self.max_sequence_length < 1:
            raise ValueError(
                f"max_position_embeddings {max_position_embeddings} leaves no position "
                f"after pad_token_id {pad_token_id}"
            )
        self.embeddings = Embeddings(
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            max_position_embeddings=max_position_embeddings,
            pad_token_id=pad_token_id,
            layer_norm_eps=layer_norm_eps,
            dropout_prob=embedding_dropout_prob,
        )
        self.layers = nn.ModuleList(
            EncoderLayer(
                hidden_size=hidden_size,
                num_attention_heads=num_attention_heads,
                intermediate_size=intermediate_size,
                layer_norm_eps=layer_norm_eps,
                hidden_dropout_prob=hidden_dropout_prob,
                attention_probs_dropout_prob=attention_probs_dropout_prob,
                attention_backend=attention_backend,
            )
            for _ in range(num_hidden_layers)
        )
        initialise_weights(self)

    @classmethod
    def from_hf(
        cls,
        folder: Path | str,
        *,
        attention_backend: str = "explicit",
        use_gradient_checkpointing: bool = False,
    ) -> Self:
        """Load the encoder of a Hugging Face RoBERTa, or of any of our exported models.

        Args:
            folder: with config.json and model.safetensors or pytorch_model.bin.
            attention_backend: see ``attend``.
            use_gradient_checkpointing: see the class.

        Returns:
            The encoder in training mode, in float32. RoBERTa's 514 rows of positions make 512 tokens: the
            first ``pad_token_id + 1`` rows are not used. Parts of a head are left behind and listed in the
            log.

        Raises:
            CheckpointError: a file is missing or damaged, or the encoder's tensors are not all there.
        """
        folder = Path(folder)
        config, state = read_hf_folder(folder)
        encoder = cls.from_hf_config(
            config, attention_backend=attention_backend, use_gradient_checkpointing=use_gradient_checkpointing
        )
        report = load_encoder(encoder, state, source=str(folder))
        report.log()
        return encoder

    @classmethod
    def from_hf_config(
        cls,
        config: HfConfig,
        *,
        attention_backend: str = "explicit",
        use_gradient_checkpointing: bool = False,
    ) -> Self:
        """Return a randomly initialised encoder of the shape that a config.json gives."""
        return cls(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            intermediate_size=config.intermediate_size,
            max_position_embeddings=config.max_position_embeddings,
            pad_token_id=config.pad_token_id,
            layer_norm_eps=config.layer_norm_eps,
            hidden_dropout_prob=config.hidden_dropout_prob,
            attention_probs_dropout_prob=config.attention_probs_dropout_prob,
            embedding_dropout_prob=config.embedding_dropout_prob,
            attention_backend=attention_backend,
            use_gradient_checkpointing=use_gradient_checkpointing,
        )

    def to_hf(self, folder: Path | str) -> None:
        """Write config.json and model.safetensors that transformers' ``RobertaModel`` loads.

        Args:
            folder: a new one, or one without a model.

        Raises:
            UsageError: there is a model in the folder already.
            StorageError: the disk is full, a permission is missing …
        """
        state = {ENCODER_PREFIX + name: tensor for name, tensor in self.state_dict().items()}
        write_hf_folder(
            Path(folder),
            config={"architectures": ["RobertaModel"], **self.hf_settings()},
            tensors=roberta_state_to_hf(state, encoder_prefix=""),
        )

    def hf_settings(self) -> Mapping[str, Any]:
        """Return the encoder's part of a Hugging Face config.json."""
        layer = self.layers[0]
        assert isinstance(layer, EncoderLayer)
        return {
            "model_type": "roberta",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": len(self.layers),
            "num_attention_heads": self.num_attention_heads,
            "intermediate_size": layer.intermediate.out_features,
            "max_position_embeddings": self.embeddings.position_embeddings.num_embeddings,
            "type_vocab_size": 1,
            "pad_token_id": self.pad_token_id,
            "bos_token_id": None,
            "eos_token_id": None,
            "hidden_act": "gelu",
            "layer_norm_eps": self.embeddings.norm.eps,
            "hidden_dropout_prob": layer.dropout.p,
            "attention_probs_dropout_prob": layer.attention.dropout_prob,
            "embedding_dropout_prob": self.embeddings.dropout.p,
            "initializer_range": 0.02,
            "tie_word_embeddings": True,
        }

    @property
    def vocab_size(self) -> int:
        """V, rows of the word embedding."""
        return self.embeddings.word_embeddings.num_embeddings

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """Encode a batch.

        Args:
            input_ids: (B, S) int64; what stands under True in the mask is never read.
            attention_mask: (B, S) bool, True = PAD.

        Returns:
            ``last_hidden_state`` (B, S, D), zero on padding.

        Raises:
            TypeError: the mask is not bool.
            ValueError: shapes differ, or a sequence is longer than the position table.
        """
        tokens = self.encode(input_ids, attention_mask)
        return {"last_hidden_state": unpack(tokens, ~attention_mask)}

    def encode(self, input_ids: Tensor, attention_mask: Tensor, wanted: Tensor | None = None) -> Tensor:
        """Encode a batch and return hidden states without padding.

        Args:
            input_ids: (B, S) int64.
            attention_mask: (B, S) bool, True = PAD.
            wanted: (B, S) bool, positions whose hidden state is wanted; all must be real. None means all real
                ones.

        Returns:
            (N', D), the wanted positions in the order of the rows.

        Raises:
            TypeError: the mask is not bool.
            ValueError: shapes differ, or a sequence is longer than the position table.
        """
        check_attention_mask(attention_mask, input_ids.shape)
        layout = SequenceLayout.from_mask(attention_mask, num_heads=self.num_attention_heads)
        longest = max(layout.lengths, default=0)
        if longest > self.max_sequence_length:
            raise ValueError(
                f"a sequence has {longest} tokens, the position table holds {self.max_sequence_length}"
            )
        position_ids = self.pad_token_id + (~attention_mask).cumsum(dim=1)  # (B, S)
        token_ids = input_ids.flatten().index_select(0, layout.token_indices)  # (N,)
        hidden = self.embeddings(token_ids, position_ids.flatten().index_select(0, layout.token_indices))
        selected = None
        if wanted is not None:
            selected = wanted.flatten().index_select(0, layout.token_indices).nonzero().squeeze(1)
        for layer in self.layers[:-1]:
            hidden = self._run_layer(layer, hidden, layout, None)
        return self._run_layer(self.layers[-1], hidden, layout, selected)

    def _run_layer(
        self, layer: nn.Module, hidden: Tensor, layout: SequenceLayout, selected: Tensor | None
    ) -> Tensor:
        if self.use_gradient_checkpointing and torch.is_grad_enabled():
            output: Tensor = checkpoint(layer, hidden, layout, selected, use_reentrant=False)
            return output
        output = layer(hidden, layout, selected)
        return output
