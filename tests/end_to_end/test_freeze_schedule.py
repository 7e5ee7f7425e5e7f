"""``training.freeze`` through the commands."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from end_to_end.conftest import Checkout

import finetune

PHASES = (
    "{from_epoch: 0, train: head, learning_rate: 1e-2}",
    "{from_epoch: 1, train: top_k, k: 1}",
    "{from_epoch: 2, train: all}",
)

EPOCHS = ("epoch 1", "epoch 2", "epochs 3 to 4")


def test_the_phases_train_what_they_say(pretrained: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    source = torch.load(pretrained.root / "experiments/pretraining/pre/best.ckpt", weights_only=True)["model"]
    moved: dict[int, set[str]] = {}
    for epochs in (1, 2, 3):
        name = f"ft{epochs}"
        freeze = f"training.freeze=[{', '.join(PHASES[:epochs])}]"
        settings = ("--set", f"training.epochs={epochs}", "--set", "logging.log_every=1", "--set", freeze)
        folder = pretrained.finetuning(name, "pre", *settings)
        capsys.readouterr()
        pretrained.run(finetune.main, name)
        assert "parameters: " in (said := capsys.readouterr().err)
        saved = torch.load(folder / "model.ckpt", weights_only=True)
        encoder = {name for name in saved["model"] if name.startswith("encoder.")}
        moved[epochs] = {name for name in encoder if not torch.equal(saved["model"][name], source[name])}
        head = sum(t.numel() for name, t in saved["model"].items() if name not in encoder)
        assert f"; trained {head:,}\n" in said  # in the first epoch
        report = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        whole = sum(tensor.numel() for tensor in saved["model"].values())
        assert (report["parameters"], report["trainable_parameters"]) == (whole, head)
        assert {name for name in saved["optimizer"] if name.startswith("encoder.")} == moved[epochs]
    assert not moved[1]
    assert moved[2] and all(name.startswith("encoder.layers.1.") for name in moved[2])
    assert moved[3] == encoder
    with (folder / "metrics" / "train" / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    assert max(rates[: len(rates) // 3]) > 2 * max(rates[len(rates) // 3 :])  # 1e-2, then 3e-3


@pytest.mark.parametrize(("then", "now"), [("null", PHASES[:1]), (f"[{PHASES[0]}]", PHASES[2:])])
def test_a_run_goes_on_with_another_schedule_if_that_is_allowed(
    pretrained: Checkout, capsys: pytest.CaptureFixture[str], then: str, now: tuple[str, ...]
) -> None:
    settings = ("--set", "training.epochs=1", "--set", f"training.freeze={then}")
    folder = pretrained.finetuning("ft", "pre", *settings)
    pretrained.run(finetune.main, "ft")
    before = torch.load(folder / "model.ckpt", weights_only=True)
    freeze = f"training.freeze=[{', '.join(now)}]".replace("from_epoch: 2", "from_epoch: 0")
    changed = ("--set", "training.epochs=2", "--set", freeze, "--allow-changed", "training.epochs")
    assert finetune.main(["ft", *changed]) == 4
    assert "--allow-changed training.freeze" in capsys.readouterr().err
    pretrained.run(finetune.main, "ft", *changed, "--allow-changed", "training.freeze")
    after = torch.load(folder / "model.ckpt", weights_only=True)
    trains_all = then != "null"
    assert any(name.startswith("encoder.") for name in after["optimizer"]) == trains_all
    word = "encoder.embeddings.word_embeddings.weight"
    assert torch.equal(after["model"][word], before["model"][word]) != trains_all
    updates = after["optimizer"]["classifier.output.weight"]["step"]
    assert updates == 2 * before["optimizer"]["classifier.output.weight"]["step"]  # the head's goes on


def test_dry_run_shows_each_phase_and_its_rates(
    pretrained: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrained.finetuning("ft", "pre", "--set", f"training.freeze=[{', '.join(PHASES)}]")
    capsys.readouterr()
    pretrained.run(finetune.main, "ft", "--dry-run", "--set", "training.layerwise_lr_decay=0.5")
    lines = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    counts = [
        int(lines[epochs].split()[2 if " to " not in epochs else 4].replace(",", "")) for epochs in EPOCHS
    ]
    assert counts == sorted(set(counts))
    assert lines["epoch 1"].endswith("learning rate 0.01")
    assert lines["epoch 2"].endswith("learning rate 0.003 in the head, down to 0.0015 in the lowest part")
    assert lines["epochs 3 to 4"].endswith(
        "learning rate 0.003 in the head, down to 0.000375 in the lowest part"
    )
    every = int(lines["parameters"].split()[1].replace(",", ""))
    assert counts[-1] == every


@pytest.mark.parametrize(
    "freeze",
    [
        "[{from_epoch: 1, train: head}]",
        "[{from_epoch: 0, train: head}, {from_epoch: 0, train: all}]",
        "[{from_epoch: 0, train: head}, {from_epoch: 9, train: all}]",
        "[{from_epoch: 0, train: top_k}]",
        "[{from_epoch: 0, train: head, k: 2}]",
        "[{from_epoch: 0, train: top_k, k: 3}]",
        "[{from_epoch: 0, train: tail}]",
        "[{from_epoch: 0}]",
        "[{from_epoch: 0, train: head, rate: 1}]",
        "head",
        "[]",
    ],
)
def test_a_schedule_that_cannot_be_is_refused(
    pretrained: Checkout, capsys: pytest.CaptureFixture[str], freeze: str
) -> None:
    pretrained.finetuning("ft", "pre")
    capsys.readouterr()
    assert finetune.main(["ft", "--set", f"training.freeze={freeze}"]) == 2
    assert "training.freeze" in capsys.readouterr().err
