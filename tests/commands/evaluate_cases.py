"""What ``textclf evaluate`` and ``textclf predict`` say of a run, as Python has it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from textclf_transformer.commands import evaluate, predict

NAMES = ["garden", "harbour", "kitchen"]
ROWS = {
    "this model",
    "majority",
    "TF-IDF + linear SVM",
    "TF-IDF + linear SVM, train + val",
    "this model, first chunk only",
    "this model, first + last chunk",
}


def result_of(*arguments: str) -> dict[str, Any]:
    assert evaluate.main([*arguments, "--json", "out.json", "--quiet"]) == 0
    result: dict[str, Any] = json.loads(Path("out.json").read_text(encoding="utf-8"))
    return result


def predictions_on(path: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True and predicted labels and probabilities of a file, as ``textclf predict`` gives them."""
    assert predict.main(["ft", path, "--out", "predictions.csv"]) == 0
    with Path("predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    probs = np.array([[float(row[f"prob_{name}"]) for name in NAMES] for row in rows])
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    labels = np.array([NAMES.index(json.loads(line)["label"]) for line in lines])
    return labels, np.array([NAMES.index(row["label"]) for row in rows]), probs
