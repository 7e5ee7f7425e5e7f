"""Driving the loop from start-up to the last file: resume, train, evaluate on test, leave a readable run."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from textclf_transformer.atomic import atomic_write_json
from textclf_transformer.commands.common import warn
from textclf_transformer.commands.resuming import (
    SavedRun,
    forget_a_best_that_is_gone,
    forget_what_was_measured_otherwise,
    load_state,
    take_over_what_changed,
)
from textclf_transformer.commands.run_files import (
    begin_report,
    environment_facts,
    json_number,
    read_report,
    write_run_files,
)
from textclf_transformer.commands.training_run import RunContext, clear_results
from textclf_transformer.commands.training_task import Task
from textclf_transformer.config import config_to_dict
from textclf_transformer.evaluation.checkpoint_parts import read_thresholds
from textclf_transformer.model.freezing import parameters_in_words
from textclf_transformer.model.loading import load_strict
from textclf_transformer.training.building import build_optimizer
from textclf_transformer.training.checkpoint import load_checkpoint, save_checkpoint
from textclf_transformer.training.checkpointer import Checkpointer
from textclf_transformer.training.frozen_cache import remove_vectors
from textclf_transformer.training.loop import TrainingLoop
from textclf_transformer.training.metrics_log import TRAIN_COLUMNS, MetricsLog, eval_columns
from textclf_transformer.training.progress import Progress
from textclf_transformer.training.run_log import RunLog
from textclf_transformer.training.save_cadence import SaveCadence
from textclf_transformer.training.schedule import cosine_with_warmup, warmup_steps
from textclf_transformer.training.signals import EvaluationInterrupted, StopSignal
from textclf_transformer.training.state import require_keys
from textclf_transformer.training.wandb_log import WandbLog


def train(context: RunContext[Any], task: Task[Any]) -> dict[str, float] | None:
    """Train to the end, or to a stop signal, and evaluate the best weights on test.

    A run that is finished, its test results included, is left as it is.

    Returns:
        The test metrics, None without test data.

    Raises:
        UserError: the run cannot be resumed, the loss is not finite, or the disk refuses.
        SystemExit: a signal came; the state is saved.
    """
    logging, run = context.config.logging, context.run
    clear_results(context)
    config_dict = config_to_dict(context.config)
    current = {"config": config_dict, "environment": environment_facts(context), **task.facts}
    progress = Progress(quiet=context.arguments.quiet, health=task.health)
    checkpointer = Checkpointer(run, extra=current, warn=warn)
    with (
        contextlib.ExitStack() as at_the_end,
        StopSignal() as stop_signal,
        MetricsLog(run.inside(logging.train_csv), TRAIN_COLUMNS, warn=warn) as train_log,
        MetricsLog(run.inside(logging.eval_csv), eval_columns(task.metric_names), warn=warn) as eval_log,
    ):
        saved = load_state(context, checkpointer, current, message=progress.message)
        log = RunLog(
            train_log=train_log, eval_log=eval_log, progress=progress, warn=warn, device=context.device
        )
        loop = _build_loop(context, task, checkpointer, log, stop_signal)
        if saved is None:
            progress.message(parameters_in_words(task.model))
        else:
            saved.give_to(loop)
            if loop.finished and (standing := _standing_results(context, task, loop, eval_log)) is not None:
                progress.message(f"nothing left to do: the run is finished, at step {loop.state.step}")
                return {k: math.nan if v is None else v for k, v in (standing["test"] or {}).items()} or None
            forget_a_best_that_is_gone(context, loop)
            if loop.finished:
                log.cut()
            else:
                progress.message(f"going on after step {loop.state.step}")
                forget_what_was_measured_otherwise(saved, loop)
        log.wandb_log = wandb_log = _open_wandb(context, config_dict, saved)
        if wandb_log is not None:
            at_the_end.push(wandb_log.end_after)
        report = {**begin_report(context, task.model, task.facts), "data": dict(task.data_report)}
        write_run_files(run, config_dict, task.tokenizer, report)
        if saved is not None:
            take_over_what_changed(saved, checkpointer, loop)
        _fill_frozen_cache(context, task, loop)
        loop.run()
        if task.frozen_cache is not None:
            task.frozen_cache.remove()
        results = _judge_best(context, task, loop, eval_log)
        _mirror_test(wandb_log, task, results.test, step=loop.state.step)
        eval_log.sync()
        _finish_report(context, loop, report, results)
    if wandb_log is not None:
        wandb_log.finish()
    return results.test


def _build_loop(
    context: RunContext[Any],
    task: Task[Any],
    checkpointer: Checkpointer,
    log: RunLog,
    stop_signal: StopSignal,
) -> TrainingLoop[Any]:
    training, logging = context.config.training, context.config.logging
    total_steps = training.epochs * task.batches.steps_per_epoch
    warmup = warmup_steps(total_steps, warmup_ratio=training.warmup_ratio)
    evaluate_val = task.evaluate_val

    def evaluate(model: nn.Module) -> dict[str, float]:
        assert evaluate_val is not None
        return evaluate_val(model, lambda: stop_signal.requested is not None, None)

    return TrainingLoop(
        model=task.model,
        loss=task.loss,
        batches=task.batches,
        optimizer=build_optimizer(
            task.model,
            muon=task.muon,
            learning_rate=training.learning_rate,
            weight_decay=training.weight_decay,
            layerwise_lr_decay=task.layerwise_lr_decay,
        ),
        schedule=lambda step: cosine_with_warmup(step, total_steps=total_steps, warmup_steps=warmup),
        learning_rate=training.learning_rate,
        epochs=training.epochs,
        max_grad_norm=training.max_grad_norm,
        device=context.device,
        amp_dtype=context.amp_dtype,
        seed=context.config.experiment.seed,
        evaluate=None if evaluate_val is None else evaluate,
        best_metric=training.best_metric,
        best_mode=task.best_mode,
        log_every=logging.log_every,
        eval_every=logging.eval_every,
        save_cadence=SaveCadence(every_steps=training.save_every, every_minutes=training.save_minutes),
        early_stopping_patience=training.early_stopping_patience,
        checkpointer=checkpointer,
        log=log,
        stop_signal=stop_signal,
        may_shrink=training.tokens_per_micro_batch == "auto",
        freeze=task.freeze,
    )


def _fill_frozen_cache(context: RunContext[Any], task: Task[Any], loop: TrainingLoop[Any]) -> None:
    """Encode what stays the same while the encoder is frozen; its time belongs to the run's."""
    if task.frozen_cache is None or loop.finished:
        remove_vectors(context.run.frozen_cache)
        return
    started = time.monotonic()
    task.frozen_cache.fill(
        task.model,
        epoch=loop.state.position // task.batches.steps_per_epoch,
        message=loop.log.message,
        warn=warn,
        should_stop=lambda: loop.stop_signal.requested is not None,
    )
    loop.state.elapsed_seconds += time.monotonic() - started


