"""Measure the whole path on labelled data sets and write the tables of docs/results.md.

    python -m benchmarks.results --data FOLDER [--only NAME]

FOLDER holds one sub-folder per data set with train, val and test as ``.jsonl.xz`` (text, label). Everything
goes through the commands that a user types; runs that are finished are not repeated, so the script goes on
where it stopped.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measuring import (
    WORK,
    Settings,
    hardware,
    prepare,
    scores_on_test,
    seconds_of,
    train,
    write_between,
)
from textclf_transformer.atomic import atomic_write_json
from textclf_transformer.data.store import Store
from textclf_transformer.evaluation.baselines import LabelledTexts, baseline_metrics
from textclf_transformer.experiment import CHECKOUT

PAGE = CHECKOUT / "docs" / "results.md"
START, END = "<!-- tables: made by benchmarks/results.py -->", "<!-- end of tables -->"

SMALL_ENCODER: Settings = {
    "architecture.max_sequence_length": 128,
    "architecture.embedding_dim": 256,
    "architecture.num_layers": 2,
    "architecture.ffn_dim": 1024,
    "architecture.attention.num_heads": 4,
}


@dataclass(frozen=True)
class Recipe:
    """How one data set is measured.

    Attributes:
        title: heading in the page.
        source: where the public data set comes from, and its terms.
        pretraining: settings of the pretraining run beside ``SMALL_ENCODER``; ``MUON`` goes on top.
        finetuning: settings of every finetuning run.
        variants: name of the row → settings on top, measured with each seed.
        seeds: seeds of the finetuning runs, by variant; the first variant's where a variant is not named.
    """

    title: str
    source: str
    pretraining: Settings
    finetuning: Settings
    variants: Mapping[str, Settings]
    seeds: Mapping[str, tuple[int, ...]]


PRETRAINED = "pretrained on the training text, then finetuned"
WITH_MUON = "pretrained with Muon, then finetuned"
WITH_MUON_SIX_EPOCHS = "pretrained with Muon, finetuned for six epochs"
WITH_MUON_EIGHT_EPOCHS = "pretrained with Muon, finetuned for eight epochs"
AFTER_MUON = (WITH_MUON, WITH_MUON_SIX_EPOCHS, WITH_MUON_EIGHT_EPOCHS)
FROM_SCRATCH = "the same model without pretraining"
FIRST_CHUNK = "pretrained, first chunk only"
WITHOUT: Settings = {"pretrained_experiment.load_weights": "false"}

# Muon bears a rate at which AdamW leaves a model of four layers on the plateau (LOG.md).
MUON: Settings = {"training.optimizer": "muon", "training.learning_rate": 3e-3}

BASELINES = {
    "majority": "majority class",
    "tfidf_svm_train": "TF-IDF + linear SVM, fitted on train",
    "tfidf_svm_train_val": "TF-IDF + linear SVM, fitted on train + val",
}

RECIPES: dict[str, Recipe] = {
    "20ng": Recipe(
        title="20 Newsgroups (bydate, headers kept, official test split)",
        source="http://qwone.com/~jason/20Newsgroups/",
        pretraining={"training.epochs": 3, "training.batch_size": 64, "training.learning_rate": 1e-3},
        finetuning={"training.epochs": 4, "training.learning_rate": 5e-4, "chunking.max_chunks": 4},
        variants={
            PRETRAINED: {},
            FROM_SCRATCH: WITHOUT,
            WITH_MUON: {},
            WITH_MUON_EIGHT_EPOCHS: {"training.epochs": 8},
        },
        seeds={PRETRAINED: (1, 2, 3), WITH_MUON_EIGHT_EPOCHS: (1,)},
    ),
    "age_transcripts_en": Recipe(
        title="Transcripts by audience age (a demonstration: one class is a single source)",
        source="transcripts of TED talks and television programmes, research use",
        pretraining={"training.epochs": 6, "training.batch_size": 32, "training.learning_rate": 1e-3},
        finetuning={
            "training.epochs": 5,
            "training.batch_size": 8,
            "training.learning_rate": 5e-4,
            "chunking.max_chunks": 64,
        },
        variants={PRETRAINED: {}, FROM_SCRATCH: WITHOUT, WITH_MUON: {}},
        seeds={PRETRAINED: (1, 2, 3)},
    ),
    "scotus_oral": Recipe(
        title="Supreme Court oral arguments, issue area (the long-document test)",
        source="Oyez transcripts with the issue areas of the Supreme Court Database, CC BY-NC",
        pretraining={"training.epochs": 3, "training.batch_size": 64, "training.learning_rate": 1e-3},
        finetuning={
            "training.epochs": 3,
            "training.batch_size": 4,
            "training.learning_rate": 5e-4,
            "chunking.max_chunks": 400,
        },
        variants={
            PRETRAINED: {},
            FIRST_CHUNK: {"chunking.max_chunks": 1},
            FROM_SCRATCH: WITHOUT,
            WITH_MUON: {},
            WITH_MUON_SIX_EPOCHS: {"training.epochs": 6},
        },
        seeds={PRETRAINED: (1,), FIRST_CHUNK: (1, 2, 3), WITH_MUON: (1, 2, 3)},
    ),
}


def baselines(store: Path) -> dict[str, dict[str, float]]:
    """Fit the baselines on train, and on train + val; return their scores on test."""
    splits = {split: Store.open(store / split) for split in ("train", "val", "test")}
    texts = {}
    for split, documents in splits.items():
        assert documents.labels is not None
        texts[split] = LabelledTexts([documents.text(i) for i in range(len(documents))], documents.labels)
    num_labels = len(splits["train"].label_names or ())
    return baseline_metrics(texts["train"], texts["val"], texts["test"], num_labels=num_labels)


def measure(name: str, data: Path) -> dict[str, Any]:
    """Run everything for one data set; return what the table shows."""
    recipe = RECIPES[name]
    store = prepare(name, data)
    store_keys = {f"data.{split}.dataset_path": store / split for split in ("train", "val")}
    values = {
        **SMALL_ENCODER,
        **recipe.pretraining,
        **store_keys,
        "tokenizer.vocab_dir": WORK / name / "tokenizer",
    }
    result_file = WORK / f"{name}.json"
    result: dict[str, Any] = {"baselines": baselines(store), "pretraining_seconds": {}, "rows": {}}
    for number, (variant, extra) in enumerate(recipe.variants.items()):
        optimizer, source = (
            ("Muon", f"results-{name}-muon") if variant in AFTER_MUON else ("AdamW", f"results-{name}")
        )
        pretraining = train("pretraining", source, {**values, **MUON} if optimizer == "Muon" else values)
        result["pretraining_seconds"][optimizer] = seconds_of(pretraining)
        runs = []
        for seed in recipe.seeds.get(variant, recipe.seeds[PRETRAINED]):
            run_values = {
                **recipe.finetuning,
                **store_keys,
                "data.test.dataset_path": store / "test",
                **extra,
                "experiment.seed": seed,
            }
            folder = train("finetuning", f"results-{name}-{number}-s{seed}", run_values, source)
            runs.append({"seed": seed, **scores_on_test(folder), "seconds": seconds_of(folder)})
            result["rows"][variant] = runs
            atomic_write_json(result_file, result)
    return result


def spread(values: Sequence[float]) -> str:
    """Return the mean in percent, with the standard deviation where there are several."""
    mean = f"{100 * statistics.mean(values):.1f}"
    return f"{mean} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else mean


def table(name: str, result: dict[str, Any]) -> str:
    """Return the Markdown section of one data set."""
    recipe = RECIPES[name]
    lines = [f"### {recipe.title}", "", f"Source: {recipe.source}.", ""]
    lines += ["| model | accuracy | macro-F1 | seeds | minutes of finetuning |", "|---|---|---|---|---|"]
    for row, scores in result["baselines"].items():
        lines.append(
            f"| {BASELINES[row]} | {100 * scores['accuracy']:.1f} | {100 * scores['f1_macro']:.1f} | | |"
        )
    for row, runs in result["rows"].items():
        columns = [spread([run[key] for run in runs]) for key in ("accuracy", "f1_macro")]
        minutes = statistics.mean(run["seconds"] for run in runs) / 60
        seeds = ", ".join(str(run["seed"]) for run in runs)
        lines.append(f"| {row} | {columns[0]} | {columns[1]} | {seeds} | {minutes:.1f} |")
    minutes_each = ", ".join(
        f"{seconds / 60:.1f} minutes with {optimizer}"
        for optimizer, seconds in result["pretraining_seconds"].items()
    )
    lines += ["", f"Pretraining took {minutes_each}. Settings beside the templates':", ""]
    shown = {"pretraining": {**SMALL_ENCODER, **recipe.pretraining}, "finetuning": recipe.finetuning}
    if "Muon" in result["pretraining_seconds"]:
        shown["pretraining with Muon, on top"] = MUON
    lines += [
        f"    {what}: " + " ".join(f"{key}={value}" for key, value in settings.items())
        for what, settings in shown.items()
    ]
    return "\n".join([*lines, ""])


def write_page() -> None:
    """Put the tables of all data sets measured so far between the page's markers."""
    measured = {name: WORK / f"{name}.json" for name in RECIPES if (WORK / f"{name}.json").is_file()}
    sections = [table(name, json.loads(file.read_text(encoding="utf-8"))) for name, file in measured.items()]
    write_between(PAGE, START, END, "\n".join([f"Measured on {hardware()}.", "", *sections]))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with a sub-folder per data set")
    parser.add_argument("--only", choices=sorted(RECIPES), help="measure one data set")
    arguments = parser.parse_args(argv)
    data = arguments.data.absolute()
    for name in [arguments.only] if arguments.only else RECIPES:
        measure(name, data)
        write_page()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
