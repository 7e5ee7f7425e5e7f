"""The two configs, for pretraining and for finetuning: own sections, own defaults, rules across sections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from textclf_transformer.config.finetuning_sections import (
    ChunkingSection,
    ClassificationHeadSection,
    FinetuningArchitectureSection,
    FinetuningTrainingSection,
)
from textclf_transformer.config.pretrained_section import PretrainedExperimentSection
from textclf_transformer.config.rules import Problem, raise_problems
from textclf_transformer.config.section import Probability, Section
from textclf_transformer.config.shared_sections import (
    BEST_METRIC,
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


class PretrainingTrainingSection(TrainingSection):
    """How the masked language model is trained."""

    optimizer: Annotated[
        Literal["adamw", "muon"],
        Field(
            description="What updates the weights. muon: Muon for the layers' matrices, AdamW for all else; "
            "a lower loss in as many steps; iterates in bf16 whatever use_amp says."
        ),
    ] = "adamw"
    learning_rate: LearningRate = 5e-4
    batch_size: BatchSize = 64
    warmup_ratio: WarmupRatio = 0.06
    epochs: Epochs = 10
    best_metric: Annotated[Literal["loss"], Field(description=BEST_METRIC)] = "loss"


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
    enhanced_mask_decoder: Annotated[
        bool | None,
        Field(
            description="Guess hidden tokens with their absolute positions too, as DeBERTa does; null: where "
            "the attention is disentangled."
        ),
    ] = None

    @model_validator(mode="after")
    def _check(self) -> MlmHeadSection:
        raise_problems(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        if self.mask_token_p + self.random_token_p > 1:
            yield Problem(
                "mlm_head.random_token_p",
                "mask_token_p and random_token_p are shares of the same tokens",
                found=f"{self.mask_token_p} + {self.random_token_p}",
                expected="a sum of at most 1",
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
        if self.mlm_head.enhanced_mask_decoder and self.architecture.attention.kind == "standard":
            yield Problem(
                "mlm_head.enhanced_mask_decoder",
                "standard attention knows absolute positions already",
                found="true",
                expected="false or null, or architecture.attention.kind: disentangled",
            )


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


def kind_of(config: Mapping[str, Any]) -> Kind:
    """Return what a config, as it stands in its file, trains: finetuning alone says what it starts from."""
    return "finetuning" if "pretrained_experiment" in config else "pretraining"
