"""What a user can get wrong around the training commands: one line, the right exit code, nothing lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from end_to_end.conftest import Checkout

import finetune
import pretrain
from textclf_transformer.commands import export
from textclf_transformer.training.checkpoint import load_checkpoint, save_checkpoint
from textclf_transformer.training.checkpointer import Checkpointer

Main = Callable[[Sequence[str]], int]


def fails(capsys: pytest.CaptureFixture[str], main: Main, *arguments: str) -> tuple[int, str]:
    """Return exit code and the error line of a command that must fail."""
    capsys.readouterr()
    code = main(list(arguments))
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) >= 1
    assert not any("fault of ours" in line for line in errors), errors
    return code, "\n".join(errors)


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


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


def test_resume_never_and_overwrite(pretrained: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    folder = pretrained.root / "experiments" / "pretraining" / "pre"
    before = snapshot(folder)
    code, line = fails(capsys, pretrain.main, "pre", "--resume", "never")
    assert code == 4
    assert "--overwrite" in line
    assert snapshot(folder) == before
    pretrained.run(pretrain.main, "pre", "--resume", "never", "--overwrite", "--quiet")


def test_overwrite_deletes_nothing_before_all_is_found(
    pretrained: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pretrained.root / "experiments" / "pretraining" / "pre"
    (folder / "notes.md").write_text("mine", encoding="utf-8")
    before = snapshot(folder)
    for wrong in ("data.train.dataset_path=nowhere", "tokenizer.vocab_dir=nowhere"):
        fails(capsys, pretrain.main, "pre", "--overwrite", "--set", wrong)
        assert snapshot(folder) == before
    capsys.readouterr()
    pretrained.run(pretrain.main, "pre", "--overwrite", "--quiet")
    assert "--overwrite leaves what the run did not write: notes.md" in capsys.readouterr().err
    assert (folder / "notes.md").exists()


def test_overwrite_begins_logs_anew_wherever_they_lie(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    csvs = {"train": "logs/train.csv", "eval": "eval.csv"}
    named = [part for kind, csv in csvs.items() for part in ("--set", f"logging.{kind}_csv={csv}")]
    folder = checkout.pretraining("pre", *named, "--set", "training.epochs=1")
    for flags in ([], ["--overwrite"]):
        checkout.run(pretrain.main, "pre", "--quiet", *flags)
        steps = [line.split(",")[0] for line in (folder / "eval.csv").read_text().splitlines()]
        assert len(steps) == 2 and (folder / "logs" / "train.csv").exists()
    assert "leaves" not in capsys.readouterr().err


def test_best_weights_of_a_finished_run_are_not_replaced_unasked(
    pretrained: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pretrained.root / "experiments" / "pretraining" / "pre"
    for name in ("model.ckpt", "model.ckpt.prev"):  # to save space: the best is what counts
        (folder / name).unlink(missing_ok=True)
    before = snapshot(folder)
    code, line = fails(capsys, pretrain.main, "pre")
    assert code == 4
    assert "best.ckpt without model.ckpt" in line and "--overwrite" in line
    assert snapshot(folder) == before
    pretrained.run(pretrain.main, "pre", "--overwrite", "--quiet")


def test_best_weights_of_an_unfinished_run_are_set_aside_when_it_begins_anew(
    checkout: Checkout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between the first best and the first save leaves nothing to go on from."""
    folder = checkout.pretraining("pre", "--set", "training.num_threads=1")
    best, kept = folder / "best.ckpt", folder / "best.ckpt.prev"
    save_best = Checkpointer.save_best

    def killed(self: Checkpointer, state: Mapping[str, Any]) -> None:
        save_best(self, state)
        raise SystemExit(137)

    other = ["--set", "training.learning_rate=1e-3"]
    found = []
    for flags, words in (
        (other, ""),
        ([], f"begins anew; the weights are kept in {kept}"),
        ([], f"replaces it; an earlier one stays in {kept}"),
    ):
        with monkeypatch.context() as patch, pytest.raises(SystemExit):
            patch.setattr(Checkpointer, "save_best", killed)
            pretrain.main(["pre", "--quiet", *flags])
        assert words in capsys.readouterr().err
        assert not (folder / "model.ckpt").exists()
        found.append(load_checkpoint(best)["model"])
        if words:
            assert_equal(load_checkpoint(kept)["model"], found[0])
    checkout.run(pretrain.main, "pre", "--quiet")
    assert_equal(load_checkpoint(kept)["model"], found[0])
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Checkpointer, "save_best", killed)
        pretrain.main(["pre", "--quiet", "--overwrite"])
    assert not kept.exists() and "leaves what the run did not write" not in capsys.readouterr().err
    checkout.run(pretrain.main, "pre", "--quiet")
    assert not kept.exists() and "are kept in" in capsys.readouterr().err  # until the same bits were there


