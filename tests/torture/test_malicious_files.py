"""Opening a file never runs code from it and takes no memory it does not fill.

Each file goes the way that a user would send it: through a command. A canary tells whether code ran, and a
control shows that it would have, had the reader been careless.
"""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from pathlib import Path

import pytest
import torch
from end_to_end.conftest import Checkout
from torture import hostile
from torture.refusals import refused

import finetune
import pretrain
from experiments import generate_finetuning_experiment
from textclf_transformer.commands import evaluate, predict, prepare
from textclf_transformer.errors import UserError
from textclf_transformer.safe_load import safe_load
from textclf_transformer.training.checkpoint import load_checkpoint, save_checkpoint

EVIL = """
from pathlib import Path
Path({canary!r}).touch()
from textclf_transformer.tokenizer.wordpiece_tokenizer_wrapper import WordPieceTokenizerWrapper as Evil
"""


@pytest.mark.filterwarnings("ignore:Duplicate name", "ignore:.torch.jit")
def test_no_pickle_runs(tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = hostile.hostile_files(tmp_path, canary)
    assert len(files) >= 21
    for variable in ("0", "1"):
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", variable)
        for name, path in files.items():
            with pytest.raises(UserError) as caught:
                safe_load(path)
            assert path.name in str(caught.value), name
            assert not canary.exists(), name
    assert "canary_module" not in sys.modules


@pytest.mark.filterwarnings("ignore:Duplicate name", "ignore:.torch.jit")
def test_a_careless_reader_would_have_run_them(tmp_path: Path, canary: Path) -> None:
    files = hostile.hostile_files(tmp_path, canary)
    assert files.keys() > hostile.SILENT
    for name, path in files.items():
        if name in hostile.SILENT:
            continue
        if path.read_bytes()[:2] == b"PK" or name == "torch's old format":
            try:
                torch.load(path, weights_only=False)
            except AssertionError:  # torch 2.10 stops at a size before it comes to the call
                assert name == "in the state of a class that may be read"
                continue
        else:
            pickle.loads(path.read_bytes())  # what the warning is about
        assert canary.exists(), name
        canary.unlink()


def test_torch_alone_would_take_the_memory(tmp_path: Path, canary: Path) -> None:
    """What zipfile finds in these files is harmless; what torch finds makes a file of 1 kB take 50 MB."""
    for name, path in hostile.two_faced_files(tmp_path).items():
        assert path.stat().st_size < 2000, name
        assert len(torch.load(path, weights_only=True)) == hostile.MUCH, name


def test_no_command_runs_what_lies_in_its_files(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str], canary: Path, tmp_path: Path
) -> None:
    evil = tmp_path / "evil.pt"
    torch.save({"model": hostile.payloads(canary)["os.system"]}, evil)
    runs = finetuned.root / "experiments"
    refused(capsys, 3, "evil.pt", pretrain.main, "pre", "--set", f"data.train.dataset_path={evil}")
    shutil.copy(evil, runs / "finetuning" / "ft" / "best.ckpt")
    refused(capsys, 4, "best.ckpt", evaluate.main, "ft")
    refused(capsys, 4, "best.ckpt", predict.main, "ft", "corpus.jsonl")
    finetuned.finetuning("again", "pre")
    for name in ("model.ckpt", "model.ckpt.prev", "best.ckpt"):
        shutil.copy(evil, runs / "pretraining" / "pre" / name)
    refused(capsys, 4, "model.ckpt.prev", pretrain.main, "pre")
    refused(capsys, 4, "best.ckpt", finetune.main, "again")
    refused(capsys, 4, "evil.pt", finetune.main, "again", "--set", f"pretrained_experiment.checkpoint={evil}")
    published = tmp_path / "published"
    published.mkdir()
    shutil.copytree(finetuned.root / "tokenizer", published, dirs_exist_ok=True)
    shutil.copy(evil, published / "pytorch_model.bin")
    config = {"model_type": "roberta", "auto_map": {"AutoModel": "modeling_evil.Evil"}, "vocab_size": 200}
    (published / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (published / "modeling_evil.py").write_text(EVIL.format(canary=str(canary)), encoding="utf-8")
    refused(
        capsys,
        4,
        str(published),
        generate_finetuning_experiment.main,
        "fromhf",
        "--from-hf",
        published,
        "--set",
        f"data.train.dataset_path={finetuned.root / 'store' / 'train'}",
    )
    assert not canary.exists()


def test_no_string_is_imported_without_consent_on_the_command_line(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str], canary: Path
) -> None:
    code = EVIL.format(canary=str(canary))
    (finetuned.root / "evil.py").write_text(code, encoding="utf-8")
    (finetuned.root / "textclf_transformer").mkdir()
    (finetuned.root / "textclf_transformer" / "evil.py").write_text(code, encoding="utf-8")
    checkout = finetuned.root / "experiments"
    names = [
        "evil.py:Evil",
        f"{finetuned.root / 'evil.py'}:Evil",
        "./evil.py:Evil",
        "evil:Evil",
        "textclf_transformer/../evil.py:Evil",
        "textclf_transformer/evil.py:Evil",
        "textclf_transformer.evil:Evil",
        "textclf_transformer.utils:Path",
        "textclf_transformer.tokenizer.base:Tokenizer",
        "textclf_transformer.commands.common:CommandParser",
        "os:system",
        "builtins:eval",
        "logging.os:system",
    ]
    fine = checkout / "finetuning" / "ft" / "best.ckpt"
    pre = checkout / "pretraining" / "pre" / "best.ckpt"
    good = {path: load_checkpoint(path) for path in (fine, pre)}
    finetuned.finetuning("again", "pre")
    for name in names:
        refused(capsys, 2, "", pretrain.main, "pre", "--set", f"tokenizer.wrapper_path={name}")
        for path, main, arguments in (
            (fine, predict.main, ["ft", "corpus.jsonl"]),
            (pre, finetune.main, ["again"]),
        ):
            facts = {**good[path]["tokenizer"], "wrapper_path": name}
            save_checkpoint(path, {**good[path], "tokenizer": facts})
            refused(capsys, 2, "", main, *arguments)
        assert not canary.exists(), name
    # a consent that is written down is none: neither in the config nor in the checkpoint
    facts = {**good[fine]["tokenizer"], "wrapper_path": f"{finetuned.root / 'evil.py'}:Evil"}
    save_checkpoint(fine, {**good[fine], "tokenizer": facts, "trust_code": True})
    refused(capsys, 2, "--trust-code", predict.main, "ft", "corpus.jsonl")
    refused(capsys, 2, "trust_code", pretrain.main, "pre", "--set", "tokenizer.trust_code=true")
    assert not canary.exists()
    # the control: with consent it runs
    assert predict.main(["ft", "corpus.jsonl", "--trust-code"]) == 0
    assert canary.exists()


