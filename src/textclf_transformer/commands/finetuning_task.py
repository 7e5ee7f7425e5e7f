"""What the training loop is handed by a finetuning run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textclf_transformer.commands.labelled_documents import coverage_report
from textclf_transformer.commands.pretrained import PretrainedEncoder
from textclf_transformer.commands.training_run import RunContext, run_facts
from textclf_transformer.commands.training_task import Evaluation, Task
from textclf_transformer.config import FinetuningConfig
from textclf_transformer.data.batches import DocumentBatches
from textclf_transformer.data.documents import Documents
from textclf_transformer.data.vector_batches import VectorBatches
from textclf_transformer.errors import counted
from textclf_transformer.evaluation.evaluate import evaluate_documents
from textclf_transformer.evaluation.inference import document_logits
from textclf_transformer.evaluation.thresholds import choose_thresholds
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.training.freezing import FreezeSchedule, frozen_epochs
from textclf_transformer.training.frozen_cache import FrozenEncoderCache, cache_gib
from textclf_transformer.training.health import Health
from textclf_transformer.training.losses import build_document_loss
from textclf_transformer.training.progress import Progress


def make_task(
    context: RunContext[FinetuningConfig],
    model: HierarchicalRobertaForClassification,
    pretrained: PretrainedEncoder,
    documents: Mapping[str, Documents],
    batches: Mapping[str, DocumentBatches],
    label_names: Sequence[str],
) -> Task[HierarchicalRobertaForClassification]:
    """Return what the loop is handed."""
    training = context.config.training
    train_labels = batches["train"].labels
    assert train_labels is not None  # check_labels has seen to it
    multi_label = train_labels.ndim == 2
    health = Health(label_names=label_names)
    freeze = _freeze_schedule(context, num_hidden_layers=pretrained.architecture.num_layers)
    test_logits: list[NDArray[np.float32]] = []
    cache = _frozen_cache(context, batches, hidden_size=model.encoder.hidden_size)
    facts = run_facts(
        architecture=pretrained.architecture,
        tokenizer=pretrained.tokenizer,
        wrapper_path=pretrained.wrapper_path,
        documents=documents,
    )
    facts["fingerprints"]["pretrained"] = pretrained.fingerprint
    return Task(
        model=model,
        freeze=freeze,
        layerwise_lr_decay=training.layerwise_lr_decay,
        health=health,
        choose_thresholds=_choose_on(context, batches["val"]) if multi_label and "val" in batches else None,
        tokenizer=pretrained.tokenizer,
        loss=build_document_loss(training, train_labels, num_labels=len(label_names)),
        batches=batches["train"] if cache is None else cache,
        frozen_cache=cache,
        metric_names=("loss", "accuracy", "f1_macro"),
        evaluate_val=_evaluate_val(context, batches.get("val"), health, freeze, cache),
        evaluate_test=_evaluate_on(context, batches.get("test"), health, keep_logits=test_logits.append),
        test_logits=test_logits,
        best_mode="min" if training.best_metric == "loss" else "max",
        facts={**facts, "labels": list(label_names), "multi_label": multi_label},
        data_report=coverage_report(documents, batches),
    )


def _freeze_schedule(
    context: RunContext[FinetuningConfig], *, num_hidden_layers: int
) -> FreezeSchedule | None:
    training = context.config.training
    if training.freeze is None:
        return None
    return FreezeSchedule(
        training.freeze,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        layerwise_lr_decay=training.layerwise_lr_decay,
        num_hidden_layers=num_hidden_layers,
    )


def _frozen_cache(
    context: RunContext[FinetuningConfig], batches: Mapping[str, DocumentBatches], *, hidden_size: int
) -> FrozenEncoderCache | None:
    """Return the cache for the epochs of a frozen encoder, None where there are none or it would not fit."""
    training = context.config.training
    epochs = frozen_epochs(training.freeze, epochs=training.epochs)
    if epochs == 0:
        return None
    read_often = {split: split_batches for split, split_batches in batches.items() if split != "test"}
    chunks = sum(split_batches.num_chunks for split_batches in read_often.values())
    size = cache_gib(chunks, hidden_size=hidden_size)
    kept = not training.word_dropout and size <= training.frozen_cache_gib
    reason = f"training.frozen_cache_gib: {training.frozen_cache_gib:g}"
    if training.word_dropout:
        reason = f"training.word_dropout {training.word_dropout:g} makes others in each epoch"
    Progress(quiet=context.arguments.quiet).message(
        f"the frozen encoder's vectors of {counted(chunks, 'chunk')}, {size:.2g} GiB, "
        f"{'are' if kept else 'are not'} kept on the disk ({reason})"
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


def _evaluate_on(
    context: RunContext[FinetuningConfig],
    batches: DocumentBatches | VectorBatches | None,
    health: Health,
    *,
    keep_logits: Callable[[NDArray[np.float32]], None] = lambda logits: None,
) -> Evaluation | None:
    """Return the evaluation on these documents, None where there are none."""
    if batches is None:
        return None
    return lambda model, should_stop, thresholds: evaluate_documents(
        model,
        batches,
        device=context.device,
        amp_dtype=context.amp_dtype,
        should_stop=should_stop,
        observe=health.predictions,
        keep_logits=keep_logits,
        thresholds=thresholds,
    )


def _evaluate_val(
    context: RunContext[FinetuningConfig],
    batches: DocumentBatches | None,
    health: Health,
    freeze: FreezeSchedule | None,
    cache: FrozenEncoderCache | None,
) -> Evaluation | None:
    """Return the evaluation on val: on the cache's vectors while the encoder is frozen as it was."""
    if batches is None or freeze is None or cache is None:
        return _evaluate_on(context, batches, health)

    def evaluate(
        model: Any, should_stop: Callable[[], bool], thresholds: Sequence[float] | None
    ) -> dict[str, float]:
        if freeze.epoch >= cache.epochs:
            cache.remove()  # gives its room back as soon as the encoder is another
        on_val = _evaluate_on(context, cache.evaluation("val"), health)
        assert on_val is not None
        return on_val(model, should_stop, thresholds)

    return evaluate


def _choose_on(
    context: RunContext[FinetuningConfig], batches: DocumentBatches
) -> Callable[[Any, Callable[[], bool]], list[float]]:
    """Return what chooses thresholds per label on these documents."""
    labels = batches.labels
    assert labels is not None
    return lambda model, should_stop: choose_thresholds(
        document_logits(
            model,
            batches,
            device=context.device,
            amp_dtype=context.amp_dtype,
            should_stop=should_stop,
        ),
        labels,
    )
