"""Models from configs: where the sections of the YAML meet the constructors of ``model/``."""

from __future__ import annotations

from textclf_transformer.config import ArchitectureSection, ClassificationHeadSection
from textclf_transformer.model.encoder import RobertaModel
from textclf_transformer.model.heads import RobertaForMaskedLM
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.utils import architecture_arguments


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


def build_masked_lm(
    architecture: ArchitectureSection,
    *,
    vocab_size: int,
    pad_token_id: int,
    tie_mlm_weights: bool,
    attention_backend: str,
    use_gradient_checkpointing: bool,
) -> RobertaForMaskedLM:
    """Return a randomly initialised masked language model."""
    encoder = build_encoder(
        architecture,
        vocab_size=vocab_size,
        pad_token_id=pad_token_id,
        attention_backend=attention_backend,
        use_gradient_checkpointing=use_gradient_checkpointing,
    )
    return RobertaForMaskedLM(
        encoder, layer_norm_eps=architecture.layer_norm_eps, tie_weights=tie_mlm_weights
    )


def build_classifier(
    encoder: RobertaModel,
    head: ClassificationHeadSection,
    *,
    num_labels: int,
    layer_norm_eps: float,
    use_gradient_checkpointing: bool,
) -> HierarchicalRobertaForClassification:
    """Return the long-document classifier around ``encoder``; pooling and classifier start at random."""
    return HierarchicalRobertaForClassification(
        encoder,
        num_labels=num_labels,
        attention_hidden_size=head.attention_hidden_size or encoder.hidden_size,
        attention_dropout=head.attention_dropout,
        hidden_dropout=head.hidden_dropout,
        classifier_dropout=head.classifier_dropout,
        layer_norm_eps=layer_norm_eps,
        use_gradient_checkpointing=use_gradient_checkpointing,
    )
