"""The two configs, for pretraining and for finetuning: own sections, own defaults, rules across sections."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from textclf_transformer.config.rules import Problem, raise_problems
from textclf_transformer.config.section import Count, Dropout, Probability, Section, Text
from textclf_transformer.config.shared_sections import (
    ArchitectureSection,
    BatchSize,
    DataSection,
    Epochs,
    ExperimentSection,
    LearningRate,
    LoggingSection,
    TokenizerSection,
    TrainingSection,
    WarmupRatio,
)
from textclf_transformer.experiment import Kind

_BEST_METRIC = "Validation metric that decides about best.ckpt and early stopping."


class PretrainingTrainingSection(TrainingSection):
    """How the masked language model is trained."""

    learning_rate: LearningRate = 5e-4
    batch_size: BatchSize = 64
    warmup_ratio: WarmupRatio = 0.06
    epochs: Epochs = 10
    best_metric: Annotated[Literal["loss"], Field(description=_BEST_METRIC)] = "loss"


class MlmHeadSection(Section):
    """Masked language modelling: which tokens are hidden, and by what."""

    mask_p: Annotated[
        float, Field(gt=0, le=1, description="Share of the content tokens that the model must guess.")
    ] = 0.15
    mask_token_p: Annotated[
        Probability, Field(description="Share of those that are replaced by the mask token.")
    ] = 0.8
    random_token_p: Annotated[
        Probability, Field(description="Share of those that are replaced by a random token; the rest stays.")
    ] = 0.1
    tie_mlm_weights: Annotated[
        bool, Field(description="Use the token embedding as the output matrix too, as RoBERTa does.")
    ] = True

    @model_validator(mode="after")
    def _check(self) -> MlmHeadSection:
        raise_problems(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        # The two shares are given as decimals, whose sum may miss 1 by a rounding: 0.7 + 0.2 + 0.1 does.
        if self.mask_token_p + self.random_token_p > 1 + 1e-9:
            yield Problem(
                "mlm_head.random_token_p",
                "mask_token_p and random_token_p are shares of the same tokens",
                found=f"{self.mask_token_p} + {self.random_token_p}",
                expected="a sum of at most 1",
            )


class FinetuningTrainingSection(TrainingSection):
    """How the classifier is trained."""

    learning_rate: LearningRate = 1e-4
    batch_size: BatchSize = 16
    warmup_ratio: WarmupRatio = 0.1
    epochs: Epochs = 5
    best_metric: Annotated[Literal["loss", "accuracy", "f1_macro"], Field(description=_BEST_METRIC)] = (
        "f1_macro"
    )


class FinetuningDropoutsSection(Section):
    """Dropout of the encoder while it is finetuned."""

    embedding: Annotated[
        Dropout | None, Field(description="On the embeddings (share of values); null: as in pretraining.")
    ] = None
    attention: Annotated[
        Dropout | None,
        Field(description="On the attention weights (share of values); null: as in pretraining."),
    ] = None
    hidden: Annotated[
        Dropout | None,
        Field(description="On each sub-layer's output (share of values); null: as in pretraining."),
    ] = None


class FinetuningArchitectureSection(Section):
    """The encoder's shape comes from the pretraining checkpoint; only its dropout may be set anew."""

    dropouts: FinetuningDropoutsSection = FinetuningDropoutsSection()


class ClassificationHeadSection(Section):
    """From the chunks' vectors to the labels."""

    num_labels: Annotated[
        Annotated[int, Field(ge=2, le=1_000_000)] | None,
        Field(description="Number of labels; null: as many as the data have."),
    ] = None
    pooling: Annotated[
        Literal["attention"], Field(description="How the chunks of a document become one vector.")
    ] = "attention"
    classifier_dropout: Annotated[Dropout, Field(description="Inside the classifier (share of values).")] = (
        0.1
    )
    attention_hidden_size: Annotated[
        Annotated[int, Field(ge=1, le=65_536)] | None,
        Field(description="Inner size of the attention over chunks (dimensions); null: embedding_dim."),
    ] = None
    attention_dropout: Annotated[
        Dropout, Field(description="On the weights of the chunks (share of chunks).")
    ] = 0.0
    hidden_dropout: Annotated[
        Dropout, Field(description="On the vectors of the chunks (share of values).")
    ] = 0.1


