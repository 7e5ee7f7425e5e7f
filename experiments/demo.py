"""The whole path in a few minutes, on text that every machine has after the install.

The documentation inside the installed scientific libraries is the corpus: one source file's docstrings are
one document, the library is its label. The demo types the commands that a user would type, shows each, and
ends with a table. A second run goes on where the first one stopped.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from textclf_transformer.atomic import atomic_write_text
from textclf_transformer.commands.common import CommandParser, run_command
from textclf_transformer.data.documentation_corpus import LIBRARIES, documentation_documents
from textclf_transformer.data.store import Store
from textclf_transformer.evaluation.baselines import LabelledTexts, baseline_metrics
from textclf_transformer.experiment import CHECKOUT, Kind, RunFolder
from textclf_transformer.training.signals import run_to_its_end

TOKENIZER = CHECKOUT / "tokenizers" / "demo"
STORE = CHECKOUT / "stores" / "demo"
CORPUS = CHECKOUT / "stores" / "demo.jsonl"
# Beside the store: a folder with a file of anyone else in it is never replaced.
VERSIONS = STORE.with_suffix(".versions.json")

# Small enough for minutes on two cores; the templates' defaults are what a real run starts from.
PRETRAINING = {
    "tokenizer.vocab_dir": TOKENIZER,
    "data.train.dataset_path": STORE / "train",
    "data.val.dataset_path": STORE / "val",
    "architecture.max_sequence_length": 128,
    "architecture.embedding_dim": 128,
    "architecture.num_layers": 2,
    "architecture.ffn_dim": 512,
    "architecture.attention.num_heads": 2,
    "training.optimizer": "muon",  # one epoch goes further with it (docs/pretraining.md)
    "training.learning_rate": 3e-3,
    "training.epochs": 1,
}
FINETUNING = {
    "data.train.dataset_path": STORE / "train",
    "data.val.dataset_path": STORE / "val",
    "data.test.dataset_path": STORE / "test",
    "chunking.max_chunks": 8,
    "training.learning_rate": 1e-3,
    "training.epochs": 5,
}


NEXT = """\
Files: experiments/pretraining/demo and experiments/finetuning/demo: config.yaml, metrics/, checkpoints.

Your own data next: a CSV or JSONL file with the columns text and label.
  source .venv/bin/activate
  textclf train-tokenizer my.jsonl --out tokenizers/mine
  textclf prepare my.jsonl --out stores/mine --tokenizer tokenizers/mine --split 0.8/0.1/0.1
  python experiments/generate_pretraining_experiment.py pre_v1 \\
      --set tokenizer.vocab_dir=tokenizers/mine --set data.train.dataset_path=stores/mine/train \\
      --set data.val.dataset_path=stores/mine/val
  python pretrain.py pre_v1
  python experiments/generate_finetuning_experiment.py ft_v1 pre_v1 \\
      --set data.train.dataset_path=stores/mine/train --set data.val.dataset_path=stores/mine/val \\
      --set data.test.dataset_path=stores/mine/test
  python finetune.py ft_v1
  textclf evaluate ft_v1
