"""Masked-language-model head and model (Liu et al. 2019, section 3; Devlin et al. 2018, appendix A).

B batch of sequences, S positions in a sequence, D hidden size, V vocabulary, T targets (masked positions of a
batch).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from textclf_transformer.model.encoder import RobertaModel
from textclf_transformer.model.enhanced_mask_decoder import EnhancedMaskDecoder
from textclf_transformer.model.hf_encoder import hf_class, hf_settings, hf_tensors
from textclf_transformer.model.hf_folder import read_hf_folder, write_hf_folder
from textclf_transformer.model.hf_hub import local_folder
from textclf_transformer.model.initialisation import initialise_beside_encoder
from textclf_transformer.model.layout import unpack
from textclf_transformer.model.linear_cross_entropy import linear_cross_entropy
from textclf_transformer.model.loading import build_loaded
from textclf_transformer.model.pretrained import POSITIONS
from textclf_transformer.model.pretrained_bert import NEXT_SENTENCE
from textclf_transformer.utils import send

IGNORE_INDEX = -100

_log = logging.getLogger(__name__)
_MASK_DECODER = "mask_decoder."


class MaskedLMHead(nn.Module):
    """Linear, GELU, LayerNorm, then a projection onto the vocabulary.

    Args:
        hidden_size: D.
        vocab_size: V.
        layer_norm_eps: added to the variance.
        tie_weights: True takes the projection from the word embedding handed to ``forward``; False learns its
            own.
    """

    def __init__(
        self, *, hidden_size: int, vocab_size: int, layer_norm_eps: float, tie_weights: bool
    ) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.decoder = None if tie_weights else nn.Linear(hidden_size, vocab_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, hidden: Tensor, word_embedding: Tensor) -> Tensor:
        """Map (N, D) hidden states to (N, V) logits; ``word_embedding`` is (V, D)."""
        return F.linear(self._transform(hidden), self._projection(word_embedding), self.bias)

    def loss(self, hidden: Tensor, word_embedding: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy of (T, D) hidden states against (T,) targets, summed; a float32 scalar."""
        return linear_cross_entropy(
            self._transform(hidden), self._projection(word_embedding), self.bias, targets
        )

    def _transform(self, hidden: Tensor) -> Tensor:
        transformed: Tensor = self.norm(F.gelu(self.dense(hidden)))
        return transformed

    def _projection(self, word_embedding: Tensor) -> Tensor:
        return word_embedding if self.decoder is None else self.decoder.weight


