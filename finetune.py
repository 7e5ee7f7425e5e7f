"""Finetune a pretrained encoder to classify long documents: ``python finetune.py NAME``."""

from __future__ import annotations

if __name__ == "__main__":
    from textclf_transformer.training.signals import die_of_interrupt

    die_of_interrupt()  # while the rest is imported; ``run_command`` ends it

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from textclf_transformer.commands.common import print_result, run_command
from textclf_transformer.commands.estimate import StepLoad
from textclf_transformer.commands.labelled_documents import check_labels, make_batches, report_coverage
from textclf_transformer.commands.plan import show_plan
from textclf_transformer.commands.pretrained import PretrainedEncoder, load_pretrained
from textclf_transformer.commands.report import report_after_training
from textclf_transformer.commands.training_run import (
    RunContext,
    open_run,
    open_splits,
    tokenizer_facts,
    training_parser,
)
from textclf_transformer.commands.training_session import Evaluation, Task, train
from textclf_transformer.config import FinetuningConfig, config_to_dict
from textclf_transformer.data.batches import DocumentBatches
from textclf_transformer.data.documents import Documents
from textclf_transformer.evaluation.evaluate import evaluate_documents
from textclf_transformer.evaluation.inference import document_logits
from textclf_transformer.evaluation.thresholds import choose_thresholds
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.model.pretrained import ENCODER_PREFIX
from textclf_transformer.training.building import attention_backend_of, build_classifier
from textclf_transformer.training.freezing import FreezeSchedule, frozen_epochs
from textclf_transformer.training.frozen_cache import FrozenEncoderCache, cache_bytes, fits
from textclf_transformer.training.health import Health
from textclf_transformer.training.losses import build_document_loss
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
        pretrained = load_pretrained(config, trust_code=arguments.trust_code)
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
        test_metrics = train(context, task) or {}
        report_after_training(context)
        scores = {f"test {name}": f"{value:.4f}" for name, value in test_metrics.items()}
        print_result({"run folder": context.run.root, **scores})


def step_load(
    context: RunContext[FinetuningConfig], pretrained: PretrainedEncoder, batches: DocumentBatches
) -> StepLoad:
    """Return what an optimizer step brings to the encoder, for the estimate."""
    length = batches.num_tokens / batches.num_chunks
    training = context.config.training
    return StepLoad(
        sequence_length=length,
        tokens_per_step=batches.num_tokens / batches.steps_per_epoch,
        tokens_per_micro_batch=context.micro_batch_tokens,
        wanted_share=1 / length,
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


def make_task(
    context: RunContext[FinetuningConfig],
    model: HierarchicalRobertaForClassification,
    pretrained: PretrainedEncoder,
    documents: Mapping[str, Documents],
    batches: Mapping[str, DocumentBatches],
    label_names: Sequence[str],
) -> Task[HierarchicalRobertaForClassification]:
    """Return what the loop is handed."""
    config, tokenizer = context.config, pretrained.tokenizer
    train_labels = batches["train"].labels
    assert train_labels is not None  # check_labels has seen to it
    health = Health(label_names=label_names)
    cache = frozen_cache(context, batches, hidden_size=model.encoder.hidden_size)
    phases = config.training.freeze
    freeze = (
        None
        if phases is None
        else FreezeSchedule(
            phases,
            learning_rate=config.training.learning_rate,
            weight_decay=config.training.weight_decay,
            layerwise_lr_decay=config.training.layerwise_lr_decay,
            num_hidden_layers=pretrained.architecture.num_layers,
        )
    )

    def evaluation(split: str) -> Evaluation | None:
        if split not in batches:
            return None
        return lambda model, should_stop, thresholds: evaluate_documents(
            model,
            batches[split]
            if cache is None or freeze is None or split == "test"
            else cache.evaluation(split, epoch=freeze.epoch),
            device=context.device,
            amp_dtype=context.amp_dtype,
            should_stop=should_stop,
            observe=health.predictions,
            thresholds=thresholds,
        )

    def thresholds_of_val(model: Any, should_stop: Callable[[], bool]) -> list[float]:
        logits = document_logits(
            model,
            batches["val"],
            device=context.device,
            amp_dtype=context.amp_dtype,
            should_stop=should_stop,
        )
        val_labels = batches["val"].labels
        assert val_labels is not None
        return choose_thresholds(logits, val_labels)

    return Task(
        model=model,
        freeze=freeze,
        layerwise_lr_decay=config.training.layerwise_lr_decay,
        health=health,
        choose_thresholds=thresholds_of_val if train_labels.ndim == 2 and "val" in batches else None,
        tokenizer=tokenizer,
        loss=build_document_loss(config.training, train_labels, num_labels=len(label_names)),
        batches=batches["train"] if cache is None else cache,
        frozen_cache=cache,
        metric_names=("loss", "accuracy", "f1_macro"),
        evaluate_val=evaluation("val"),
        evaluate_test=evaluation("test"),
        best_mode="min" if config.training.best_metric == "loss" else "max",
        facts={
            "architecture": config_to_dict(pretrained.architecture),
            "labels": list(label_names),
            "multi_label": train_labels.ndim == 2,
            "tokenizer": tokenizer_facts(pretrained.wrapper_path, tokenizer),
            "fingerprints": {
                "tokenizer": tokenizer.fingerprint,
                "pretrained": pretrained.fingerprint,
                "data": {split: docs.fingerprint for split, docs in documents.items()},
            },
        },
        data_report={
            split: {
                "path": docs.path,
                "documents": len(docs),
                "chunks": batches[split].num_chunks,
                "tokens": batches[split].coverage.tokens,
                "tokens_read": batches[split].coverage.tokens_read,
                "tokens_dropped": batches[split].coverage.tokens_dropped,
                "documents_cut": batches[split].coverage.documents_cut,
            }
            for split, docs in documents.items()
        },
    )


def frozen_cache(
    context: RunContext[FinetuningConfig], batches: Mapping[str, DocumentBatches], *, hidden_size: int
) -> FrozenEncoderCache | None:
    """Return the cache for the epochs of a frozen encoder, None where there are none or it would not fit."""
    training = context.config.training
    epochs = frozen_epochs(training.freeze, epochs=training.epochs)
    read_often = {split: split_batches for split, split_batches in batches.items() if split != "test"}
    size = cache_bytes(read_often, hidden_size=hidden_size)
    if epochs == 0:
        return None
    kept = fits(size, gib=training.frozen_cache_gib)
    chunks = sum(split_batches.num_chunks for split_batches in read_often.values())
    Progress(quiet=context.arguments.quiet).message(
        f"the frozen encoder's vectors of {chunks:,} chunks, {size / 2**30:.2g} GiB, "
        f"{'are' if kept else 'are not'} kept on the disk "
        f"(training.frozen_cache_gib: {training.frozen_cache_gib:g})"
    )
    if not kept:
        return None
    return FrozenEncoderCache(
        context.run.frozen_cache,
        read_often,
        epochs=epochs,
        device=context.device,
        amp_dtype=context.amp_dtype,
    )


if __name__ == "__main__":
    raise SystemExit(main())