"""


def run(*command: object) -> None:
    """Show a command as a user would type it and run it; stop the demo with its exit code if it fails."""
    shown = " ".join(str(part).replace(f"{CHECKOUT}/", "") for part in command)
    print(f"\n$ {shown}", flush=True)
    program, *arguments = (str(part) for part in command)
    prefix = [sys.executable]
    prefix += ["-m", "textclf_transformer"] if program == "textclf" else [program]
    if code := run_to_its_end([*prefix, *arguments], cwd=CHECKOUT):
        raise SystemExit(code)


def settings(values: dict[str, object]) -> list[str]:
    """Return ``--set`` options for these keys."""
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


def prepare_data() -> None:
    """Learn the tokenizer and prepare the store, unless they are there and the libraries are the same."""
    versions = json.dumps({library: version(library) for library in LIBRARIES}, indent=2)
    there = all(path.exists() for path in (TOKENIZER, STORE, VERSIONS))
    if there and VERSIONS.read_text(encoding="utf-8") == versions:
        print(
            f"tokenizer and data are there: {TOKENIZER.relative_to(CHECKOUT)}, {STORE.relative_to(CHECKOUT)}"
        )
        return
    print(f"reading the documentation inside {', '.join(LIBRARIES)} …", flush=True)
    lines = (json.dumps({"text": d.text, "label": d.label, "id": d.id}) for d in documentation_documents())
    CORPUS.parent.mkdir(exist_ok=True)
    atomic_write_text(CORPUS, "".join(f"{line}\n" for line in lines))
    (STORE / "versions.json").unlink(missing_ok=True)  # where an earlier demo kept them
    run("textclf", "train-tokenizer", CORPUS, "--out", TOKENIZER, "--vocab-size", 8000, "--overwrite")
    split = ["--split", "0.8/0.1/0.1", "--seed", 42, "--overwrite"]
    run("textclf", "prepare", CORPUS, "--out", STORE, "--tokenizer", TOKENIZER, *split)
    kinds: tuple[Kind, ...] = ("pretraining", "finetuning")
    for kind in kinds:
        run_folder = RunFolder.locate(kind, "demo")
        if run_folder.config.exists():
            run_folder.clear_results()  # a run on other data would refuse to go on
    atomic_write_text(VERSIONS, versions)


def generate(kind: Kind, values: dict[str, object], *more: str) -> None:
    """Stamp out the experiment folder if there is none."""
    if not RunFolder.locate(kind, "demo").config.is_file():
        run(f"experiments/generate_{kind}_experiment.py", "demo", *more, *settings(values))


def test_scores(metrics_csv: Path) -> dict[str, float]:
    """Return accuracy and macro-F1 of the last test row of a metrics file."""
    with metrics_csv.open(encoding="utf-8", newline="") as file:
        row = [row for row in csv.DictReader(file) if row["split"] == "test"][-1]
    return {name: float(row[name]) for name in ("accuracy", "f1_macro")}


def baselines() -> dict[str, dict[str, float]]:
    """Fit the majority class and TF-IDF + linear SVM on train; return their scores on test."""
    train, test = Store.open(STORE / "train"), Store.open(STORE / "test")
    scores = baseline_metrics(
        labelled_texts(train), None, labelled_texts(test), num_labels=len(train.label_names or ())
    )
    return {"majority class": scores["majority"], "TF-IDF + linear SVM": scores["tfidf_svm_train"]}


def labelled_texts(store: Store) -> LabelledTexts:
    """Return a split as text."""
    assert store.labels is not None
    return LabelledTexts([store.text(index) for index in range(len(store))], store.labels)


def show(scores: dict[str, dict[str, float]]) -> None:
    """Print the table, where the files lie, and what to type next."""
    table = Table(title="Which library does this documentation belong to? (test split)")
    table.add_column("model")
    table.add_column("accuracy", justify="right")
    table.add_column("macro-F1", justify="right")
    for name, values in scores.items():
        table.add_row(name, f"{values['accuracy']:.1%}", f"{values['f1_macro']:.1%}")
    console = Console(width=100)
    console.print(table)
    print(NEXT)


def main(argv: Sequence[str] = ()) -> int:
    """Run the demo; returns the exit code."""
    parser = CommandParser(
        prog="experiments/demo.py",
        description="Pretrain and finetune a classifier on the documentation inside the installed libraries, "
        "by the commands that a user would type. A second run goes on where the first one stopped.",
    )
    return run_command(parser, argv, _demo)


def _demo(_: argparse.Namespace) -> None:
    prepare_data()
    generate("pretraining", PRETRAINING)
    run("pretrain.py", "demo")
    generate("finetuning", FINETUNING, "demo")
    run("finetune.py", "demo")
    model = test_scores(RunFolder.locate("finetuning", "demo").eval_metrics)
    show({**baselines(), "this model, pretrained and finetuned from scratch": model})


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
