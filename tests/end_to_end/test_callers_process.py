"""What a function takes from, and leaves behind in, a process that is not its own: a notebook, a service."""

from __future__ import annotations

import contextlib
import copy
import csv
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from end_to_end.conftest import Checkout

import pretrain
from textclf_transformer import (
    HierarchicalRobertaForClassification,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
    create_classification_dataloader,
    create_mlm_dataloader,
    get_tokenizer,
    predict,
    prepare,
)
from textclf_transformer.data.table_files import read_csv
from textclf_transformer.data.tables import Columns
from textclf_transformer.data.text_files import MAX_LINE_BYTES
from textclf_transformer.errors import StorageError
from textclf_transformer.evaluation.loaded_run import LoadedRun, load_run
from textclf_transformer.model.presets import create_encoder

TEXTS = ["soil and seed", "a ship with some rope and a crane " * 20, "oven and salt " * 9]


@contextlib.contextmanager
def default(value: torch.dtype | str) -> Iterator[None]:
    """What a user may have set for tensors that name neither dtype nor device."""
    if isinstance(value, str):
        with torch.device(value):
            yield
        return
    before = torch.get_default_dtype()
    torch.set_default_dtype(value)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


DEFAULTS = pytest.mark.parametrize("value", ["meta", torch.float64, torch.bfloat16], ids=str)


@DEFAULTS
def test_predictions_do_not_depend_on_default_dtype_and_device(
    finetuned: Checkout, value: torch.dtype | str
) -> None:
    expected = rows(load_run("ft"))
    with default(value):
        run = load_run("ft")
        assert {parameter.dtype for parameter in run.model.parameters()} == {torch.float32}
        assert rows(run) == expected


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_a_loaded_model_is_float32_and_draws_nothing(dtype: torch.dtype, tmp_path: Path) -> None:
    encoder = create_encoder("roberta-tiny", vocab_size=60, pad_token_id=0)
    for model in (
        encoder,
        RobertaForMaskedLM(encoder),
        RobertaForSequenceClassification(encoder, num_labels=2),
        HierarchicalRobertaForClassification(encoder, num_labels=2),
    ):
        folder = tmp_path / type(model).__name__
        model.to_hf(folder)
        before = streams()
        with default(dtype):
            loaded = type(model).from_hf(folder).state_dict()
        assert streams() == before
        for name, tensor in model.state_dict().items():
            assert loaded[name].dtype == torch.float32 and torch.equal(loaded[name], tensor)


@DEFAULTS
def test_batches_do_not_depend_on_default_dtype_and_device(
    prepared_folder: Path, value: torch.dtype | str
) -> None:
    def batches() -> list[dict[str, torch.Tensor]]:
        tokenizer = get_tokenizer(prepared_folder / "tokenizer")
        return [
            *create_mlm_dataloader(TEXTS, tokenizer, 2, max_sequence_length=32),
            *create_classification_dataloader(TEXTS, [0, 1, 2], tokenizer, 2, chunk_size=16, max_chunks=3),
        ]

    expected = batches()
    with default(value):
        found = batches()
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_model_on_the_cpu_trains_whatever_the_default_device(prepared_folder: Path) -> None:
    tokenizer = get_tokenizer(prepared_folder / "tokenizer")
    encoder = create_encoder("roberta-tiny", vocab_size=tokenizer.vocab_size, pad_token_id=0)
    model = RobertaForMaskedLM(encoder)
    with default("meta"):
        batch = next(iter(create_mlm_dataloader(TEXTS, tokenizer, 8, max_sequence_length=128)))
        loss = model(**batch)["loss"]
        loss.backward()
    assert loss.device.type == "cpu" and bool(loss.isfinite())


def test_prediction_leaves_the_mode_of_each_module_and_the_random_streams(finetuned: Checkout) -> None:
    run = load_run("ft")
    run.model.train()
    run.model.encoder.embeddings.eval()
    before = copy.deepcopy(streams()), [module.training for module in run.model.modules()]
    predict(run, TEXTS, explain=True)
    load_run("ft")
    assert [module.training for module in run.model.modules()] == before[1]
    assert streams() == before[0]


