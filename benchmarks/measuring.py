"""What the scripts of measured pages share: typing the commands, finished runs, pages with markers."""

from __future__ import annotations

import csv
import json
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from textclf_transformer.atomic import atomic_write_text
from textclf_transformer.experiment import CHECKOUT, Kind, RunFolder
from textclf_transformer.training.signals import run_to_its_end

WORK = CHECKOUT / "results"

Settings = Mapping[str, object]


def run(program: str, *arguments: object) -> None:
    """Show a command, run it, and stop the script if it fails."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ {program} {' '.join(words)}", flush=True)
    prefix = ["-m", "textclf_transformer"] if program == "textclf" else [program]
    if code := run_to_its_end([sys.executable, *prefix, *words], cwd=CHECKOUT):
        raise SystemExit(code)


def settings(values: Settings) -> list[str]:
    """Return ``--set`` options."""
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


def prepare(name: str, data: Path) -> Path:
    """Learn the tokenizer on the training text, prepare the three splits; return the store's folder."""
    tokenizer, store = WORK / name / "tokenizer", WORK / name / "store"
    files = {split: data / name / f"{split}.jsonl.xz" for split in ("train", "val", "test")}
    if not tokenizer.exists():
        run("textclf", "train-tokenizer", files["train"], "--out", tokenizer, "--vocab-size", 16000)
    if not store.exists():
        splits = [part for split, file in files.items() for part in (f"--{split}", file)]
        run("textclf", "prepare", *splits, "--out", store, "--tokenizer", tokenizer)
    return store


def train(kind: Kind, name: str, values: Settings, *more: object) -> RunFolder:
    """Stamp out a run if it is new, then train it to its end; a finished one is left alone."""
    folder = RunFolder.locate(kind, name)
    if not folder.config.exists():
        run(f"experiments/generate_{kind}_experiment.py", name, *more, *settings(values))
    if not folder.run_json.exists() or report_of(folder).get("status") != "finished":
        run("pretrain.py" if kind == "pretraining" else "finetune.py", name)
    return folder


def report_of(folder: RunFolder) -> dict[str, Any]:
    """Return what stands in a run's run.json."""
    content: dict[str, Any] = json.loads(folder.run_json.read_text(encoding="utf-8"))
    return content


def scores_on_test(folder: RunFolder) -> dict[str, float]:
    """Return accuracy and macro-F1 on test of a finished run."""
    with folder.eval_metrics.open(encoding="utf-8", newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["split"] == "test")
    return {"accuracy": float(row["accuracy"]), "f1_macro": float(row["f1_macro"])}


def seconds_of(folder: RunFolder) -> float:
    """Return the wall-clock time of a run, evaluation and saving included."""
    return float(report_of(folder)["elapsed_seconds"])


def hardware() -> str:
    """Return what the numbers of a page were measured on."""
    return f"{os.cpu_count()} CPU cores ({platform.machine()}), torch {torch.__version__}"


def write_between(page: Path, start: str, end: str, body: str) -> None:
    """Put ``body`` between two lines of a page; what stands around them stays."""
    head, rest = page.read_text(encoding="utf-8").split(start)
    tail = rest.split(end)[1]
    atomic_write_text(page, f"{head}{start}\n\n{body}\n{end}{tail}")
