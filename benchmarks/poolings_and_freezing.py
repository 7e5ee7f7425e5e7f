"""Measure every pooling and ways of freezing, and write the tables of docs/poolings_and_freezing.md.

    python -m benchmarks.poolings_and_freezing --data FOLDER

FOLDER holds movie_reviews with train, val and test as ``.jsonl.xz`` (text, label). Everything goes through
the commands that a user types. Each row is measured with the first seed, then each with the second and so on;
the page is written after each run, and a script that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import resource
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring import (
    WORK,
    Settings,
    hardware,
    prepare,
    report_of,
    scores_on_test,
    train,
    write_between,
)
from textclf_transformer.atomic import atomic_write_json
from textclf_transformer.experiment import CHECKOUT, RunFolder

DATA_SET = "movie_reviews"
NAME = "poolings"
PAGE = CHECKOUT / "docs" / "poolings_and_freezing.md"
RESULTS = WORK / "poolings_and_freezing.json"
START, END = "<!-- tables: made by benchmarks/poolings_and_freezing.py -->", "<!-- end of tables -->"

SEEDS = (1, 2, 3)
EPOCHS = 3
PRETRAINING: Settings = {
    "architecture.max_sequence_length": 256,
    "architecture.embedding_dim": 256,
    "architecture.num_layers": 2,
    "architecture.ffn_dim": 1024,
    "architecture.attention.num_heads": 4,
    "training.epochs": 4,
    "training.batch_size": 32,
    "training.learning_rate": 1e-3,
}
FINETUNING: Settings = {
    "training.epochs": EPOCHS,
    "training.learning_rate": 5e-4,
    "chunking.max_chunks": 3,
    "logging.log_every": 50,
}

EVERYTHING = "nothing"
# the row's name → the phases; classifiers on a frozen encoder start from random weights, so they learn faster
HEAD = "train: head, learning_rate: 2e-3"
FREEZING: Mapping[str, str | None] = {
    EVERYTHING: None,
    "embeddings": "[{from_epoch: 0, train: top_k, k: 2}]",
    "embeddings and the lower layer": "[{from_epoch: 0, train: top_k, k: 1}]",
    "the whole encoder": f"[{{from_epoch: 0, {HEAD}}}]",
    "the encoder for one epoch, then all but the upper layer for one, then nothing": (
        f"[{{from_epoch: 0, {HEAD}}}, {{from_epoch: 1, train: top_k, k: 1}}, {{from_epoch: 2, train: all}}]"
    ),
}
POOLINGS = ("attention", "multihead", "mean", "max", "cls", "transformer")
TABLES: Mapping[str, Mapping[str, Settings]] = {
    "pooling": {pooling: {"classification_head.pooling": pooling} for pooling in POOLINGS},
    "freezing": {
        name: {"classification_head.pooling": "attention", "training.freeze": phases or "null"}
        for name, phases in FREEZING.items()
    },
    "tokens": {
        "cls": {"classification_head.pooling": "attention"},
        "mean": {"classification_head.token_pooling": "mean"},
        "max": {"classification_head.token_pooling": "max"},
        "mean, the whole encoder frozen": {
            "classification_head.token_pooling": "mean",
            "training.freeze": FREEZING["the whole encoder"] or "null",
        },
    },
}
HEADINGS = {
    "pooling": ("Poolings, everything trained", "pooling"),
    "freezing": ("What is frozen, pooling attention", "frozen"),
    "tokens": ("What a chunk's vector is, pooling attention", "tokens"),
}

# 97.5 % points of Student's t with n - 1 degrees of freedom, for n seeds
STUDENT = {2: 12.706, 3: 4.303}

Run = Mapping[str, Any]


def run_name(table: str, number: int, seed: int) -> str:
    """Return the name of a row's run; the first row, pooling attention, is the same in all tables."""
    return f"{NAME}-{table if number else 'first'}-{number}-s{seed}"


def measure_run(name: str, values: Settings) -> Run:
    """Train a run to its end; return what the tables show of it."""
    folder = RunFolder.locate("finetuning", name)
    at_once = not folder.has_checkpoint()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    train("finetuning", name, values, NAME)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    with folder.train_metrics.open(encoding="utf-8", newline="") as file:
        memory = max(float(row["memory_host_mib"]) for row in csv.DictReader(file))
    return {
        **scores_on_test(folder),
        "trainable_parameters": report_of(folder)["trainable_parameters"],
        "cpu_seconds": cpu_seconds if at_once else None,  # else an earlier process spent a part of them
        "memory_mib": memory,
    }


