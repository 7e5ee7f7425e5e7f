"""Models and optimizers from configs: where the sections of the YAML meet the constructors."""

from __future__ import annotations

import torch
from torch import nn

from textclf_transformer.config import ArchitectureSection, ClassificationHeadSection
from textclf_transformer.errors import ConfigError
from textclf_transformer.model.attention import BackendChoice, choose_attention_backend
from textclf_transformer.model.encoder import RobertaModel
from textclf_transformer.model.heads import RobertaForMaskedLM
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.model.layers import EncoderLayer
from textclf_transformer.training.muon import build_muon
from textclf_transformer.training.optim import build_adamw
from textclf_transformer.utils import architecture_arguments


def attention_backend_of(
    architecture: ArchitectureSection, *, device: torch.device, amp_dtype: torch.dtype | None
) -> BackendChoice:
    """Return the backend of attention for a config on a device, see ``choose_attention_backend``."""
    return choose_attention_backend(
        device,
        amp_dtype=amp_dtype,
        attention_kind=architecture.attention.kind,
        dropout_prob=architecture.dropouts.attention,
        head_dim=architecture.embedding_dim // architecture.attention.num_heads,
    )


def build_encoder(
    architecture: ArchitectureSection,
    *,
    vocab_size: int,
    pad_token_id: int,
    attention_backend: str,
    use_gradient_checkpointing: bool = False,
) -> RobertaModel:
    """Return a randomly initialised encoder; draws from torch's global stream."""
    arguments = architecture_arguments(architecture)
    max_sequence_length = arguments.pop("max_sequence_length")
    return RobertaModel(
        vocab_size=vocab_size,
        pad_token_id=pad_token_id,
        max_position_embeddings=max_sequence_length + pad_token_id + 1,
        attention_backend=attention_backend,
        use_gradient_checkpointing=use_gradient_checkpointing,
        **arguments,
    )


def compile_encoder(encoder: RobertaModel) -> None:
    """Compile the encoder's layers (``RobertaModel.compile_layers``) and see whether they run.

    Raises:
        ConfigError: there is no compiler, or it fails.
    """
    encoder.compile_layers()
    layer = encoder.layers[0]
    assert isinstance(layer, EncoderLayer)
    try:
        with torch.inference_mode():
            rows = encoder.embeddings.word_embeddings.weight[:2]
            layer.after_attention(rows, rows)
    except RuntimeError as error:
        raise ConfigError(
            "torch.compile does not work here",
            where="training.compile",
            found=" ".join(str(error).split("\n", maxsplit=2)[:2]),  # the first may only say "raised:"
            expected="a C++ compiler for a CPU, Triton for a GPU, torch in a path without spaces; "
            "or training.compile: false",
        ) from error


def build_masked_lm(
    architecture: ArchitectureSection,
    *,
    vocab_size: int,
    pad_token_id: int,
    tie_mlm_weights: bool,
    enhanced_mask_decoder: bool | None,
    attention_backend: str,
    use_gradient_checkpointing: bool,
) -> RobertaForMaskedLM:
    """Return a randomly initialised masked language model.

    ``enhanced_mask_decoder`` None means: where the attention is disentangled.
    """
    encoder = build_encoder(
        architecture,
        vocab_size=vocab_size,
        pad_token_id=pad_token_id,
        attention_backend=attention_backend,
        use_gradient_checkpointing=use_gradient_checkpointing,
    )
    if enhanced_mask_decoder is None:
        enhanced_mask_decoder = encoder.attention_kind == "disentangled"
    return RobertaForMaskedLM(
        encoder,
        layer_norm_eps=architecture.layer_norm_eps,
        tie_weights=tie_mlm_weights,
        enhanced_mask_decoder=enhanced_mask_decoder,
    )


def build_classifier(
    encoder: RobertaModel,
    head: ClassificationHeadSection,
    *,
    num_labels: int,
    max_chunks: int,
    layer_norm_eps: float,
    use_gradient_checkpointing: bool,
    chunks_per_group: int = 4,
    kept_chunk_groups: int = 2,
) -> HierarchicalRobertaForClassification:
    """Return the long-document classifier around ``encoder``; pooling and classifier start at random.

    Raises:
        ConfigError: the heads over chunks do not divide the encoder's size.
    """
    if head.pooling in {"multihead", "transformer"} and encoder.hidden_size % head.attention_heads:
        raise ConfigError(
            "the heads over chunks do not divide the encoder's vectors",
            where="classification_head.attention_heads",
            found=f"{head.attention_heads} heads, embedding_dim {encoder.hidden_size}",
            expected="a number that divides embedding_dim",
        )
    return HierarchicalRobertaForClassification(
        encoder,
        num_labels=num_labels,
        pooling=head.pooling,
        token_pooling=head.token_pooling,
        classifier_kind=head.kind,
        attention_heads=head.attention_heads,
        attention_hidden_size=head.attention_hidden_size or encoder.hidden_size,
        attention_dropout=head.attention_dropout,
        hidden_dropout=head.hidden_dropout,
        classifier_dropout=head.classifier_dropout,
        layer_norm_eps=layer_norm_eps,
        # without places to learn, documents of any length are as good
        max_chunks=max_chunks if head.chunk_position_embeddings else None,
        chunk_position_embeddings=head.chunk_position_embeddings,
        ordinal=head.ordinal_labels is not None,
        use_gradient_checkpointing=use_gradient_checkpointing,
        chunks_per_group=chunks_per_group,
        kept_chunk_groups=kept_chunk_groups,
    )


def build_optimizer(
    model: nn.Module, *, muon: bool, learning_rate: float, weight_decay: float, layerwise_lr_decay: float
) -> torch.optim.Optimizer:
    """Return the optimizer of a run.

    Args:
        model: the model, already on its device.
        muon: whether Muon updates the matrices of the layers, see ``build_muon``.
        learning_rate: the peak.
        weight_decay: decoupled decay.
        layerwise_lr_decay: see ``build_adamw``; with Muon all layers have one rate, and it must be 1.

    Raises:
        ValueError: Muon and a decay by layers, or nothing is trainable.
    """
    if muon and layerwise_lr_decay != 1.0:
        raise ValueError(f"Muon has one rate for all layers, found layerwise_lr_decay {layerwise_lr_decay}")
    if muon:
        return build_muon(model, learning_rate=learning_rate, weight_decay=weight_decay)
    return build_adamw(
        model,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        layerwise_lr_decay=layerwise_lr_decay,
    )