@dataclass(frozen=True, slots=True)
class _Results:
    """What the weights that the run ends with are worth.

    Attributes:
        thresholds: of several labels; see ``Task.choose_thresholds``.
        test: the metrics; None without test data.
    """

    thresholds: list[float] | None
    test: dict[str, float] | None


def _judge_best(
    context: RunContext[Any], task: Task[Any], loop: TrainingLoop[Any], eval_log: MetricsLog
) -> _Results:
    """Evaluate the best weights, or the last where there is no best; a stop signal leaves in between."""
    try:
        thresholds = _settle_best(context, task, loop)
        return _Results(thresholds, _evaluate_test(task, loop, thresholds, eval_log))
    except EvaluationInterrupted:
        raise SystemExit(loop.stop_signal.requested) from None


def _settle_best(context: RunContext[Any], task: Task[Any], loop: TrainingLoop[Any]) -> list[float] | None:
    """Put the best weights into the model, where there are some; choose and save what belongs to them."""
    if loop.state.best_step is None:
        return None
    best = context.run.best_checkpoint
    content = load_checkpoint(best)
    require_keys(content, ("model",), what=str(best))
    load_strict(task.model, content["model"], source=str(best))
    if task.choose_thresholds is not None and "thresholds" not in content:
        content["thresholds"] = task.choose_thresholds(
            task.model, lambda: loop.stop_signal.requested is not None
        )
        save_checkpoint(best, content)
    thresholds = read_thresholds(content, best)
    return None if thresholds is None else list(thresholds)


