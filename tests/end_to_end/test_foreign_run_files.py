"""Files of a run that are whole but not as we write them: edited, foreign, or of an older version."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from end_to_end.conftest import Checkout
from end_to_end.failing import fails

import finetune
import textclf_transformer.commands.pretrained
from textclf_transformer.commands import compare, export, predict, report
from textclf_transformer.training.checkpoint import load_checkpoint, save_checkpoint


def folder_of(checkout: Checkout, kind: str = "finetuning", name: str = "ft") -> Path:
    return checkout.root / "experiments" / kind / name


def changed(content: Any, path: tuple[str, ...], value: object) -> Any:
    """A copy of a checkpoint with another value at a place; an ellipsis takes it out."""
    if not path:
        return value
    name, *rest = path
    if value is ... and not rest:
        return {key: entry for key, entry in content.items() if key != name}
    return {**content, name: changed(content.get(name), tuple(rest), value)}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("labels",), [], "best.ckpt: labels; found a list"),
        (("tokenizer",), None, "best.ckpt: tokenizer; found None"),
        (("environment", "micro_batch_tokens"), 10**30, "environment.micro_batch_tokens"),
        (("config", "experiment"), 3, "config.experiment; found 3"),
        (("config", "experiment"), ..., "config lacks experiment"),
        (("config", "data", "val", "dataset_path"), 5, "config.data.val.dataset_path; found 5"),
        (("config", "chunking"), ..., "no model that this version can build"),
        (("config", "chunking", "max_chunks"), 0, "found 0 as max_chunks, expected greater than"),
        (("fingerprints", "data"), [1], "fingerprints.data; found a list"),
        (("step",), ..., "best.ckpt lacks step"),
        (("thresholds",), "all", "the thresholds of this checkpoint do not fit its labels"),
    ],
)
def test_no_part_of_a_checkpoint_ends_in_a_fault_of_ours(
    finetuned: Checkout,
    capsys: pytest.CaptureFixture[str],
    path: tuple[str, ...],
    value: object,
    words: str,
) -> None:
    best = folder_of(finetuned) / "best.ckpt"
    save_checkpoint(best, changed(load_checkpoint(best), path, value))
    code, line = fails(capsys, predict.main, "ft", "corpus.jsonl")
    assert code == 4 and words in line, line


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("optimizer",), [], "optimizer; found a list, expected a valid dictionary"),
        (("loop", "position"), "three", "loop.position; found 'three', expected a valid integer"),
        (("loop", "steps_per_epoch"), 0, "loop.steps_per_epoch; found 0"),
        (("metrics",), {"train": 7}, "metrics.eval; found nothing"),
        (("scaler",), 7, "scaler; found 7"),
        (("loop",), ..., "lacks loop"),
        (("architecture", "ffn_dim"), torch.ones(2), "architecture; found a dict, expected settings without"),
        (
            ("config", "training", "freeze"),
            [torch.ones(2)],
            "config; found a dict, expected settings without",
        ),
    ],
)
def test_a_resume_loses_nothing_to_a_foreign_state(
    finetuned: Checkout,
    capsys: pytest.CaptureFixture[str],
    path: tuple[str, ...],
    value: object,
    words: str,
) -> None:
    folder = folder_of(finetuned)
    (folder / "model.ckpt.prev").unlink(missing_ok=True)
    save_checkpoint(folder / "model.ckpt", changed(load_checkpoint(folder / "model.ckpt"), path, value))
    before = {file: file.read_bytes() for file in folder.glob("*.ckpt")}
    code, line = fails(capsys, finetune.main, "ft", "--set", "training.epochs=20")
    assert code == 4 and words in line, line
    assert {file: file.read_bytes() for file in folder.glob("*.ckpt")} == before


def test_an_optimizers_moment_without_a_shape_is_refused(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder_of(finetuned) / "model.ckpt"
    content = load_checkpoint(path)
    name = next(iter(content["optimizer"]))
    save_checkpoint(path, changed(content, ("optimizer", name, "exp_avg"), torch.tensor(0.0)))
    code, line = fails(capsys, finetune.main, "ft")
    assert code == 4 and f"the optimizer's exp_avg of {name} has another shape; {path}; found" in line
    assert line.endswith("take another checkpoint of the run")


@pytest.mark.parametrize("part", ["model", "optimizer"])
def test_a_state_of_another_model_is_named_by_its_file(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    """The file may be the one before the last."""
    folder = folder_of(finetuned)
    content = load_checkpoint(folder / "model.ckpt")
    (folder / "model.ckpt").unlink()
    name = next(iter(content["optimizer"]))
    save_checkpoint(folder / "model.ckpt.prev", changed(content, (part, name), ...))
    code, line = fails(capsys, finetune.main, "ft", "--set", "training.epochs=20")
    assert code == 4 and str(folder / "model.ckpt.prev") in line


@pytest.mark.parametrize("test", [[1], {"accuracy": "good"}, "done"])
def test_results_that_are_none_are_made_anew(finetuned: Checkout, test: object) -> None:
    path = folder_of(finetuned) / "run.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, "test": test}), encoding="utf-8")
    finetuned.run(finetune.main, "ft", "--set", "training.epochs=20", "--quiet")
    assert json.loads(path.read_text(encoding="utf-8"))["test"] == content["test"]


def test_the_run_of_an_older_version_is_exported(finetuned: Checkout) -> None:
    """Whether weights are loaded could not be chosen then: they were."""
    best = folder_of(finetuned) / "best.ckpt"
    content = load_checkpoint(best)
    older = changed(content, ("config", "pretrained_experiment", "load_weights"), ...)
    save_checkpoint(best, changed(older, ("config", "training", "best_metric"), ...))
    finetuned.run(export.main, "ft", "out")
    assert "The encoder started from the pretraining run" in Path("out/README.md").read_text(encoding="utf-8")


def test_a_finetuning_builds_no_encoder_larger_than_its_tensors(
    pretrained: Checkout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrained.finetuning("x", "pre")
    best = folder_of(pretrained, "pretraining", "pre") / "best.ckpt"
    save_checkpoint(best, changed(load_checkpoint(best), ("architecture", "num_layers"), 1000))
    built: list[torch.device] = []
    build = textclf_transformer.commands.pretrained.build_encoder

    def watching(*args: Any, **kwargs: Any) -> Any:
        encoder = build(*args, **kwargs)
        built.append(next(encoder.parameters()).device)
        return encoder

    monkeypatch.setattr(textclf_transformer.commands.pretrained, "build_encoder", watching)
    code, line = fails(capsys, finetune.main, "x")
    assert code == 4 and "the weights do not fit the model" in line and str(best) in line
    assert built == [torch.device("meta")]


def test_an_export_builds_no_model_larger_than_its_tensors(
    pretrained: Checkout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    best = folder_of(pretrained, "pretraining", "pre") / "best.ckpt"
    save_checkpoint(best, changed(load_checkpoint(best), ("architecture", "num_layers"), 1000))
    built: list[torch.device] = []
    build = export.build_masked_lm

    def watching(*args: Any, **kwargs: Any) -> Any:
        model = build(*args, **kwargs)
        built.append(next(model.parameters()).device)
        return model

    monkeypatch.setattr(export, "build_masked_lm", watching)
    code, line = fails(capsys, export.main, "pre", "out")
    assert code == 4 and "the weights do not fit the model" in line
    assert built == [torch.device("meta")]


def test_a_config_whose_tokenizer_is_no_section_is_a_note(
    pretrained: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(pretrained, "pretraining", "pre")
    (folder / "config.resolved.yaml").write_text("tokenizer: letters\n", encoding="utf-8")
    assert report.main([f"{folder}/"]) == 0
    assert "left out of the report: unknown tokenizer; found 'letters'" in capsys.readouterr().err


def test_metrics_without_a_loss_are_no_results(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder_of(finetuned), folder_of(finetuned, name="ft2"))
    path = folder_of(finetuned, name="ft2") / "metrics" / "eval" / "metrics.csv"
    path.write_text("step,split,score\n1,val,0.5\n", encoding="utf-8")
    assert compare.main(["ft", "ft2", "--no-predictions"]) == 0
    assert "val f1_macro" in capsys.readouterr().out


def test_a_config_that_names_no_file_for_metrics_means_the_usual_one(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder_of(finetuned) / "config.resolved.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("metrics/train/metrics.csv", '"a\\0.csv"'), encoding="utf-8")
    shutil.copytree(folder_of(finetuned), folder_of(finetuned, name="ft2"))
    assert compare.main(["ft", "ft2", "--no-predictions"]) == 0
    assert "train loss" not in capsys.readouterr().err


@pytest.mark.parametrize("value", ["1e308", "-1.7e308"])
def test_metrics_that_no_training_writes_are_none(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    """Sums of them, and the span of an axis from one to the other, fit into no number."""
    shutil.copytree(folder_of(finetuned), folder_of(finetuned, name="ft2"))
    for name, other in (("ft", value), ("ft2", value), ("ft2", "-1e308")):
        path = folder_of(finetuned, name=name) / "metrics" / "eval" / "metrics.csv"
        path.write_text(f"step,split,loss\n1,val,{value}\n2,val,{other}\n1,test,{value}\n", encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert compare.main(["ft", "ft2", "--no-predictions", "--html", "page.html"]) == 0
        assert report.main(["ft2"]) == 0
    assert value not in capsys.readouterr().out
