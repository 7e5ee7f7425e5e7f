"""The RoBERTa encoder (Liu et al. 2019): post-norm, learned positions, no segments.

With disentangled attention it is the encoder of DeBERTa (He et al. 2021), see ``disentangled``.

It runs on the N real tokens of a batch: padding is taken out once before the embeddings and put back, if at
all, after the last layer.

B batch of sequences, S positions in a sequence, N real tokens, D hidden size, H heads, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from textclf_transformer.model.enhanced_mask_decoder import EnhancedMaskDecoder
from textclf_transformer.model.hf_config import HfConfig
from textclf_transformer.model.hf_encoder import hf_class, hf_settings, hf_tensors
from textclf_transformer.model.hf_folder import read_hf_folder, write_hf_folder
from textclf_transformer.model.hf_hub import local_folder
from textclf_transformer.model.initialisation import initialise_weights
from textclf_transformer.model.layers import ATTENTION_KINDS, EncoderLayer, build_embeddings
from textclf_transformer.model.layout import SequenceLayout, check_attention_mask, unpack
from textclf_transformer.model.loading import build_loaded_encoder
from textclf_transformer.model.pretrained import ENCODER_PREFIX
from textclf_transformer.utils import send


def _check_shape(
    *,
    num_hidden_layers: int,
    max_position_embeddings: int,
    pad_token_id: int,
    attention_kind: str,
    max_relative_positions: int | None,
) -> None:
    if num_hidden_layers < 1:
        raise ValueError(f"num_hidden_layers must be at least 1, found {num_hidden_layers}")
    if max_position_embeddings < pad_token_id + 2:
        raise ValueError(
            f"max_position_embeddings {max_position_embeddings} leaves no position "
            f"after pad_token_id {pad_token_id}"
        )
    if attention_kind not in ATTENTION_KINDS:
        raise ValueError(f"unknown attention {attention_kind!r}, expected one of {ATTENTION_KINDS}")
    if attention_kind == "standard" and max_relative_positions is not None:
        raise ValueError("standard attention has no use for max_relative_positions")


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
        attention_kind: one of ``ATTENTION_KINDS``.
        max_relative_positions: R, from which distance on tokens are equally far apart (disentangled
            attention); None: the longest sequence.
        use_gradient_checkpointing: keep only each layer's input; the backward pass computes the rest again.

    Raises:
        ValueError: ``num_attention_heads`` does not divide ``hidden_size``, there is no layer, the position
            table has no room, or attention or backend are unknown or at odds with each other.
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
        attention_kind: str = "standard",
        max_relative_positions: int | None = None,
        use_gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        _check_shape(
            num_hidden_layers=num_hidden_layers,
            max_position_embeddings=max_position_embeddings,
            pad_token_id=pad_token_id,
            attention_kind=attention_kind,
            max_relative_positions=max_relative_positions,
        )
        self.hidden_size = hidden_size
        self.num_attention_heads = num_attention_heads
        self.pad_token_id = pad_token_id
        self.max_sequence_length = max_position_embeddings - pad_token_id - 1
        self.use_gradient_checkpointing = use_gradient_checkpointing
        self.attention_kind = attention_kind
        self.max_relative_positions = max_relative_positions or self.max_sequence_length
        self.embeddings = build_embeddings(
            attention_kind,
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            max_position_embeddings=max_position_embeddings,
            max_relative_positions=self.max_relative_positions,
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
                attention_kind=attention_kind,
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
        """Load the encoder of a Hugging Face RoBERTa, BERT or DeBERTa, or of any of our exported models.

        Args:
            folder: with config.json and model.safetensors or pytorch_model.bin; or, as a str, the name of a
                model on the hub (``owner/name``).
            attention_backend, use_gradient_checkpointing: see the class.

        Returns:
            The encoder in training mode, in float32. RoBERTa's 514 rows of positions make 512 tokens: the
            first ``pad_token_id + 1`` rows are not used. Parts of a head are left behind and logged.

        Raises:
            CheckpointError: a file is missing or damaged, or the encoder's tensors are not all there.
        """
        folder = local_folder(folder)
        config, state = read_hf_folder(folder)
        build = partial(
            cls.from_hf_config,
            config,
            attention_backend=attention_backend,
            use_gradient_checkpointing=use_gradient_checkpointing,
        )
        encoder, report = build_loaded_encoder(build, state, source=str(folder))
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
            attention_kind=config.attention_kind,
            max_relative_positions=config.max_relative_positions,
            attention_backend=attention_backend,
            use_gradient_checkpointing=use_gradient_checkpointing,
        )

    def to_hf(self, folder: Path | str) -> None:
        """Write config.json and model.safetensors for transformers' ``RobertaModel`` or ``DebertaModel``.

        Args:
            folder: a new one, or one without a model.

        Raises:
            UsageError: there is a model in the folder already.
            StorageError: the disk is full, a permission is missing …
        """
        state = {ENCODER_PREFIX + name: tensor for name, tensor in self.state_dict().items()}
        write_hf_folder(
            Path(folder),
            config={"architectures": [hf_class(self, "Model")], **hf_settings(self)},
            tensors=hf_tensors(self, state, bare=True),
        )

    def compile_layers(self) -> None:
        """Let ``torch.compile`` run what follows the attention in each layer; equal to rounding.

        It happens at the next call and takes seconds; once for all layers and numbers of tokens, but anew
        for training, evaluation and what is frozen. In training, dropout draws other masks.
        """
        for layer in self.layers:
            assert isinstance(layer, EncoderLayer)
            layer.compiled = True

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
        return {"last_hidden_state": unpack(self.encode(input_ids, attention_mask), ~attention_mask)}

    def encode(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        wanted: Tensor | None = None,
        mask_decoder: EnhancedMaskDecoder | None = None,
    ) -> Tensor:
        """Encode a batch and return hidden states without padding.

        Ids and masks may lie on the CPU whatever the model's device: padding is taken out there, the real
        tokens alone are sent, and nothing waits for the device. On a GPU each lookup of padding is a wait.

        Args:
            input_ids: (B, S) int64.
            attention_mask: (B, S) bool, True = PAD.
            wanted: (B, S) bool, positions whose hidden state is wanted; all must be real. None means all real
                ones.
            mask_decoder: runs in place of the last layer, with its weights; needs disentangled attention.

        Returns:
            (N', D), the wanted positions in the order of the rows.

        Raises:
            TypeError: the mask is not bool.
            ValueError: shapes differ, or a sequence is longer than the position table.
        """
        check_attention_mask(attention_mask, input_ids.shape)
        device = self.embeddings.word_embeddings.weight.device
        layout = SequenceLayout.from_mask(attention_mask, num_heads=self.num_attention_heads, device=device)
        if layout.longest > self.max_sequence_length:
            raise ValueError(
                f"a sequence has {layout.longest} tokens, the position table holds {self.max_sequence_length}"
            )
        position_ids = self.pad_token_id + (~attention_mask).cumsum(dim=1)  # (B, S)
        position_ids = send(position_ids.flatten().index_select(0, layout.token_indices), device)  # (N,)
        token_ids = send(input_ids.flatten().index_select(0, layout.token_indices), device)  # (N,)
        selection = None if wanted is None else layout.select(wanted)
        hidden = self.embeddings(token_ids, position_ids)
        relative = self.embeddings.relative_positions
        *first, last = self.layers
        for layer in first:
            hidden = self._run(layer, hidden, layout, None, relative)
        if mask_decoder is not None:
            return self._run(mask_decoder, hidden, position_ids, last, layout, selection, relative)
        return self._run(last, hidden, layout, selection, relative)

    def _run(self, module: Callable[..., Tensor], *arguments: object) -> Tensor:
        """Call a module; under gradient checkpointing it is computed again in the backward pass."""
        if self.use_gradient_checkpointing and torch.is_grad_enabled():
            module = partial(checkpoint, module, use_reentrant=False)
        return module(*arguments)
