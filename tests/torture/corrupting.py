"""Damages files, reads them, and tells what came of it; a process of its own, so that a crash shows.

Run as a program with the folder that ``make_files`` filled, a seed, two counts and the names of files in the
folder; it prints a line of JSON before and one after each damage. A crash by a signal is then a process that
ends after the first of the two.
"""

from __future__ import annotations

import json
import random
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml

from textclf_transformer.config import config_to_dict, load_config
from textclf_transformer.config.generate import fill_template
from textclf_transformer.config.keys import fields_of
from textclf_transformer.config.reader import flatten
from textclf_transformer.data.opening import open_documents
from textclf_transformer.data.store import Store
from textclf_transformer.data.store_writer import write_store
from textclf_transformer.data.text_files import Document
from textclf_transformer.errors import UserError
from textclf_transformer.tokenizer.training import train_wordpiece
from textclf_transformer.tokenizer.wordpiece_tokenizer_wrapper import WordPieceTokenizerWrapper
from textclf_transformer.training.checkpoint import compute_digests, load_checkpoint, save_checkpoint
from textclf_transformer.training.run_tokenizer import load_run_tokenizer

MEMORY = 2 << 30  # bytes that reading may take beyond what the imports took

KIND = "pretraining"
WORDS = ["the", "a", "of", "and", "soil", "seed", "root", "leaf", "ship", "rope", "tide", "crane", "said"]


