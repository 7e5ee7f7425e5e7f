"""Runs side by side: what differs in their configs, what came of it, and whether the difference is chance.

Runs whose configs differ in nothing but name and seed are one *setting*, whose scores have a mean and a
spread. N documents, L labels, R resamples.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from textclf_transformer.config.keys import fill_in_defaults
from textclf_transformer.config.reader import flatten
from textclf_transformer.config.schema import CONFIGS
from textclf_transformer.evaluation.report_run import RunRecord

# What a run is called, how it reports and where it lies do not make it another setting.
_NO_DIFFERENCE = ("experiment.", "logging.")
_A_DIFFERENCE = "logging.eval_every"  # decides which weights can be the best
_SHARED_COLUMNS = {"step", "epoch", "learning_rate", "grad_norm", "tokens_seen", "elapsed_seconds"}
_LESS_IS_BETTER = {"loss", "perplexity"}
MISSING = "not set"
MOST_ABREAST = 12
"""Settings that tables have columns for."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Runs that differ in name and seed only.

    Attributes:
        name: A, B, … in the order in which the runs were named.
        runs: their names.
        seeds: their seeds.
        parameters: of the model; None where no run says so.
        minutes: mean time of training; None where no run says so.
    """

    name: str
    runs: list[str]
    seeds: list[Any]
    parameters: int | None
    minutes: float | None


@dataclass(frozen=True, slots=True)
class Score:
    """One score of one setting.

    Attributes:
        values: of the runs that have it, in the order of ``Setting.runs``.
        mean: None where no run has it.
        deviation: standard deviation over seeds (n − 1); None below two runs.
    """

    values: list[float]
    mean: float | None
    deviation: float | None


@dataclass(frozen=True, slots=True)
class Pairing:
    """A setting against the first one on the same documents: differences of scores, means over seeds.

    Attributes:
        first: name of the first setting.
        second: name of the other.
        split: val or test.
        documents: N.
        differences: score → ``difference`` (second minus first), ``low`` and ``high`` (its 95 % interval over
            resamples of the documents) and ``better`` (the share of resamples in which second is better).
    """

    first: str
    second: str
    split: str
    documents: int
    differences: dict[str, dict[str, float]]

    def verdict(self, score: str) -> str:
        """Return in words whether the difference can be chance."""
        values = self.differences[score]
        if values["low"] > 0:
            return f"{self.second} is better"
        if values["high"] < 0:
            return f"{self.first} is better"
        return "can be chance"


@dataclass(slots=True)
class Comparison:
    """Everything that ``textclf compare`` shows.

    Attributes:
        settings: in the order of the runs.
        differences: config key → its value in each setting, as text; only keys that differ.
        scores: ``test accuracy`` … → score of each setting.
        pairings: each further setting against the first; empty where predictions were not compared.
        notes: what could not be compared, and why.
    """

    settings: list[Setting]
    differences: dict[str, list[str]]
    scores: dict[str, list[Score]]
    pairings: list[Pairing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain Python, ready for JSON."""
        return asdict(self)


def group_runs(records: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """Return the runs in settings, both in the order given."""
    groups: dict[tuple[tuple[str, str], ...], list[RunRecord]] = {}
    for record in records:
        groups.setdefault(tuple(sorted(_decisive(record).items())), []).append(record)
    return list(groups.values())


def compare_records(groups: Sequence[Sequence[RunRecord]]) -> Comparison:
    """Compare settings by what their folders say, without loading a model."""
    configs = [_decisive(group[0]) for group in groups]
    keys = sorted({key for config in configs for key in config})
    differences = {key: [config.get(key, MISSING) for config in configs] for key in keys}
    results = [[_results(record) for record in group] for group in groups]
    names = list(dict.fromkeys(name for group in results for run in group for name in run))
    return Comparison(
        settings=[_setting(letters(place), group) for place, group in enumerate(groups)],
        differences={
            key: values
            for key, values in differences.items()
            if len(set(values)) > 1 and not _is_left_out(key, values, keys)
        },
        scores={
            name: [_score([run[name] for run in group if name in run]) for group in results] for name in names
        },
    )


def stand_abreast(comparison: Comparison) -> bool:
    """Whether tables have a column for each setting; of many settings they have a row for each."""
    return len(comparison.settings) <= MOST_ABREAST


def letters(place: int) -> str:
    """Return A, B, … Z, AA, AB … for 0, 1, …"""
    first, last = divmod(place, 26)
    return (letters(first - 1) if first else "") + chr(ord("A") + last)


def _decisive(record: RunRecord) -> dict[str, str]:
    config = fill_in_defaults(record.config, CONFIGS[record.kind])  # an older version knew fewer keys
    flat = flatten(config)
    return {
        key: _as_written(value)
        for key, value in flat.items()
        if key == _A_DIFFERENCE or not key.startswith(_NO_DIFFERENCE)
    }


def _as_written(value: object) -> str:
    """Return a value as it may stand in a config: null, true, ["a", "b"], and text as it is."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _is_left_out(key: str, values: Sequence[str], keys: Sequence[str]) -> bool:
    """Whether ``key`` is a section that is null in some configs: in the others its keys say what differs."""
    return set(values) <= {MISSING, _as_written(None)} and any(other.startswith(f"{key}.") for other in keys)


def _setting(name: str, group: Sequence[RunRecord]) -> Setting:
    seconds = [record.facts.elapsed_seconds for record in group if record.facts.elapsed_seconds is not None]
    return Setting(
        name=name,
        runs=[record.run.name for record in group],
        seeds=[flatten(record.config).get("experiment.seed") for record in group],
        parameters=next((r.facts.parameters for r in group if r.facts.parameters is not None), None),
        minutes=statistics.fmean(seconds) / 60 if seconds else None,
    )


def _results(record: RunRecord) -> dict[str, float]:
    """Return the scores on test, and on val those of the evaluation that was best."""
    scores: dict[str, float] = {}
    for split in ("test", "val"):
        series = record.series.get(split)
        if series is None or not len(series.columns["step"]):
            continue
        row = len(series.columns["step"]) - 1 if split == "test" else _best_row(record, series.columns)
        for name, values in series.columns.items():
            if name not in _SHARED_COLUMNS and np.isfinite(values[row]):
                scores[f"{split} {name}"] = float(values[row])
    return scores


def _best_row(record: RunRecord, columns: Mapping[str, Any]) -> int:
    metric = str(flatten(record.config).get("training.best_metric", "loss"))
    values = np.asarray(columns.get(metric, columns["loss"]), dtype=np.float64)
    if not np.isfinite(values).any():
        return len(values) - 1
    best = np.nanmin(values) if metric in _LESS_IS_BETTER else np.nanmax(values)
    losses = np.asarray(columns["loss"], dtype=np.float64)
    equal = np.flatnonzero(values == best)  # of which a run takes that with the lowest loss
    return int(min(equal, key=lambda row: losses[row] if np.isfinite(losses[row]) else np.inf))


def _score(values: list[float]) -> Score:
    return Score(
        values=values,
        mean=statistics.fmean(values) if values else None,
        deviation=statistics.stdev(values) if len(values) > 1 else None,
    )
