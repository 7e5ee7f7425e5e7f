"""The long-document classifier: a vector of each chunk, pooling over chunks, classifying the document.

Hierarchical transformers over chunks: Pappagari et al. 2019 ("Hierarchical Transformers for Long Document
Classification"); attention pooling: Yang et al. 2016.

B batch of documents, C chunks of a document, M real chunks of all documents of a batch, S positions in a
chunk, D hidden size, L labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from textclf_transformer.model.chunk_groups import encode_in_groups
from textclf_transformer.model.classifier_heads import build_classifier_head, in_dtype_of
from textclf_transformer.model.dropout import Dropout
from textclf_transformer.model.encoder import RobertaModel
from textclf_transformer.model.freezing import EncoderClassifier
from textclf_transformer.model.head_files import load_classifier, write_classifier
from textclf_transformer.model.hf_hub import local_folder
from textclf_transformer.model.initialisation import initialise_beside_encoder
from textclf_transformer.model.layout import check_attention_mask, unpack
from textclf_transformer.model.pooling import build_chunk_positions, build_pooling
from textclf_transformer.model.token_pooling import check_token_pooling, encode_sequences
from textclf_transformer.utils import send


class HierarchicalRobertaForClassification(EncoderClassifier):
    """Encoder over chunks, pooling over chunks, classifier over documents.

    Args:
        encoder: the encoder; owned by this model from now on.
        num_labels: L.
        pooling: over chunks, one of ``POOLINGS``.
        token_pooling: what the vector of a chunk is made of, one of ``TOKEN_POOLINGS``.
        classifier_kind: "normalised" for ``ClassifierHead``, "huggingface" for the ``SequenceHead`` that
            transformers has, which needs both poolings to be cls.
        attention_hidden_size: width of the tanh projection (poolings attention and multihead).
        attention_heads: heads over chunks (poolings multihead and transformer).
        attention_dropout: drop probability of the chunk weights.
        hidden_dropout: drop probability of the chunk vectors.
        classifier_dropout: drop probability inside the classifier.
        layer_norm_eps: of the classifier's LayerNorm.
        max_chunks: most chunks of a document; None sets no limit.
        chunk_position_embeddings: add a learned vector for a chunk's place to its vector; needs
            ``max_chunks`` and one of ``POSITIONED_POOLINGS``.
        ordinal: whether the labels have an order; ``logits`` then are log-probabilities.
        use_gradient_checkpointing: keep only ids and vectors of most groups of chunks and compute them
            again in the backward pass, see ``encode_in_groups``.
        chunks_per_group: chunks of a group.
        kept_chunk_groups: groups that are kept all the same.

    Raises:
        ValueError: a pooling or the classifier is unknown, its heads do not divide D, or it has no use for
            position embeddings.
    """

    SETTING_TYPES: ClassVar[Mapping[str, tuple[type, ...]]] = {
        "num_labels": (int,),
        "pooling": (str,),
        "token_pooling": (str,),
        "classifier_kind": (str,),
        "attention_hidden_size": (int,),
        "attention_heads": (int,),
        "attention_dropout": (float, int),
        "hidden_dropout": (float, int),
        "classifier_dropout": (float, int),
        "layer_norm_eps": (float, int),
        "max_chunks": (int, NoneType),
        "chunk_position_embeddings": (bool,),
        "ordinal": (bool,),
    }

    ADDED_SETTINGS: ClassVar[Mapping[str, object]] = {
        "token_pooling": "cls",
        "classifier_kind": "normalised",
        "ordinal": False,
    }

    def __init__(
        self,
        encoder: RobertaModel,
        *,
        num_labels: int,
        pooling: str = "attention",
        token_pooling: str = "cls",
        classifier_kind: str = "normalised",
        attention_hidden_size: int = 256,
        attention_heads: int = 8,
        attention_dropout: float = 0.0,
        hidden_dropout: float = 0.1,
        classifier_dropout: float = 0.1,
        layer_norm_eps: float = 1e-5,
        max_chunks: int | None = None,
        chunk_position_embeddings: bool = False,
        ordinal: bool = False,
        use_gradient_checkpointing: bool = False,
        chunks_per_group: int = 4,
        kept_chunk_groups: int = 2,
    ) -> None:
        given = locals()  # the keywords alone, since nothing else has a name yet
        super().__init__(encoder)
        check_token_pooling(token_pooling)
        self.settings = {name: given[name] for name in self.SETTING_TYPES}
        self.num_labels = num_labels
        self.token_pooling = token_pooling
        self.max_chunks = max_chunks
        self.use_gradient_checkpointing = use_gradient_checkpointing
        self.chunks_per_group = chunks_per_group
        self.kept_chunk_groups = kept_chunk_groups
        self.chunk_dropout = Dropout(hidden_dropout)
        self.chunk_positions = (
            build_chunk_positions(encoder.hidden_size, max_chunks=max_chunks, pooling=pooling)
            if chunk_position_embeddings
            else None
        )
        self.pooling = build_pooling(
            pooling,
            hidden_size=encoder.hidden_size,
            attention_hidden_size=attention_hidden_size,
            attention_heads=attention_heads,
            attention_dropout=attention_dropout,
            hidden_dropout=hidden_dropout,
            layer_norm_eps=layer_norm_eps,
        )
        self.classifier = build_classifier_head(
            classifier_kind,
            pooling=pooling,
            token_pooling=token_pooling,
            attention_kind=encoder.attention_kind,
            hidden_size=encoder.hidden_size,
            num_labels=num_labels,
            layer_norm_eps=layer_norm_eps,
            dropout_prob=classifier_dropout,
            ordinal=ordinal,
        )
        initialise_beside_encoder(self)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor | None = None,
        return_attention: bool = False,
    ) -> dict[str, Tensor]:
        """Classify a padded batch of documents.

        Args:
            input_ids: (B, C, S) int64.
            attention_mask: (B, C, S) bool, True = PAD; a chunk without any real token is a padding chunk.
            labels: (B,) int64; or None.
            return_attention: whether to return the weights over chunks.

        Returns:
            ``logits`` (B, L); if asked for ``attention_weights`` (B, C) and, where the pooling has heads,
            ``attention_weights_per_head`` (B, H, C); with labels ``loss``, the mean cross-entropy.

        Raises:
            TypeError: the mask is not bool.
            ValueError: shapes differ, or a document has no real chunk or more than ``max_chunks``.
        """
        check_attention_mask(attention_mask, input_ids.shape)
        real = ~attention_mask.all(dim=2)  # (B, C)
        if not bool(real.any(dim=1).all()):
            raise ValueError("a document has no real chunk")
        vectors = self.encode_chunks(input_ids[real], attention_mask[real])
        output = self._classify(vectors, real)
        if not return_attention:
            output = {"logits": output["logits"]}
        if labels is not None:
            output["loss"] = F.cross_entropy(output["logits"], send(labels, output["logits"].device))
        return output

    def classify_chunks(
        self, input_ids: Tensor, attention_mask: Tensor, chunk_counts: Tensor
    ) -> dict[str, Tensor]:
        """Classify documents given as their real chunks, one below the other.

        Args:
            input_ids: (M, S) int64, the chunks of a document adjacent and in order.
            attention_mask: (M, S) bool, True = PAD.
            chunk_counts: (B,) int64, chunks of each document, summing to M.

        Returns:
            ``logits`` (B, L) float32; ``attention_weights`` (B, C) float32, C the largest count; where the
            pooling has heads, ``attention_weights_per_head`` (B, H, C).

        Raises:
            TypeError: the mask is not bool.
            ValueError: shapes differ, or a document has no chunk or more than ``max_chunks``.
        """
        return self.classify_vectors(self.encode_chunks(input_ids, attention_mask), chunk_counts)

    def classify_vectors(self, vectors: Tensor, chunk_counts: Tensor) -> dict[str, Tensor]:
        """Classify documents given as the vectors of their chunks, as ``encode_chunks`` returns them.

        Args:
            vectors: (M, D), the chunks of a document adjacent and in order.
            chunk_counts: (B,) int64, chunks of each document, summing to M.

        Returns:
            As ``classify_chunks``.

        Raises:
            ValueError: a document has no chunk or more than ``max_chunks``.
        """
        if int(chunk_counts.min()) < 1:
            raise ValueError("a document has no chunk")
        places = torch.arange(int(chunk_counts.max()), device=chunk_counts.device)
        return self._classify(vectors, places < chunk_counts.unsqueeze(1))

    def encode_chunks(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode chunks independently of each other.

        Args:
            input_ids: (M, S) int64.
            attention_mask: (M, S) bool, True = PAD; each chunk has at least one real token.

        Returns:
            (M, D), see ``encode_sequences``.
        """
        if not (self.use_gradient_checkpointing and torch.is_grad_enabled()):
            return self._encode_group(input_ids, attention_mask)
        return encode_in_groups(
            self._encode_group,
            input_ids,
            attention_mask,
            chunks_per_group=self.chunks_per_group,
            kept_groups=self.kept_chunk_groups,
            device=next(self.encoder.parameters()).device,
        )

    def _encode_group(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return encode_sequences(self.encoder, input_ids, attention_mask, token_pooling=self.token_pooling)

    def _classify(self, vectors: Tensor, real: Tensor) -> dict[str, Tensor]:
        """Pool (M, D) vectors at the True places of ``real`` (B, C) and classify, in the head's dtype."""
        if self.max_chunks is not None and (most := int(real.sum(dim=1).max())) > self.max_chunks:
            raise ValueError(f"a document has {most} chunks, max_chunks is {self.max_chunks}")
        with torch.autocast(device_type=vectors.device.type, enabled=False):
            wide = in_dtype_of(self.classifier, vectors)
            if self.chunk_positions is not None:
                wide = wide + self.chunk_positions(send((real.cumsum(dim=1) - 1)[real], wide.device))
            chunks = unpack(self.chunk_dropout(wide), real)  # (B, C, D)
            pooled = self.pooling(chunks, ~real)
            output = {"logits": self.classifier(pooled.vectors), "attention_weights": pooled.weights}
        if pooled.weights_per_head is not None:
            output["attention_weights_per_head"] = pooled.weights_per_head
        return output

    @classmethod
    def from_hf(cls, folder: Path | str) -> Self:
        """Load a folder that ``to_hf`` wrote.

        To start from a published encoder instead, hand ``RobertaModel.from_hf(folder)`` to the class: its
        head is new.

        Args:
            folder: with the encoder in Hugging Face's layout and the rest in head.json and head.safetensors;
                or, as a str, the name of a model on the hub.

        Returns:
            The model in training mode, in float32, without gradient checkpointing.

        Raises:
            CheckpointError: a file is missing or damaged, or a tensor is missing or unexpected.
        """
        return load_classifier(cls, local_folder(folder))

    def to_hf(self, folder: Path | str, *, label_names: Sequence[str] | None = None) -> None:
        """Write the encoder as transformers' ``RobertaModel`` loads it, and beside it what only we have.

        Args:
            folder: a new one, or one without a model.
            label_names: L names in the order of the logits, for config.json; None: LABEL_0, LABEL_1 …

        Raises:
            UsageError: there is a model in the folder already.
            StorageError: the disk is full, a permission is missing …
            ValueError: the names are not L different ones.
        """
        write_classifier(self, Path(folder), label_names=label_names)
