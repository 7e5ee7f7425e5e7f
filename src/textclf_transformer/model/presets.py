"""Encoders by name, and the hierarchical classifier with the settings published for it, in one call."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from textclf_transformer.errors import ConfigError
from textclf_transformer.experiment import is_hub_name
from textclf_transformer.model.encoder import RobertaModel
from textclf_transformer.model.hf_config import CONFIG_FILE
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.utils import check_integer, check_path, check_share

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EncoderPreset:
    """The shape of an encoder with RoBERTa's vocabulary and attention dropout 0.

    Attributes:
        millions: parameters of the masked-LM model, rounded, as in ``roberta-base (125M)``.
        hidden_size: D.
        num_hidden_layers: layers.
        num_attention_heads: H.
        intermediate_size: width of the feed-forward networks.
        max_sequence_length: S, the longest sequence.
    """

    millions: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_sequence_length: int = 512


# Large and base: Liu et al. 2019; distil: Sanh et al. 2019; the small ones: the shapes of Turc et al. 2019.
PRESETS = {
    "roberta-large": EncoderPreset(355, 1024, 24, 16, 4096),
    "roberta-base": EncoderPreset(125, 768, 12, 12, 3072),
    "distilroberta-base": EncoderPreset(82, 768, 6, 12, 3072),
    "roberta-medium": EncoderPreset(52, 512, 8, 8, 2048),
    "roberta-small": EncoderPreset(39, 512, 4, 8, 2048),
    "roberta-mini": EncoderPreset(16, 256, 4, 4, 1024),
    "roberta-tiny": EncoderPreset(7, 128, 2, 2, 512),
}

_ROBERTA_VOCABULARY = 50265
_ROBERTA_PAD = 1


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Settings of ``create_model``; the defaults are those published for this design.

    Attributes:
        base_model_name: a preset (``roberta-base`` or ``roberta-base (125M)``), a folder with a Hugging
            Face RoBERTa, BERT or DeBERTa, or its name on the hub (``FacebookAI/roberta-base``).
        hidden_size: D; None: the base model's. Another value than the base model's is an error.
        num_classes: L.
        max_chunks: most chunks of a document.
        chunk_size: S, tokens of a chunk with [CLS] and [SEP]; None: the base model's longest sequence (512
            for RoBERTa).
        attention_hidden_size: width of the pooling's tanh projection.
        attention_heads: heads over chunks (poolings multihead and transformer).
        attention_dropout: drop probability of the chunk weights.
        hidden_dropout: drop probability of the chunk vectors.
        classifier_dropout: drop probability inside the classifier.
        use_gradient_checkpointing: compute groups of chunks again in the backward pass instead of keeping
            them.
        freeze_base_encoder: whether the whole encoder is frozen.
        freeze_embeddings: whether the embeddings are frozen; None: where weights were loaded.
        pooling_strategy: attention, multihead, mean, max, cls or transformer.
        token_pooling: what a chunk's vector is: cls ([CLS]), or the mean or max of its tokens.
        chunk_position_embeddings: whether a learned vector for its place is added to a chunk's vector.
    """

    base_model_name: str = "roberta-base"
    hidden_size: int | None = None
    num_classes: int = 3
    max_chunks: int = 20
    chunk_size: int | None = None
    attention_hidden_size: int = 256
    attention_heads: int = 8
    attention_dropout: float = 0.1
    hidden_dropout: float = 0.1
    classifier_dropout: float = 0.3
    use_gradient_checkpointing: bool = True
    freeze_base_encoder: bool = False
    freeze_embeddings: bool | None = None
    pooling_strategy: str = "attention"
    token_pooling: str = "cls"
    chunk_position_embeddings: bool = False


def create_model_config(name: str) -> ModelConfig:
    """Return the settings for a preset, its hidden size and chunk size filled in.

    Args:
        name: as listed in ``PRESETS``, with or without the size in brackets: ``roberta-base (125M)``.

    Raises:
        ConfigError: there is no such preset.
    """
    plain = _preset_name(name)
    preset = PRESETS[plain]
    return ModelConfig(
        base_model_name=plain, hidden_size=preset.hidden_size, chunk_size=preset.max_sequence_length
    )


def _preset_name(name: str) -> str:
    labels = {f"{plain} ({preset.millions}M)": plain for plain, preset in PRESETS.items()}
    plain = labels.get(name, name)
    if plain not in PRESETS:
        raise ConfigError(
            "there is no such base model",
            found=repr(name),
            expected=f"a folder with a {CONFIG_FILE}, owner/name on the hub, or one of {', '.join(labels)}",
        )
    return plain


