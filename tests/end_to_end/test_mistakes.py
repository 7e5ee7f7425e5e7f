"""What is asked of the training commands in vain: one line, the right exit code, before the first step."""

from __future__ import annotations

import json

import pytest
from end_to_end.conftest import Checkout
from end_to_end.failing import fails

import finetune
import pretrain
from textclf_transformer.commands import export
from textclf_transformer.training.checkpoint import load_checkpoint, save_checkpoint


def test_unknown_experiment(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = fails(capsys, pretrain.main, "nowhere")
    assert code == 2
    assert "generate_pretraining_experiment.py nowhere" in line


def test_name_that_leaves_the_folder(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    assert fails(capsys, pretrain.main, "../evil")[0] == 2


def test_all_config_faults_at_once(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    checkout.pretraining("pre")
    code, lines = fails(
        capsys, pretrain.main, "pre", "--set", "training.lerning_rate=1", "--set", "training.epochs=none"
    )
    assert code == 2
    assert "training.learning_rate" in lines
    assert "training.epochs" in lines


def test_missing_data(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    checkout.pretraining("pre")
    code, line = fails(capsys, pretrain.main, "pre", "--set", "data.train.dataset_path=absent")
    assert code == 3
    assert "data.train.dataset_path" in line


def test_other_tokenizer(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    from textclf_transformer.commands import train_tokenizer

    checkout.pretraining("pre")
    other = checkout.root / "other"
    checkout.run(train_tokenizer.main, checkout.root / "corpus.jsonl", "--out", other, "--vocab-size", 100)
    code, line = fails(capsys, pretrain.main, "pre", "--set", f"tokenizer.vocab_dir={other}")
    assert code == 3
    assert "vocabular" in line


def test_finetuning_without_checkpoint(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    checkout.pretraining("pre")
    checkout.finetuning("ft", "pre")
    code, line = fails(capsys, finetune.main, "ft")
    assert code == 4
    assert "pretrain.py pre" in line


def test_finetuning_from_a_swapped_tokenizer(
    pretrained: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrained.finetuning("ft", "pre")
    tokenizer = pretrained.root / "experiments" / "pretraining" / "pre" / "tokenizer" / "tokenizer.json"
    content = json.loads(tokenizer.read_text(encoding="utf-8"))
    words = content["model"]["vocab"]
    first, second = sorted(words, key=words.__getitem__)[-2:]
    words[first], words[second] = words[second], words[first]
    tokenizer.write_text(json.dumps(content), encoding="utf-8")
    code, line = fails(capsys, finetune.main, "ft")
    assert code == 4
    assert "tokenizer" in line


def test_unlabelled_data(pretrained: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    from textclf_transformer.commands import prepare

    plain = pretrained.root / "plain"
    arguments = [
        pretrained.root / "corpus.jsonl",
        "--out",
        plain,
        "--tokenizer",
        pretrained.root / "tokenizer",
    ]
    pretrained.run(prepare.main, *arguments, "--no-labels")
    pretrained.finetuning("ft", "pre")
    code, line = fails(capsys, finetune.main, "ft", "--set", f"data.train.dataset_path={plain}")
    assert code == 3
    assert "no labels" in line


@pytest.mark.parametrize("odd", ["train", "val", "test"])
def test_one_label_a_document_beside_several(
    pretrained: Checkout, capsys: pytest.CaptureFixture[str], odd: str
) -> None:
    """Val would be judged by another loss and another rule, without a word."""
    from textclf_transformer.commands import prepare

    flags = ["--out", "several", "--tokenizer", "tokenizer", "--split", "0.7/0.15/0.15", "--seed", "1"]
    pretrained.run(prepare.main, "corpus.jsonl", "--multi-label", *flags)
    pretrained.finetuning("ft", "pre")
    code, line = fails(capsys, finetune.main, "ft", "--set", f"data.{odd}.dataset_path=several/{odd}")
    assert code == 3
    assert "labelled in another way than those of train" in line
    assert f"data.{'val' if odd == 'train' else odd}.dataset_path" in line


def test_chunk_longer_than_positions(pretrained: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    pretrained.finetuning("ft", "pre")
    code, line = fails(capsys, finetune.main, "ft", "--set", "chunking.chunk_size=25")
    assert code == 2
    assert "chunking.chunk_size" in line


def test_number_of_labels(pretrained: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    pretrained.finetuning("ft", "pre")
    code, line = fails(capsys, finetune.main, "ft", "--set", "classification_head.num_labels=5")
    assert code == 2
    assert "garden" in line


def test_finetuning_from_a_finetuning_run(pretrained: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    folder = pretrained.finetuning("ft", "pre", "--set", "training.epochs=1")
    pretrained.run(finetune.main, "ft", "--quiet")
    pretrained.finetuning("again", "pre")
    code, line = fails(capsys, finetune.main, "again", "--set", f"pretrained_experiment.path={folder}")
    assert code == 4
    assert "finetuning run" in line


def test_a_checkpoint_of_another_version_is_named(
    pretrained: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that has a setting of the encoder which this version does not know."""
    path = pretrained.root / "experiments" / "pretraining" / "pre" / "best.ckpt"
    content = load_checkpoint(path)
    save_checkpoint(path, {**content, "architecture": {**content["architecture"], "rotary": True}})
    pretrained.finetuning("ft", "pre")
    for main, arguments in ((finetune.main, ["ft"]), (export.main, ["pre", "out", "--to", "hf"])):
        code, line = fails(capsys, main, *arguments)
        assert code == 4
        assert f"describes no model that this version can build; {path}" in line


def test_distributed_is_refused(
    checkout: Checkout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert fails(capsys, pretrain.main, "pre")[0] == 2


def test_absent_checkpoint_file(pretrained: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    pretrained.finetuning("ft", "pre")
    code, line = fails(capsys, finetune.main, "ft", "--set", "pretrained_experiment.checkpoint=no.ckpt")
    assert code == 4
    assert "no.ckpt" in line
    assert "best, last or a file" in line


def test_heads_over_chunks_that_do_not_divide(
    pretrained: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrained.finetuning("ft", "pre")
    heads = ["--set", "classification_head.attention_heads=5"]
    assert finetune.main(["ft", "--dry-run", *heads]) == 0  # the pooling has no heads
    code, line = fails(capsys, finetune.main, "ft", *heads, "--set", "classification_head.pooling=multihead")
    assert code == 2
    assert "classification_head.attention_heads" in line


def test_warnings_say_so_once(pretrained: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    folder = pretrained.root / "experiments" / "pretraining" / "pre"
    (folder / "metrics" / "train" / "metrics.csv").unlink()
    longer = ["--set", "training.epochs=3", "--allow-changed", "training.epochs", "--quiet"]
    capsys.readouterr()
    pretrained.run(pretrain.main, "pre", *longer)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: /") and "rows are missing" in line