def test_bombs_are_refused_before_they_take_memory(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = finetuned.root
    hostile.write_zip_bomb(tmp_path / "zipbomb.pt")
    hostile.write_expanded_tensor(tmp_path / "expanded.pt")
    hostile.write_gzip_bomb(tmp_path / "bomb.jsonl.gz", megabytes=60)
    (tmp_path / "deep.jsonl").write_text('{"text": ' + "[" * 200_000 + "\n", encoding="utf-8")
    monkeypatch.setattr("textclf_transformer.data.text_files.MAX_LINE_BYTES", 1 << 20)
    header = json.loads((root / "store" / "train" / "header.json").read_text(encoding="utf-8"))
    shutil.copytree(root / "store" / "train", tmp_path / "claims")
    claims = {**header, "documents": 10**15, "tokens": 10**15, "header_checksum": 0}
    (tmp_path / "claims" / "header.json").write_text(json.dumps(claims), encoding="utf-8")
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text("[" * 500_000, encoding="utf-8")
    config = root / "experiments" / "pretraining" / "pre" / "config.yaml"
    text = config.read_text(encoding="utf-8")
    tokenizer = ["--tokenizer", root / "tokenizer"]
    with hostile.little_memory(150 << 20):
        for name in ("zipbomb.pt", "expanded.pt"):
            place = f"data.train.dataset_path={tmp_path / name}"
            refused(capsys, 3, name, pretrain.main, "pre", "--set", place)
        place = f"data.train.dataset_path={tmp_path / 'claims'}"
        refused(capsys, 3, "header.json", pretrain.main, "pre", "--set", place)
        for name in ("bomb.jsonl.gz", "deep.jsonl"):
            refused(capsys, 3, name, prepare.main, tmp_path / name, "--out", tmp_path / "s", *tokenizer)
        place = f"tokenizer.vocab_dir={tmp_path / 'tokenizer'}"
        refused(capsys, 3, "tokenizer.json", pretrain.main, "pre", "--set", place)
        for bomb in (
            hostile.yaml_bomb(),
            "a: " + "[" * 100_000,
            "a: 1\n" * 1_000_000,
            "a: !!python/name:os.system x",
        ):
            config.write_text(bomb, encoding="utf-8")
            refused(capsys, 2, "config.yaml", pretrain.main, "pre")
    config.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("header_bytes", [None, 10**18, 100])
def test_weights_that_claim_more_than_they_hold_are_refused(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str], tmp_path: Path, header_bytes: int | None
) -> None:
    published = tmp_path / "published"
    shutil.copytree(finetuned.root / "tokenizer", published)
    config = {"model_type": "roberta", "hidden_size": 24, "num_attention_heads": 3, "vocab_size": 10**12}
    (published / "config.json").write_text(json.dumps(config), encoding="utf-8")
    hostile.write_safetensors_bomb(published / "model.safetensors", header_bytes=header_bytes)
    with hostile.little_memory():
        refused(capsys, 4, str(published), generate_finetuning_experiment.main, "x", "--from-hf", published)
