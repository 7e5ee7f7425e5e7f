"""What a run's folder says of the run itself: its record, its config and its metrics, without the weights."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textclf_transformer.atomic import storage_errors
from textclf_transformer.config.reader import read_document
from textclf_transformer.config.schema import kind_of
from textclf_transformer.errors import ConfigError
from textclf_transformer.experiment import Kind, RunFolder

# No training writes larger numbers (a perplexity is at most e^700); sums and spans of them have to fit.
_LARGEST = sys.float_info.max / 1000

MAX_METRICS_BYTES = 200_000_000


@dataclass(frozen=True, slots=True)
class Series:
    """The rows of one split in a metrics file.

    Attributes:
        split: train, val or test.
        columns: column → float64 (rows,), NaN where a cell is empty; ``step`` and ``loss`` among
            them.
    """

    split: str
    columns: Mapping[str, NDArray[np.float64]]

    def points(self, column: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (steps, values) of the rows in which ``column`` has a finite value."""
        values = self.columns.get(column, np.zeros(0))
        steps = self.columns["step"][: len(values)]
        there = np.isfinite(values) & np.isfinite(steps)
        return steps[there], values[there]


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """What run.json says of one split; None for what it does not say.

    Attributes:
        split: train, val or test.
        path: where the data were.
        documents: how many.
        pieces: chunks, or rows of pretraining.
        tokens: content tokens in finetuning; [CLS] and [SEP] count too in pretraining.
        tokens_dropped: how many of them are not read.
        documents_cut: how many documents lose tokens.
    """

    split: str
    path: str
    documents: int | None
    pieces: int | None
    tokens: int | None
    tokens_dropped: int | None
    documents_cut: int | None


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What run.json says of a run; None, or empty, for what it does not say.

    Attributes:
        status: running or finished.
        started: when, in ISO 8601.
        elapsed_seconds: of training.
        step: the last optimizer step.
        parameters: how many the model has.
        environment: versions, device, commit.
        data: the splits.
        best: of the weights with the best value of the deciding metric, that value under its name.
        test: metric → value on test.
        test_data: fingerprint of the documents that the results on test are of.
    """

    status: str | None
    started: str | None
    elapsed_seconds: float | None
    step: int | None
    parameters: int | None
    environment: Mapping[str, Any]
    data: tuple[SplitFacts, ...]
    best: Mapping[str, float]
    test: Mapping[str, float]
    test_data: str | None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as its folder describes it.

    Attributes:
        run: the folder.
        kind: pretraining or finetuning.
        config: the resolved config, or config.yaml where the run has not begun.
        config_text: the same as it stands in the file.
        facts: what run.json says.
        series: the metrics by split.
    """

    run: RunFolder
    kind: Kind
    config: dict[str, Any]
    config_text: str
    facts: RunFacts
    series: Mapping[str, Series]


def read_record(run: RunFolder) -> RunRecord:
    """Read what a run's folder says of the run.

    Raises:
        ConfigError: the folder has no config, or one that cannot be read.
        StorageError: a file cannot be read.
    """
    path = run.resolved_config if run.resolved_config.exists() else run.config
    if not path.exists():
        raise ConfigError(
            "this is not the folder of a run", where=str(run.root), expected="config.yaml in it"
        )
    config = read_document(path).data
    with storage_errors(path):
        text = path.read_text(encoding="utf-8", errors="replace")
    logging = config.get("logging")
    logging = logging if isinstance(logging, dict) else {}
    series: dict[str, Series] = {}
    for key, default in (("train_csv", run.train_metrics), ("eval_csv", run.eval_metrics)):
        named = logging.get(key)
        # a name that no config may have is not where a training has written
        place = run.inside(named) if isinstance(named, str) and named.isprintable() else default
        series |= {one.split: one for one in _read_metrics(place)}
    return RunRecord(
        run=run,
        kind=kind_of(config),
        config=config,
        config_text=text,
        facts=read_facts(run),
        series=series,
    )


def read_facts(run: RunFolder) -> RunFacts:
    """Return what run.json says; nothing where it is missing or damaged."""
    try:
        content = json.loads(run.run_json.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        content = {}
    facts = content if isinstance(content, dict) else {}
    splits = _typed(facts.get("data"), dict) or {}
    return RunFacts(
        status=_typed(facts.get("status"), str),
        started=_typed(facts.get("started"), str),
        elapsed_seconds=_typed(facts.get("elapsed_seconds"), float, int),
        step=_typed(facts.get("step"), int),
        parameters=_typed(facts.get("parameters"), int),
        environment=_typed(facts.get("environment"), dict) or {},
        data=tuple(_split_facts(name, part) for name, part in splits.items() if isinstance(part, dict)),
        best=_numbers(facts.get("best")),
        test=_numbers(facts.get("test")),
        test_data=_typed(facts.get("test_data"), str),
    )


def _numbers(part: Any) -> dict[str, float]:
    """Return the entries of ``part`` that are numbers, under names that could be those of metrics."""
    entries = _typed(part, dict) or {}
    numbers = {name: _typed(value, int, float) for name, value in entries.items() if name.isidentifier()}
    return {name: value for name, value in numbers.items() if value is not None}


def _split_facts(name: str, part: Mapping[str, Any]) -> SplitFacts:
    return SplitFacts(
        split=name,
        path=_typed(part.get("path"), str) or "",
        documents=_typed(part.get("documents"), int),
        pieces=_typed(part.get("chunks", part.get("rows")), int),
        tokens=_typed(part.get("tokens"), int),
        tokens_dropped=_typed(part.get("tokens_dropped"), int),
        documents_cut=_typed(part.get("documents_cut"), int),
    )


def _typed(value: Any, *types: type) -> Any:
    """Return ``value`` if it is of one of ``types``, else None: anybody can edit a JSON file."""
    if isinstance(value, bool) or (isinstance(value, int | float) and abs(value) > _LARGEST):
        return None
    return value if isinstance(value, types) else None


def _read_metrics(path: Path) -> list[Series]:
    """Return the rows of each split; a file that is missing has none, a cell that is no number is NaN."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_METRICS_BYTES).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    by_split: dict[str, list[dict[str, str]]] = {}
    with contextlib.suppress(csv.Error):  # a power cut may leave zeros, too many for a cell, at the end
        for row in csv.DictReader(io.StringIO(text, newline="")):
            by_split.setdefault(row.get("split") or "train", []).append(row)
    found = []
    for split, rows in by_split.items():
        names = [name for name in rows[0] if name and name != "split"]
        columns = {name: np.array([_number(row.get(name)) for row in rows]) for name in names}
        if {"step", "loss"} <= columns.keys():
            found.append(Series(split=split, columns=columns))
    return found


def _number(cell: str | None) -> float:
    try:
        number = float(cell or "nan")
    except ValueError:
        return math.nan
    return number if abs(number) <= _LARGEST else math.nan