def measure(data: Path) -> None:
    """Run what is missing, seed by seed, and write the page after each run."""
    store = prepare(DATA_SET, data)
    paths = {f"data.{split}.dataset_path": store / split for split in ("train", "val")}
    tokenizer = {"tokenizer.vocab_dir": WORK / DATA_SET / "tokenizer"}
    train("pretraining", NAME, {**PRETRAINING, **paths, **tokenizer})
    runs: dict[str, Run] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    for seed in SEEDS:
        for table, rows in TABLES.items():
            for number, row in enumerate(rows.values()):
                name = run_name(table, number, seed)
                if name not in runs:
                    test = {"data.test.dataset_path": store / "test", "experiment.seed": seed}
                    runs[name] = measure_run(name, {**FINETUNING, **paths, **test, **row})
                    atomic_write_json(RESULTS, runs)
                write_page(runs)


def interval(scores: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the mean by Student's t; without bounds where there is one score."""
    mean = statistics.mean(scores)
    if len(scores) < 2:
        return -math.inf, math.inf
    half = STUDENT[len(scores)] * statistics.stdev(scores) / math.sqrt(len(scores))
    return mean - half, mean + half


def verdict(scores: Mapping[str, Sequence[float]]) -> str:
    """Say which row is best, as far as its interval lies above those of others."""
    if any(len(values) < len(SEEDS) for values in scores.values()):
        return "Not all seeds are measured yet, so nothing is recommended."
    best = max(scores, key=lambda row: statistics.mean(scores[row]))
    others = [row for row in scores if row != best]
    below = [row for row in others if interval(scores[row])[1] < interval(scores[best])[0]]
    if len(below) == len(others):
        return f"Recommended: {best}. Its interval lies above all others."
    apart = f"the interval of the best, {best}, lies above {'; '.join(below) or 'no other'}"
    return f"Nothing is recommended: {apart}, and overlaps with the rest."


def table_lines(table: str, runs: Mapping[str, Run]) -> list[str]:
    """Return the Markdown section of one table."""
    title, column = HEADINGS[table]
    lines = [f"## {title}", ""]
    lines += [
        f"| {column} | macro-F1 | 95 % interval | each seed | trained parameters | CPU s per epoch | MiB |"
    ]
    lines += ["|---|---|---|---|---|---|---|"]
    scores, missing = {}, []
    for number, row in enumerate(TABLES[table]):
        names = {seed: run_name(table, number, seed) for seed in SEEDS}
        done = [runs[name] for name in names.values() if name in runs]
        if absent := [str(seed) for seed, name in names.items() if name not in runs]:
            missing.append(f"{row} (seed {', '.join(absent)})")
        scores[row] = [100 * run["f1_macro"] for run in done]
        if done:
            lines.append(table_line(row, scores[row], done))
    lines += ["", verdict(scores), ""]
    return [*lines, f"Missing: {'; '.join(missing)}.", ""] if missing else lines


def table_line(row: str, scores: Sequence[float], runs: Sequence[Run]) -> str:
    """Return one row: scores over seeds, the least time of them, the most memory."""
    low, high = interval(scores)
    bounds = f"{max(low, 0):.1f} to {min(high, 100):.1f}" if math.isfinite(low) else ""
    seconds = [run["cpu_seconds"] / EPOCHS for run in runs if run["cpu_seconds"] is not None]
    each = ", ".join(f"{score:.1f}" for score in scores)
    cells = [row, f"{statistics.mean(scores):.1f}", bounds, each]
    cells += [f"{runs[0]['trainable_parameters']:,}", f"{min(seconds):.0f}" if seconds else ""]
    return f"| {' | '.join([*cells, str(round(max(run['memory_mib'] for run in runs)))])} |"


def write_page(runs: Mapping[str, Run]) -> None:
    """Put the tables, as far as they are measured, between the page's markers."""
    lines = [f"Measured on {hardware()}. Settings beside the templates':", ""]
    for title, values in (("pretraining", PRETRAINING), ("finetuning", FINETUNING)):
        lines.append(f"    {title}: " + " ".join(f"{key}={value}" for key, value in values.items()))
    lines += ["", *(line for table in TABLES for line in table_lines(table, runs))]
    lines += ["The phases of `training.freeze`:", ""]
    lines += [f"- {row}: `{phases or 'null'}`" for row, phases in FREEZING.items()]
    write_between(PAGE, START, END, "\n".join([*lines, ""]))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with a sub-folder movie_reviews")
    arguments = parser.parse_args(argv)
    measure(arguments.data.absolute())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