def make_files(root: Path) -> list[str]:
    """Fill ``root`` with one of each file that a user is handed; return their names."""
    draw = random.Random(1)
    texts = [" ".join(draw.choices(WORDS, k=draw.choice([5, 20, 60]))) for _ in range(12)]
    trained = WordPieceTokenizerWrapper.from_tokenizer(
        train_wordpiece(texts * 3, vocab_size=120, min_frequency=1, lowercase=True)
    )
    (root / "tokenizer").mkdir()
    trained.save(root / "tokenizer")
    documents = [
        Document(text, "law" if n % 2 else "art", f"doc-{n}", f"group-{n % 3}", f"in:{n}")
        for n, text in enumerate(texts)
    ]
    (root / "store").mkdir()
    write_store(
        root / "store",
        documents,
        tokenizer=trained,
        tokenizer_kind="wordpiece",
        keep_text=True,
        multi_label=False,
    )
    _save_tensors(root / "data.pt", trained)
    model = torch.nn.Sequential(torch.nn.Embedding(30, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 3))
    facts = {
        "wrapper_path": "wordpiece",
        "fingerprint": trained.fingerprint,
        "vocab_size": trained.vocab_size,
    }
    state = {
        "model": model.state_dict(),
        "optimizer": {"weight": {"step": torch.tensor(12), "exp_avg": torch.randn(30, 8)}},
        "loop": {"step": 12, "position": 12, "loss_sum": 1.25, "best_metric": None},
        "labels": ["law", "art"],
        "tokenizer": facts,
    }
    save_checkpoint(root / "model.ckpt", state)
    given = {
        "experiment.name": "damaged",
        "tokenizer.vocab_dir": str(root / "tokenizer"),
        "data.train.dataset_path": str(root / "store"),
    }
    (root / "config.yaml").write_text(fill_template(KIND, given, [])[0], encoding="utf-8")
    (root / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    store = [f"store/{path.name}" for path in sorted((root / "store").iterdir())]
    return ["model.ckpt", "data.pt", "config.yaml", "tokenizer/tokenizer.json", *store]


def _save_tensors(path: Path, tokenizer: WordPieceTokenizerWrapper) -> None:
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(5, tokenizer.vocab_size, (12, 20), generator=generator)
    padding = torch.zeros(12, 20, dtype=torch.bool)
    padding[::2, 15:] = True
    ids[padding] = tokenizer.pad_token_id
    labels = torch.arange(12) % 3
    torch.save({"input_ids": ids, "attention_mask": padding, "labels": labels}, path)


def read_checkpoint(root: Path) -> Any:
    """Read all of the checkpoint."""
    return compute_digests(load_checkpoint(root / "model.ckpt"))


def read_tensors(root: Path) -> Any:
    """Read all of the ``.pt`` file."""
    documents = open_documents(root / "data.pt", tokenizer=WordPieceTokenizerWrapper.load(root / "tokenizer"))
    assert documents.labels is not None
    return [documents.tokens(n).tolist() for n in range(len(documents))], documents.labels.tolist()


def read_config(root: Path) -> Any:
    """Read the config."""
    return config_to_dict(load_config(root / "config.yaml", KIND))


def read_tokenizer(root: Path) -> Any:
    """Read the tokenizer as a run does that knows which one it was trained with."""
    facts = json.loads((root / "facts.json").read_text(encoding="utf-8"))
    tokenizer = load_run_tokenizer(facts, root / "tokenizer", trust_code=False)
    return tokenizer.encode_batch(["the seed and a ship said that"])[0].ids


def read_store(root: Path) -> Any:
    """Read all that the store has, down to the last text."""
    store = open_documents(root / "store", tokenizer=WordPieceTokenizerWrapper.load(root / "tokenizer"))
    assert isinstance(store, Store)
    assert store.labels is not None
    documents = [
        [
            store.tokens(n).tolist(),
            store.text(n),
            store.offsets(n).tolist(),
            store.document_id(n),
            store.group(n),
        ]
        for n in range(len(store))
    ]
    return documents, store.labels.tolist(), store.header


def reader_of(name: str) -> Callable[[Path], Any]:
    """Return what reads the file called ``name``."""
    readers = {"model.ckpt": read_checkpoint, "data.pt": read_tensors, "config.yaml": read_config}
    return read_store if name.startswith("store/") else readers.get(name, read_tokenizer)


def damages(content: bytes, *, seed: int, truncations: int, flips: int) -> Iterator[tuple[str, bytes]]:
    """Yield truncations, the empty file and the last byte's loss among them, and single flipped bits."""
    for number in range(truncations):
        length = round(number / (truncations - 1) * (len(content) - 1))
        yield f"cut to {length} of {len(content)} bytes", content[:length]
    draw = random.Random(seed)
    for _ in range(flips):
        place, bit = draw.randrange(len(content)), draw.randrange(8)
        flipped = bytearray(content)
        flipped[place] ^= 1 << bit
        yield f"bit {bit} of byte {place} flipped", bytes(flipped)


def judge(root: Path, name: str, original: Any) -> tuple[str, str]:
    """Return the outcome of reading the damaged file, and what was said."""
    try:
        value = reader_of(name)(root)
    except UserError as error:
        text = "\n".join(error.lines)
        named = Path(name).name in text or (name.startswith("tokenizer/") and str(root / "tokenizer") in text)
        return "refused" if named else "refused without its name", text
    except BaseException as error:
        return "fault of ours", f"{type(error).__name__}: {error}"
    if value == original:
        return "the same", ""
    if name == "config.yaml" and is_as_written(root / name, value):
        return "as written", ""
    return "WRONG IN SILENCE", str(value)[:200]


def is_as_written(path: Path, config: dict[str, Any]) -> bool:
    """Whether each value is what a plain reading of the file gives, and a default where it says nothing.

    A config has no checksum, since people write it: one that was damaged into another valid config can only
    be read for what it says.
    """
    written = flatten(yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader))
    for key, value in flatten(config).items():
        if key not in written:
            if key in fields_of(KIND) and value not in (fields_of(KIND)[key].default, None):
                return False
        elif not _is_same(written[key], value):
            return False
    return True


def _is_same(text: Any, value: Any) -> bool:
    if isinstance(value, bool) or value is None:
        return str(text).lower() in {str(value).lower(), "null" if value is None else "", "~", ""}
    if isinstance(value, int | float):
        return float(text) == value
    return Path(str(text)) == Path(str(value))


def main() -> None:
    """Damage each of the named files in many ways, one after the other, and put it right at the end."""
    root = Path(sys.argv[1])
    seed, truncations, flips = map(int, sys.argv[2:5])
    torch.set_num_threads(1)
    originals = {name: reader_of(name)(root) for name in sys.argv[5:]}
    taken = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    for name, original in originals.items():
        path = root / name
        content = path.read_bytes()
        for damage, damaged in damages(content, seed=seed, truncations=truncations, flips=flips):
            print(json.dumps({"file": name, "damage": damage}), flush=True)
            path.write_bytes(damaged)
            outcome, said = judge(root, name, original)
            print(json.dumps({"outcome": outcome, "said": said}), flush=True)
        path.write_bytes(content)
        assert reader_of(name)(root) == original


if __name__ == "__main__":
    main()