class ChunkingSection(Section):
    """How a long document is cut into sequences."""

    chunk_size: Annotated[
        Annotated[int, Field(ge=3, le=1_048_576)] | None,
        Field(description="Tokens of a chunk, [CLS] and [SEP] included; null: max_sequence_length."),
    ] = None
    stride: Annotated[
        Annotated[int, Field(ge=1, le=1_048_576)] | None,
        Field(description="Content tokens from chunk to chunk; null: chunk_size − 2, no overlap."),
    ] = None
    max_chunks: Annotated[
        Count, Field(description="Chunks read of a document; tokens beyond them are counted and reported.")
    ] = 32

    @model_validator(mode="after")
    def _check(self) -> ChunkingSection:
        raise_problems(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        if self.chunk_size is not None and self.stride is not None and self.stride > self.chunk_size - 2:
            yield Problem(
                "chunking.stride",
                "tokens between two chunks would be skipped",
                found=f"stride {self.stride}, chunk_size {self.chunk_size}",
                expected="a stride of at most chunk_size − 2",
            )


class PretrainedExperimentSection(Section):
    """Where the encoder and the tokenizer come from."""

    path: Annotated[
        Text, Field(description="Name of a pretraining run, or the path of its folder (with a / in it).")
    ]
    checkpoint: Annotated[
        Text, Field(description="best, last or a file; best falls back to last in a run without validation.")
    ] = "best"
    load_weights: Annotated[bool, Field(description="false: start from random weights, for comparison.")] = (
        True
    )


class _Config(Section):
    """What both configs are checked for as a whole."""

    experiment: ExperimentSection
    logging: LoggingSection = LoggingSection()

    @model_validator(mode="after")
    def _check(self) -> _Config:
        raise_problems(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        """Yield what breaks a rule across sections."""
        raise NotImplementedError


def _early_stopping_needs_validation(training: TrainingSection, data: DataSection) -> Iterator[Problem]:
    if training.early_stopping_patience is not None and data.val is None:
        yield Problem(
            "training.early_stopping_patience",
            "early stopping needs validation data",
            found=f"{training.early_stopping_patience} without data.val",
            mend="set data.val.dataset_path, or early_stopping_patience to null",
        )


class PretrainingConfig(_Config):
    """The config of a pretraining run."""

    tokenizer: TokenizerSection
    architecture: ArchitectureSection = ArchitectureSection()
    training: PretrainingTrainingSection = PretrainingTrainingSection()
    mlm_head: MlmHeadSection = MlmHeadSection()
    data: DataSection

    def _problems(self) -> Iterator[Problem]:
        yield from _early_stopping_needs_validation(self.training, self.data)


def _null_is_empty(value: Any) -> Any:
    return {} if value is None else value


class FinetuningConfig(_Config):
    """The config of a finetuning run."""

    pretrained_experiment: PretrainedExperimentSection
    tokenizer: Annotated[
        None, Field(description="Always null: the tokenizer is the one copied into the pretraining run.")
    ] = None
    architecture: Annotated[
        FinetuningArchitectureSection,
        BeforeValidator(_null_is_empty, json_schema_input_type=FinetuningArchitectureSection | None),
    ] = FinetuningArchitectureSection()
    training: FinetuningTrainingSection = FinetuningTrainingSection()
    classification_head: ClassificationHeadSection = ClassificationHeadSection()
    chunking: ChunkingSection = ChunkingSection()
    data: DataSection

    def _problems(self) -> Iterator[Problem]:
        yield from _early_stopping_needs_validation(self.training, self.data)


CONFIGS: dict[Kind, type[PretrainingConfig] | type[FinetuningConfig]] = {
    "pretraining": PretrainingConfig,
    "finetuning": FinetuningConfig,
}