def test_a_handler_of_the_caller_stays_in_place_while_a_store_is_written(
    prepared_folder: Path, tmp_path: Path
) -> None:
    noted: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: noted.append(number))

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("textclf_transformer.data.preparing.write_documents", interrupted)
            prepare(TEXTS, tmp_path / "store", tokenizer=prepared_folder / "tokenizer")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert noted == [signal.SIGTERM]


def interrupted(folder: Path, *args: Any, **kwargs: Any) -> None:
    """Stands in for writing a store while a SIGTERM comes."""
    signal.raise_signal(signal.SIGTERM)


def test_a_limit_of_csv_files_is_the_callers(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"text\n{'word ' * 40_000}\nb\n", encoding="utf-8")
    before = csv.field_size_limit(2 * MAX_LINE_BYTES)
    try:
        columns = Columns(text="text", label=None, id=None, group=None)
        for _ in read_csv(path, columns, delimiter=","):
            assert csv.field_size_limit() == 2 * MAX_LINE_BYTES
        assert csv.field_size_limit() == 2 * MAX_LINE_BYTES
    finally:
        csv.field_size_limit(before)


def test_a_training_leaves_the_number_of_threads(pretrained: Checkout) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        pretrained.run(pretrain.main, "pre", "--dry-run", "--set", "training.num_threads=1")
        assert torch.get_num_threads() == 2
        assert pretrain.main(["pre", "--resume", "never", "--set", "training.num_threads=1"]) == 4
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_an_interrupted_training_can_be_called_again_and_leaves_no_wandb_run_open(
    pretrained: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[MagicMock] = []

    def init(**settings: Any) -> MagicMock:
        runs.append(MagicMock(id=str(len(runs))))
        return runs[-1]

    monkeypatch.setitem(sys.modules, "wandb", MagicMock(init=init, run=None))
    monkeypatch.setenv("WANDB_MODE", "offline")
    arguments = ["pre", "--overwrite", "--quiet", *("--set", "logging.use_wandb=true")]
    with monkeypatch.context() as patch:
        patch.setattr("textclf_transformer.training.loop.train_step", ctrl_c)
        assert pretrain.main(arguments) == 130
    assert pretrain.main([*arguments, "--set", "training.epochs=1"]) == 0
    first, second = runs
    first.finish.assert_called_once_with(exit_code=1)
    first.log.assert_not_called()
    second.finish.assert_called_once_with()
    second.log.assert_called()


def test_a_training_that_fails_at_its_very_end_leaves_no_wandb_run_open(
    pretrained: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = MagicMock(id="a")
    monkeypatch.setitem(sys.modules, "wandb", MagicMock(init=lambda **settings: run, run=None))
    monkeypatch.setenv("WANDB_MODE", "offline")
    full = MagicMock(side_effect=StorageError("no space"))
    monkeypatch.setattr("textclf_transformer.commands.training_session._finish_report", full)
    arguments = ["pre", "--overwrite", "--quiet", *("--set", "logging.use_wandb=true")]
    assert pretrain.main([*arguments, "--set", "training.epochs=1"]) == 6
    run.finish.assert_called_once_with(exit_code=1)


def ctrl_c(*args: Any, **kwargs: Any) -> None:
    """Stands in for a step during which Ctrl-C comes before the run has a stop signal, as in a thread."""
    raise KeyboardInterrupt


def rows(run: LoadedRun) -> list[dict[str, Any]]:
    """What ``predict`` says of the texts, passages included."""
    predictions: Any = predict(run, TEXTS, explain=True)
    return predictions if isinstance(predictions, list) else predictions.to_dict("records")


def streams() -> tuple[Any, ...]:
    """The states of the global random streams."""
    return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()