def create_encoder(
    name: str, *, vocab_size: int = _ROBERTA_VOCABULARY, pad_token_id: int = _ROBERTA_PAD
) -> RobertaModel:
    """Return a randomly initialised encoder of a preset's shape.

    Args:
        name: as in ``create_model_config``.
        vocab_size: V.
        pad_token_id: id of the padding token.

    Raises:
        ConfigError: there is no such preset.
    """
    preset = PRESETS[_preset_name(name)]
    return RobertaModel(
        vocab_size=vocab_size,
        hidden_size=preset.hidden_size,
        num_hidden_layers=preset.num_hidden_layers,
        num_attention_heads=preset.num_attention_heads,
        intermediate_size=preset.intermediate_size,
        max_position_embeddings=preset.max_sequence_length + pad_token_id + 1,
        pad_token_id=pad_token_id,
    )


def _base_model(name: str) -> tuple[RobertaModel, bool]:
    """Return the encoder of a folder or a preset, and whether weights were loaded."""
    if (Path(name) / CONFIG_FILE).is_file() or is_hub_name(name, Path.cwd()):
        return RobertaModel.from_hf(name), True
    encoder = create_encoder(name)
    _log.warning("%s: randomly initialised, no weights were loaded", name)
    return encoder, False


def _check_sizes(
    encoder: RobertaModel, base_model_name: str, *, hidden_size: int | None, chunk_size: int | None
) -> None:
    if hidden_size not in (None, encoder.hidden_size):
        raise ConfigError(
            f"hidden_size conflicts with {base_model_name}",
            found=hidden_size,
            expected=str(encoder.hidden_size),
        )
    if chunk_size is not None and not 3 <= chunk_size <= encoder.max_sequence_length:
        raise ConfigError(
            f"chunk_size does not fit {base_model_name}",
            found=chunk_size,
            expected=f"3 to {encoder.max_sequence_length}",
        )


def create_model(
    *,
    base_model_name: str = "roberta-base",
    hidden_size: int | None = None,
    num_classes: int = 3,
    max_chunks: int = 20,
    chunk_size: int | None = None,
    attention_hidden_size: int = 256,
    attention_heads: int = 8,
    attention_dropout: float = 0.1,
    hidden_dropout: float = 0.1,
    classifier_dropout: float = 0.3,
    use_gradient_checkpointing: bool = True,
    freeze_base_encoder: bool = False,
    freeze_embeddings: bool | None = None,
    pooling_strategy: str = "attention",
    token_pooling: str = "cls",
    chunk_position_embeddings: bool = False,
    freeze_base: bool = False,
) -> HierarchicalRobertaForClassification:
    """Return a hierarchical classifier; the keywords are the fields of ``ModelConfig``.

    Weights are loaded where ``base_model_name`` is a folder or a name on the hub; a preset is randomly
    initialised, and the log says so.

    Args:
        freeze_base: another name of ``freeze_base_encoder``. All others are described in ``ModelConfig``.

    Raises:
        ConfigError: there is no such base model, a size conflicts with it, a number is no integer or below 1,
            or a drop probability is none.
        CheckpointError: the folder's weights cannot be loaded.
        ValueError: a pooling is unknown, or its heads do not divide the hidden size.
    """
    num_classes = check_integer(num_classes, "num_classes", at_least=1)
    max_chunks = check_integer(max_chunks, "max_chunks", at_least=1)
    attention_hidden_size = check_integer(attention_hidden_size, "attention_hidden_size", at_least=1)
    attention_heads = check_integer(attention_heads, "attention_heads", at_least=1)
    attention_dropout = check_share(attention_dropout, "attention_dropout", below_one=True)
    hidden_dropout = check_share(hidden_dropout, "hidden_dropout", below_one=True)
    classifier_dropout = check_share(classifier_dropout, "classifier_dropout", below_one=True)
    if chunk_size is not None:
        check_integer(chunk_size, "chunk_size")
    check_path(base_model_name, "base_model_name", expected="a preset, a folder, or owner/name on the hub")
    encoder, has_weights = _base_model(str(base_model_name))
    _check_sizes(encoder, base_model_name, hidden_size=hidden_size, chunk_size=chunk_size)
    model = HierarchicalRobertaForClassification(
        encoder,
        num_labels=num_classes,
        pooling=pooling_strategy,
        token_pooling=token_pooling,
        attention_hidden_size=attention_hidden_size,
        attention_heads=attention_heads,
        attention_dropout=attention_dropout,
        hidden_dropout=hidden_dropout,
        classifier_dropout=classifier_dropout,
        layer_norm_eps=encoder.embeddings.norm.eps,
        max_chunks=max_chunks,
        chunk_position_embeddings=chunk_position_embeddings,
        use_gradient_checkpointing=use_gradient_checkpointing,
    )
    if freeze_base_encoder or freeze_base:
        model.freeze_base_model()
    elif has_weights if freeze_embeddings is None else freeze_embeddings:
        model.freeze_embeddings()
    return model