class RobertaForMaskedLM(nn.Module):
    """Encoder and masked-language-model head.

    Args:
        encoder: the encoder; owned by this model from now on.
        layer_norm_eps: of the head's LayerNorm.
        tie_weights: whether the head's projection is the word embedding.
        enhanced_mask_decoder: whether an ``EnhancedMaskDecoder`` runs in place of the encoder's last layer;
            needs disentangled attention.

    Raises:
        ValueError: the mask decoder stands on standard attention, which knows absolute places already.
    """

    def __init__(
        self,
        encoder: RobertaModel,
        *,
        layer_norm_eps: float = 1e-5,
        tie_weights: bool = True,
        enhanced_mask_decoder: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        if enhanced_mask_decoder and encoder.attention_kind != "disentangled":
            raise ValueError("the enhanced mask decoder needs disentangled attention")
        self.mask_decoder = (
            EnhancedMaskDecoder(
                hidden_size=encoder.hidden_size,
                max_position_embeddings=encoder.max_sequence_length + encoder.pad_token_id + 1,
                pad_token_id=encoder.pad_token_id,
            )
            if enhanced_mask_decoder
            else None
        )
        self.head = MaskedLMHead(
            hidden_size=encoder.hidden_size,
            vocab_size=encoder.vocab_size,
            layer_norm_eps=layer_norm_eps,
            tie_weights=tie_weights,
        )
        initialise_beside_encoder(self)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Predict every position.

        Args:
            input_ids: (B, S) int64.
            attention_mask: (B, S) bool, True = PAD.
            labels: (B, S) int64, ``IGNORE_INDEX`` where there is no target; or None.

        Returns:
            ``logits`` (B, S, V), zero on padding; with labels also ``loss``, the mean over targets (NaN
            without any).
        """
        tokens = self.encoder.encode(input_ids, attention_mask, mask_decoder=self.mask_decoder)
        logits = unpack(self.head(tokens, self.encoder.embeddings.word_embeddings.weight), ~attention_mask)
        output = {"logits": logits}
        if labels is not None:
            targets = send(labels.masked_fill(attention_mask, IGNORE_INDEX), logits.device)
            wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
            output["loss"] = F.cross_entropy(wide.flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX)
        return output

    def masked_loss(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy summed over the targets; the head and its loss run on the targets alone.

        Args:
            input_ids: (B, S) int64.
            attention_mask: (B, S) bool, True = PAD.
            labels: (B, S) int64, ``IGNORE_INDEX`` where there is no target.

        Returns:
            float32 scalar, natural logarithm; 0 without targets.
        """
        wanted = (labels != IGNORE_INDEX) & ~attention_mask
        hidden = self.encoder.encode(
            input_ids, attention_mask, wanted=wanted, mask_decoder=self.mask_decoder
        )  # (T, D)
        targets = send(labels[wanted], hidden.device)
        return self.head.loss(hidden, self.encoder.embeddings.word_embeddings.weight, targets)

    @classmethod
    def from_hf(cls, folder: Path | str) -> Self:
        """Load a folder that transformers' ``RobertaForMaskedLM``, BERT's, DeBERTa's, or ``to_hf`` wrote.

        Args:
            folder: with config.json and model.safetensors or pytorch_model.bin; or, as a str, the name of a
                model on the hub (``owner/name``).

        Returns:
            The model in training mode, in float32, without an enhanced mask decoder.

        Raises:
            CheckpointError: a file is missing or damaged, or a tensor of encoder or head is missing or
                unexpected.
        """
        folder = local_folder(folder)
        config, state = read_hf_folder(folder)
        # Published encoders bring a pooler that MLM never used, a DeBERTa its table of absolute places.
        surplus: tuple[str, ...] = ("pooler.", NEXT_SENTENCE, POSITIONS)
        if config.tie_word_embeddings:  # older files repeat the projection
            surplus = (*surplus, "head.decoder.")
        elif "head.decoder.bias" in state:  # transformers has two biases then, and adds this one
            state["head.bias"] = state.pop("head.decoder.bias")
        model, report = build_loaded(
            lambda: cls(
                RobertaModel.from_hf_config(config),
                layer_norm_eps=config.layer_norm_eps,
                tie_weights=config.tie_word_embeddings,
            ),
            state,
            source=str(folder),
            leave_behind=surplus,
        )
        report.log()
        return model

    def to_hf(self, folder: Path | str) -> None:
        """Write a folder that transformers' ``RobertaForMaskedLM`` or ``DebertaForMaskedLM`` loads.

        An enhanced mask decoder, which Hugging Face has no place for, is left out with a warning: their
        logits are then not ours.

        Args:
            folder: a new one, or one without a model.

        Raises:
            UsageError: there is a model in the folder already.
            StorageError: the disk is full, a permission is missing …
        """
        config = {
            **hf_settings(self.encoder),
            "architectures": [hf_class(self.encoder, "ForMaskedLM")],
            "tie_word_embeddings": self.head.decoder is None,
        }
        state = {name: t for name, t in self.state_dict().items() if not name.startswith(_MASK_DECODER)}
        if self.mask_decoder is not None:
            _log.warning("%s: the enhanced mask decoder is left out, logits will differ without it", folder)
        tensors = hf_tensors(self.encoder, state, bare=False)
        if self.head.decoder is not None:  # transformers ties the two biases only together with the weights
            head = "lm_head" if self.encoder.attention_kind == "standard" else "cls.predictions"
            tensors[f"{head}.decoder.bias"] = tensors[f"{head}.bias"].clone()
        write_hf_folder(Path(folder), config=config, tensors=tensors)