def assert_equal(first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_best_that_is_gone_does_not_keep_a_run_from_its_end(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finetuned.root / "experiments" / "finetuning" / "ft"
    (folder / "best.ckpt").unlink()
    changes = [
        "training.epochs=21",
        "training.learning_rate=1e-9",
    ]  # no evaluation is better than the lost one
    flags = [
        part for change in changes for part in ("--set", change, "--allow-changed", change.split("=")[0])
    ]
    capsys.readouterr()
    finetuned.run(finetune.main, "ft", "--quiet", *flags)
    assert "is gone; the next evaluation finds others" in capsys.readouterr().err
    assert (folder / "best.ckpt").exists()
    assert json.loads((folder / "run.json").read_text(encoding="utf-8"))["status"] == "finished"


def test_a_best_of_another_metric_is_not_compared_with(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    """A loss above 1 would be the best macro-F1 for ever."""
    name = ["other"]
    finetuned.finetuning(*name, "pre", "--set", "training.epochs=1", "--set", "training.best_metric=loss")
    finetuned.run(finetune.main, *name, "--quiet")
    capsys.readouterr()
    changes = ["training.epochs=2", "training.best_metric=accuracy"]
    flags = [
        part for change in changes for part in ("--set", change, "--allow-changed", change.split("=")[0])
    ]
    finetuned.run(finetune.main, *name, *flags)
    assert "training.best_metric changed" in capsys.readouterr().err
    report = json.loads((finetuned.root / "experiments/finetuning/other/run.json").read_text("utf-8"))
    assert report["best"]["step"] == report["step"]
    assert 0 <= report["best"]["accuracy"] <= 1


def test_a_finetuning_outlives_a_pretraining_that_goes_on(
    pretrained: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checkpoint has all weights, so only a word is needed: perhaps the new ones were meant."""
    pretrained.finetuning("ft", "pre", "--set", "training.epochs=1")
    pretrained.run(finetune.main, "ft", "--quiet")
    more = ["--set", "training.epochs=3", "--allow-changed", "training.epochs"]
    pretrained.run(pretrain.main, "pre", "--quiet", *more)
    code, line = fails(capsys, finetune.main, "ft", *more)
    assert code == 4
    assert "add --allow-changed fingerprints.pretrained" in line
    pretrained.run(finetune.main, "ft", *more, "--allow-changed", "fingerprints.pretrained")
    assert "this run goes on with its own" in capsys.readouterr().err


def test_a_lost_config_can_be_had_from_the_resolved_one(
    pretrained: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pretrained.root / "experiments" / "pretraining" / "pre"
    (folder / "config.yaml").unlink()
    code, line = fails(capsys, pretrain.main, "pre")
    assert code == 2
    assert "config.resolved.yaml" in line and "generate_" not in line  # whose --overwrite deletes the run
    shutil.copy(folder / "config.resolved.yaml", folder / "config.yaml")
    pretrained.run(pretrain.main, "pre")
    assert "nothing left to do" in capsys.readouterr().err


def test_changed_architecture_is_refused(pretrained: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    folder = pretrained.root / "experiments" / "pretraining" / "pre"
    before = snapshot(folder)
    code, line = fails(capsys, pretrain.main, "pre", "--set", "architecture.num_layers=1")
    assert code == 4
    assert "architecture.num_layers" in line
    assert snapshot(folder) == before


def test_more_epochs_need_the_flag(pretrained: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = fails(capsys, pretrain.main, "pre", "--set", "training.epochs=3")
    assert code == 4
    assert "--allow-changed training.epochs" in line
    pretrained.run(
        pretrain.main, "pre", "--quiet", "--set", "training.epochs=3", "--allow-changed", "training.epochs"
    )


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


def test_damaged_checkpoint_falls_back(pretrained: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    folder = pretrained.root / "experiments" / "pretraining" / "pre"
    shutil.copy(folder / "model.ckpt", folder / "model.ckpt.prev")
    content = bytearray((folder / "model.ckpt").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (folder / "model.ckpt").write_bytes(bytes(content))
    capsys.readouterr()
    pretrained.run(pretrain.main, "pre", "--quiet")
    assert "model.ckpt.prev" in capsys.readouterr().err


def test_run_in_use(pretrained: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    from textclf_transformer.experiment import RunFolder, RunLock

    with RunLock(RunFolder.locate("pretraining", "pre")):
        code, line = fails(capsys, pretrain.main, "pre")
    assert code == 7
    assert "process" in line


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
