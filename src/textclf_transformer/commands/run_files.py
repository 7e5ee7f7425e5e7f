"""run.json and what else makes a run's folder readable: versions, machine, data, results."""

from __future__ import annotations

import json
import math
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from torch import nn

import textclf_transformer
from textclf_transformer.atomic import atomic_write_json, atomic_write_text
from textclf_transformer.commands.training_run import RunContext
from textclf_transformer.config import dump_yaml
from textclf_transformer.experiment import CHECKOUT, RunFolder
from textclf_transformer.model.freezing import count_parameters
from textclf_transformer.tokenizer.base import TokenizerWrapper
from textclf_transformer.utils import processor_name


def environment_facts(context: RunContext[Any]) -> dict[str, Any]:
    """Return what decides, beside config and data, whether a resumed run repeats itself to the bit."""
    return {
        "textclf_transformer": textclf_transformer.__version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "device": context.device.type,
        "processor": processor_name(context.device),
        "threads": torch.get_num_threads(),
        "amp_dtype": str(context.amp_dtype),
        "micro_batch_tokens": context.micro_batch_tokens,
    }


def begin_report(context: RunContext[Any], model: nn.Module, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a reader of the run wants to know, before it has results."""
    return {
        "name": context.config.experiment.name,
        "status": "running",
        "started": read_report(context.run).get("started") or datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": context.config.experiment.seed,
        "environment": {
            **environment_facts(context),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "commit": _commit(),
        },
        "parameters": count_parameters([model]),
        "trainable_parameters": count_parameters([model], trainable_only=True),
        "labels": facts.get("labels"),
        "test_data": facts["fingerprints"]["data"].get("test"),
    }


def read_report(run: RunFolder) -> dict[str, Any]:
    """Return what stands in run.json; nothing where it is missing or damaged, for it can be written anew."""
    try:
        content = json.loads(run.run_json.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def write_run_files(
    run: RunFolder, config_dict: dict[str, Any], tokenizer: TokenizerWrapper, report: Mapping[str, Any]
) -> None:
    """Write what makes the folder readable, and complete without the places it was made from."""
    atomic_write_text(run.resolved_config, dump_yaml(config_dict))
    tokenizer.save(run.tokenizer_dir)
    atomic_write_json(run.run_json, dict(report))


def json_number(value: float) -> float | None:
    """Return None for NaN and infinity, which JSON lacks: no target in a small split gives a loss of 0/0."""
    return value if math.isfinite(value) else None


def _commit() -> str | None:
    """Return the commit of the checkout, None where there is no git or no repository."""
    try:
        command = ["git", "-C", str(CHECKOUT), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