def _evaluate_test(
    task: Task[Any],
    loop: TrainingLoop[Any],
    thresholds: list[float] | None,
    eval_log: MetricsLog,
) -> dict[str, float] | None:
    """Evaluate the weights that are in the model on test, and log the row once."""
    if task.evaluate_test is None:
        return None
    step = loop.state.step if loop.state.best_step is None else loop.state.best_step
    metrics = task.evaluate_test(task.model, lambda: loop.stop_signal.requested is not None, thresholds)
    epoch = round(step / task.batches.steps_per_epoch, 4)
    eval_log.append({"step": step, "epoch": epoch, "split": "test", **metrics})
    return metrics


def _mirror_test(
    wandb_log: WandbLog | None, task: Task[Any], test_metrics: Mapping[str, float] | None, *, step: int
) -> None:
    """Send W&B the test metrics, and the confusion matrix of what was evaluated last: test, or else val."""
    if wandb_log is None:
        return
    if test_metrics is not None:
        wandb_log.add({"step": step, "split": "test", **test_metrics})
    if task.health.confusion is not None and task.health.label_names is not None:
        split = "val" if test_metrics is None else "test"
        wandb_log.add_confusion(split, task.health.confusion, task.health.label_names)


def _finish_report(
    context: RunContext[Any], loop: TrainingLoop[Any], report: Mapping[str, Any], results: _Results
) -> None:
    """Write run.json with its results, which make the run a finished one."""
    state, test = loop.state, results.test
    finished = {
        **report,
        "elapsed_seconds": round(state.elapsed_seconds, 1),
        "step": state.step,
        "best": {"step": state.best_step, context.config.training.best_metric: state.best_metric},
        "thresholds": results.thresholds,
        "test": None if test is None else {k: json_number(v) for k, v in test.items()},
        "status": "finished",
    }
    atomic_write_json(context.run.run_json, finished)


def _standing_results(
    context: RunContext[Any], task: Task[Any], loop: TrainingLoop[Any], eval_log: MetricsLog
) -> dict[str, Any] | None:
    """Return run.json if it holds the results of this finished run on the present test data, else None."""
    report = read_report(context.run)
    tests_are_same = report.get("test_data") == task.facts["fingerprints"]["data"].get("test")
    if report.get("status") != "finished" or not tests_are_same or not _are_scores(report.get("test", 0)):
        return None
    step = loop.state.best_step if loop.state.best_step is not None else loop.state.step
    logged = task.evaluate_test is None or eval_log.contains("test", step)
    return report if logged and report.get("step") == loop.state.step else None


def _are_scores(found: Any) -> bool:
    """Whether a part of run.json, which anybody can edit, is a test's results: None without test data."""
    values = found.values() if isinstance(found, dict) else [found]
    return all(value is None or isinstance(value, float) for value in values)


def _open_wandb(
    context: RunContext[Any], config_dict: dict[str, Any], saved: SavedRun | None
) -> WandbLog | None:
    logging = context.config.logging
    if not logging.use_wandb:
        return None
    return WandbLog(
        project=logging.wandb_project,
        entity=logging.wandb_entity,
        run_name=logging.wandb_run_name or context.config.experiment.name,
        run_id=None if saved is None else saved.state.get("wandb_run_id"),
        config=config_dict,
        folder=context.run.root / "wandb",
        warn=warn,
    )
