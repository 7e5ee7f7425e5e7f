"""The one YAML reader: the tree of sections, its checks and its errors."""

from textclf_transformer.config.finetuning_sections import (
    ChunkingSection,
    ClassificationHeadSection,
    FinetuningArchitectureSection,
    FinetuningDropoutsSection,
    FinetuningTrainingSection,
    FreezePhaseSection,
)
from textclf_transformer.config.keys import json_schema
from textclf_transformer.config.pretrained_section import PretrainedExperimentSection
from textclf_transformer.config.reader import flatten, load_config
from textclf_transformer.config.schema import (
    FinetuningConfig,
    MlmHeadSection,
    PretrainingConfig,
    PretrainingTrainingSection,
)
from textclf_transformer.config.shared_sections import (
    ArchitectureSection,
    AttentionSection,
    DataSection,
    DataSplitSection,
    DropoutsSection,
    ExperimentSection,
    LoggingSection,
    TokenizerSection,
    TrainingSection,
)
from textclf_transformer.config.writing import config_to_dict, dump_yaml, resolve_paths

__all__ = [
    "ArchitectureSection",
    "AttentionSection",
    "ChunkingSection",
    "ClassificationHeadSection",
    "DataSection",
    "DataSplitSection",
    "DropoutsSection",
    "ExperimentSection",
    "FinetuningArchitectureSection",
    "FinetuningConfig",
    "FinetuningDropoutsSection",
    "FinetuningTrainingSection",
    "FreezePhaseSection",
    "LoggingSection",
    "MlmHeadSection",
    "PretrainedExperimentSection",
    "PretrainingConfig",
    "PretrainingTrainingSection",
    "TokenizerSection",
    "TrainingSection",
    "config_to_dict",
    "dump_yaml",
    "flatten",
    "json_schema",
    "load_config",
    "resolve_paths",
]
