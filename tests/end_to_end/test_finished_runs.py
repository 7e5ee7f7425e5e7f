"""The end of a run: its results stand, and a stop in its last moments loses nothing and repeats nothing."""

from __future__ import annotations

import csv
import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from end_to_end.conftest import Checkout

import finetune
import pretrain
from textclf_transformer.commands import finetuning_task
from textclf_transformer.data.store import Store
from textclf_transformer.evaluation.loaded_run import load_run
from textclf_transformer.training import checkpointer
from textclf_transformer.training.checkpoint import load_checkpoint, save_checkpoint

SHORT = ("--set", "training.epochs=1")


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics/eval/metrics.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def report(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return content


def assert_complete(folder: Path) -> None:
    counts = Counter((row["split"], row["step"]) for row in rows(folder))
    assert set(counts.values()) == {1}
    (row,) = [row for row in rows(folder) if row["split"] == "test"]
    assert report(folder)["status"] == "finished"
    assert {name: float(row[name]) for name in ("loss", "accuracy", "f1_macro")} == report(folder)["test"]


def test_finished_run_shows_its_results_and_does_nothing(
    pretrained: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pretrained.finetuning("ft", "pre", *SHORT)
    handed: list[Any] = []
    monkeypatch.setattr(
        finetune, "report_after_training", lambda context, test_logits: handed.append(test_logits)
    )
    pretrained.run(finetune.main, "ft", "--quiet")
    run, store = load_run("ft"), Store.open(Path("store/test"))
    assert np.array_equal(handed[0], run.logits(run.batches(store)))
    first = [line for line in capsys.readouterr().out.splitlines() if line.startswith("test ")]
    assert [line.split()[1] for line in first[1:]] == ["loss", "accuracy", "f1_macro"]
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}
    monkeypatch.setattr(
        finetuning_task, "evaluate_documents", lambda *args, **more: pytest.fail("evaluated again")
    )
    pretrained.run(finetune.main, "ft", "--quiet")
    after = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}
    lock = folder / ".lock"
    assert {p: entry for p, entry in before.items() if p != lock} == {
        p: entry for p, entry in after.items() if p != lock
    }
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("test ")] == first


def test_stop_during_the_test_evaluation(pretrained: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pretrained.finetuning(
        "ft", "pre", *SHORT, "--set", "data.val=null"
    )  # so test is all it evaluates
    evaluate = finetuning_task.evaluate_documents

    def stopped(*args: Any, **more: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return evaluate(*args, **more)

    monkeypatch.setattr(finetuning_task, "evaluate_documents", stopped)
    with pytest.raises(SystemExit) as leaving:
        finetune.main(["ft", "--quiet"])
    assert leaving.value.code == 143
    assert report(folder)["status"] == "running"
    assert [row for row in rows(folder) if row["split"] == "test"] == []
    monkeypatch.setattr(finetuning_task, "evaluate_documents", evaluate)
    pretrained.run(finetune.main, "ft", "--quiet")
    assert_complete(folder)


def test_stop_during_the_last_save(pretrained: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pretrained.finetuning("ft", "pre", *SHORT)
    save = checkpointer.save_checkpoint

    def stopped(path: Path, state: Any, **more: Any) -> None:
        if state.get("loop", {}).get("finished"):
            signal.raise_signal(signal.SIGINT)
        save(path, state, **more)

    monkeypatch.setattr(checkpointer, "save_checkpoint", stopped)
    with pytest.raises(SystemExit) as leaving:
        finetune.main(["ft", "--quiet"])
    assert leaving.value.code == 130
    checkpoint = (folder / "model.ckpt").read_bytes()
    pretrained.run(finetune.main, "ft", "--quiet")
    assert (folder / "model.ckpt").read_bytes() == checkpoint
    assert_complete(folder)


def test_other_test_data_replace_the_results(
    pretrained: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pretrained.finetuning("ft", "pre", *SHORT)
    pretrained.run(finetune.main, "ft", "--quiet")
    first = report(folder)
    other = ("--set", f"data.test.dataset_path={pretrained.root / 'store' / 'train'}")
    assert finetune.main(["ft", *other]) == 4
    assert report(folder) == first
    pretrained.run(finetune.main, "ft", *other, "--allow-changed", "fingerprints.data.test", "--quiet")
    assert report(folder)["test"] != first["test"]
    assert report(folder)["started"] == first["started"]
    assert_complete(folder)
    second, log = report(folder), (folder / "metrics/eval/metrics.csv").read_bytes()
    capsys.readouterr()
    pretrained.run(finetune.main, "ft", *other)  # allowed once, it is this run's from then on
    assert "nothing left to do" in capsys.readouterr().err
    assert (report(folder), (folder / "metrics/eval/metrics.csv").read_bytes()) == (second, log)
    load_run("ft")


def test_a_key_that_an_older_version_did_not_know_is_at_its_default(
    pretrained: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pretrained.finetuning("ft", "pre", *SHORT)
    pretrained.run(finetune.main, "ft", "--quiet")
    content = load_checkpoint(folder / "model.ckpt")
    assert content["architecture"].pop("layer_norm_eps") == 1e-5
    assert content["config"]["training"].pop("early_stopping_patience") is None
    save_checkpoint(folder / "model.ckpt", content)
    capsys.readouterr()
    pretrained.run(finetune.main, "ft")
    assert "nothing left to do" in capsys.readouterr().err


def test_a_longer_plan_is_not_finished_yet(pretrained: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pretrained.finetuning("ft", "pre", *SHORT)
    pretrained.run(finetune.main, "ft", "--quiet")
    steps = report(folder)["step"]
    longer = ("--set", "training.epochs=2", "--allow-changed", "training.epochs", "--quiet")
    pretrained.run(finetune.main, "ft", *longer)
    assert report(folder)["step"] == 2 * steps == int(max(int(row["step"]) for row in rows(folder)))
    assert_complete(folder)


def test_a_split_without_targets_has_no_loss(checkout: Checkout) -> None:
    test = ("--set", f"data.test.dataset_path={checkout.root / 'store' / 'test'}")
    folder = checkout.pretraining("none", *SHORT, *test, "--set", "mlm_head.mask_p=1e-9")
    for _ in range(2):
        checkout.run(pretrain.main, "none", "--quiet")
        assert report(folder)["test"] == {"loss": None, "perplexity": None}


def test_a_lost_row_of_results_is_made_again(pretrained: Checkout) -> None:
    folder = pretrained.finetuning("ft", "pre", *SHORT)
    pretrained.run(finetune.main, "ft", "--quiet")
    log = folder / "metrics/eval/metrics.csv"
    whole = log.read_bytes()
    log.write_bytes(whole[: whole.rstrip().rfind(b"\n") + 1])
    pretrained.run(finetune.main, "ft", "--quiet")
    assert log.read_bytes() == whole
    assert_complete(folder)
