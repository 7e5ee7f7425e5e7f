"""What ``--dry-run`` prints: the resolved config, and what the run will take."""

from __future__ import annotations

from typing import Any

from textclf_transformer.commands.common import print_result
from textclf_transformer.commands.estimate import estimate_cost
from textclf_transformer.commands.training_run import RunContext
from textclf_transformer.commands.training_session import Task
from textclf_transformer.config import ArchitectureSection, config_to_dict, dump_yaml


def show_plan(
    context: RunContext[Any],
    task: Task[Any],
    *,
    architecture: ArchitectureSection,
    samples_per_epoch: int,
    tokens_per_epoch: int,
    mean_sequence_length: float,
    head_flops_per_token: float,
) -> None:
    """Print the plan of a run to stdout; nothing on the disk is touched."""
    training = context.config.training
    steps_per_epoch = task.batches.steps_per_epoch
    total_steps = training.epochs * steps_per_epoch
    cost = estimate_cost(
        task.model,
        hidden_size=architecture.embedding_dim,
        num_hidden_layers=architecture.num_layers,
        num_attention_heads=architecture.attention.num_heads,
        intermediate_size=architecture.ffn_dim,
        sequence_length=mean_sequence_length,
        head_flops_per_token=head_flops_per_token,
        tokens_per_step=tokens_per_epoch / steps_per_epoch,
        tokens_per_micro_batch=context.micro_batch_tokens,
        total_steps=total_steps,
        device=context.device,
        amp_dtype=context.amp_dtype,
        gradient_checkpointing=training.gradient_checkpointing,
    )
    print(dump_yaml(config_to_dict(context.config)))
    print_result(
        {
            "run folder": context.run.root,
            "device": context.device,
            "matrix products in": "float32"
            if context.amp_dtype is None
            else str(context.amp_dtype).split(".")[1],
            "parameters": f"{cost.parameters:,} ({cost.trainable_parameters:,} trained)",
            "samples per epoch": f"{samples_per_epoch:,}",
            "tokens per epoch": f"{tokens_per_epoch:,}",
            "optimizer steps": f"{total_steps:,} ({steps_per_epoch:,} per epoch)",
            "memory, about": f"{(cost.state_bytes + cost.activation_bytes) / 2**30:.1f} GiB "
            f"({cost.state_bytes / 2**30:.1f} weights and optimizer, "
            f"{cost.activation_bytes / 2**30:.1f} activations)",
            "time, about": _duration(cost.seconds),
        }
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
