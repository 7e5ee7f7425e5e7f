"""Files of documents, written and read, and two records that every format must give back as they are."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from textclf_transformer.data.corpus import Corpus
from textclf_transformer.data.text_files import Document


def write_jsonl(path: Path, records: list[Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8"))
    return path


def read(*inputs: Path, **options: Any) -> list[Document]:
    return list(Corpus(inputs, **options))


RECORDS = [
    {"text": "NA", "label": "no", "id": "007", "group": "g1"},
    {"text": "zwei\nZeilen, ein Komma; „Zitat“", "label": "NA", "id": "1e5", "group": "g2"},
]
EXPECTED = [("NA", "no", "007", "g1"), ("zwei\nZeilen, ein Komma; „Zitat“", "NA", "1e5", "g2")]


def fields(documents: list[Document]) -> list[tuple[Any, ...]]:
    return [(document.text, document.label, document.id, document.group) for document in documents]


def table(path: Path, delimiter: str) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["id", "label", "text", "group"], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(RECORDS)
    return path
