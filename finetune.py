"""Finetune a pretrained encoder to classify long documents: ``python finetune.py NAME``."""

from __future__ import annotations

if __name__ == "__main__":
    from textclf_transformer.training.signals import die_of_interrupt

    die_of_interrupt()  # while the rest is imported, and while Python ends

import argparse
from collections.abc import Sequence
from dataclasses import replace

from textclf_transformer.commands.common import print_result, run_command
from textclf_transformer.commands.encoder_source import find_encoder
from textclf_transformer.commands.estimate import StepLoad
from textclf_transformer.commands.finetuning_task import make_task
from textclf_transformer.commands.labelled_documents import check_labels, make_batches, report_coverage
from textclf_transformer.commands.plan import show_plan
from textclf_transformer.commands.pretrained import PretrainedEncoder
from textclf_transformer.commands.report import report_after_training
from textclf_transformer.commands.training_run import RunContext, open_run, open_splits, training_parser
from textclf_transformer.commands.training_session import train
from textclf_transformer.config import FinetuningConfig
from textclf_transformer.data.batches import DocumentBatches
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.model.pretrained import ENCODER_PREFIX
from textclf_transformer.training.building import attention_backend_of, build_classifier, compile_encoder
from textclf_transformer.training.progress import Progress
from textclf_transformer.utils import seed_everything


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = training_parser("finetune.py", "Finetune a pretrained encoder to classify long documents.")
    return run_command(parser, argv, finetune)


def finetune(arguments: argparse.Namespace) -> None:
    """Config → pretrained run → data, model → loop."""
    with open_run("finetuning", arguments) as context:
        config: FinetuningConfig = context.config
        pretrained = find_encoder(context)
        documents = open_splits(config, pretrained.tokenizer)
        label_names = check_labels(config, documents)
        batches = {
            split: make_batches(context, pretrained, docs, label_names) for split, docs in documents.items()
        }
        seed_everything(config.experiment.seed)
        model = make_model(context, pretrained, num_labels=len(label_names))
        task = make_task(context, model, pretrained, documents, batches, label_names)
        report_coverage(batches)
        if arguments.dry_run:
            train_batches = batches["train"]
            show_plan(
                context,
                task,
                encoder=model.encoder,
                load=step_load(context, pretrained, train_batches),
                samples_per_epoch=train_batches.num_samples,
                tokens_per_epoch=train_batches.num_tokens,
            )
            return
        if config.training.compile:
            compile_encoder(model.encoder)
        test_metrics = train(context, task) or {}
        report_after_training(context, test_logits=task.test_logits[-1] if task.test_logits else None)
        scores = {f"test {name}": f"{value:.4f}" for name, value in test_metrics.items()}
        print_result({"run folder": context.run.root, **scores})


def step_load(
    context: RunContext[FinetuningConfig], pretrained: PretrainedEncoder, batches: DocumentBatches
) -> StepLoad:
    """Return what an optimizer step brings to the encoder, for the estimate."""
    length = batches.num_tokens / batches.num_chunks
    training = context.config.training
    reads_cls = context.config.classification_head.token_pooling == "cls"
    return StepLoad(
        sequence_length=length,
        tokens_per_step=batches.num_tokens / batches.steps_per_epoch,
        tokens_per_micro_batch=context.micro_batch_tokens,
        wanted_share=1 / length if reads_cls else 1.0,
        recompute="chunks" if training.gradient_checkpointing else "nothing",
        tokens_per_group=training.chunks_per_group * length,
        tokens_kept=training.kept_chunk_groups * training.chunks_per_group * length,
        amp=context.amp_dtype is not None,
        attention_backend=attention_backend_of(
            pretrained.architecture, device=context.device, amp_dtype=context.amp_dtype
        ).name,
        attention_dropout=pretrained.architecture.dropouts.attention > 0,
    )


def make_model(
    context: RunContext[FinetuningConfig], pretrained: PretrainedEncoder, *, num_labels: int
) -> HierarchicalRobertaForClassification:
    """Return the classifier around the pretrained encoder, on the run's device."""
    config = context.config
    if config.pretrained_experiment.load_weights:
        # a checkpoint that claims to be larger than its tensors is refused before it takes the memory
        pretrained.check_weights()
    encoder = pretrained.build(device=context.device, amp_dtype=context.amp_dtype)
    loaded = pretrained.load_weights(encoder) if config.pretrained_experiment.load_weights else None
    model = build_classifier(
        encoder,
        config.classification_head,
        num_labels=num_labels,
        max_chunks=config.chunking.max_chunks,
        layer_norm_eps=pretrained.architecture.layer_norm_eps,
        use_gradient_checkpointing=config.training.gradient_checkpointing,
        chunks_per_group=config.training.chunks_per_group,
        kept_chunk_groups=config.training.kept_chunk_groups,
    ).to(context.device)
    if loaded is not None:
        new = (name for name in model.state_dict() if not name.startswith(ENCODER_PREFIX))
        Progress(quiet=context.arguments.quiet).message(str(replace(loaded, new=tuple(new))))
    return model


if __name__ == "__main__":
    raise SystemExit(main())
