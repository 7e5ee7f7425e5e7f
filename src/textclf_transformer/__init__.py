"""A hand-written RoBERTa: pretrained by dynamic-masking MLM, finetuned on long documents chunk by chunk."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textclf_transformer.data.dataloaders import create_classification_dataloader, create_mlm_dataloader
    from textclf_transformer.data.preparing import prepare
    from textclf_transformer.evaluation.predict import predict
    from textclf_transformer.model.encoder import RobertaModel
    from textclf_transformer.model.heads import RobertaForMaskedLM
    from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
    from textclf_transformer.model.presets import ModelConfig, create_model, create_model_config
    from textclf_transformer.model.sequence_classification import RobertaForSequenceClassification
    from textclf_transformer.tokenizer.loading import get_tokenizer
    from textclf_transformer.training.loop import TrainingLoop

__version__ = "0.1.0"

__all__ = [
    "HierarchicalRobertaForClassification",
    "ModelConfig",
    "RobertaForMaskedLM",
    "RobertaForSequenceClassification",
    "RobertaModel",
    "TrainingLoop",
    "create_classification_dataloader",
    "create_mlm_dataloader",
    "create_model",
    "create_model_config",
    "get_tokenizer",
    "predict",
    "prepare",
]

# Imported at first use: a command that needs no model (--version, a usage error) should not wait for torch.
_HOMES = {
    "HierarchicalRobertaForClassification": "model.hierarchical",
    "ModelConfig": "model.presets",
    "RobertaForMaskedLM": "model.heads",
    "RobertaForSequenceClassification": "model.sequence_classification",
    "RobertaModel": "model.encoder",
    "TrainingLoop": "training.loop",
    "create_classification_dataloader": "data.dataloaders",
    "create_mlm_dataloader": "data.dataloaders",
    "get_tokenizer": "tokenizer.loading",
    "create_model": "model.presets",
    "create_model_config": "model.presets",
    "predict": "evaluation.predict",
    "prepare": "data.preparing",
}


def __getattr__(name: str) -> object:
    """Import a public name at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
