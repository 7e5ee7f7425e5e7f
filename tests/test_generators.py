"""The two generators of run folders."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from textclf_transformer import experiment
from textclf_transformer.config import generate, load_config
from textclf_transformer.config.template import template_path
from textclf_transformer.errors import ConfigError
from textclf_transformer.experiment import RunFolder, RunLock

Main = Callable[[Sequence[str]], int]


def load_main(name: str) -> Main:
    path = Path(__file__).resolve().parents[1] / "experiments" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    main: Main = module.main
    return main


pretraining = load_main("generate_pretraining_experiment")
finetuning = load_main("generate_finetuning_experiment")


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let run folders be made below a temporary folder; the templates stay the real ones."""
    monkeypatch.setattr(experiment, "CHECKOUT", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config_of(checkout: Path, kind: str, name: str) -> Path:
    return checkout / "experiments" / kind / name / "config.yaml"


def comments(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip().startswith("#")]


def test_pretraining_says_what_to_fill_in_and_what_comes_next(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretraining(["pre_v1"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert [line.split(":")[0] for line in out.splitlines()] == [
        f"wrote {Path('experiments/pretraining/pre_v1/config.yaml')}",
        "fill in tokenizer.vocab_dir",
        "fill in data.train.dataset_path",
        "then",
    ]
    assert out.endswith("then: python pretrain.py pre_v1\n")
    path = config_of(checkout, "pretraining", "pre_v1")
    with pytest.raises(ConfigError) as caught:
        load_config(path, "pretraining")
    assert ["still has to be filled in" in line for line in caught.value.lines] == [True, True]
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("<FILL IN>", "here"), encoding="utf-8")
    config = load_config(path, "pretraining")
    assert (config.experiment.name, str(config.tokenizer.vocab_dir)) == ("pre_v1", "here")


def test_set_is_written_into_the_file_and_comments_stay(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [
        "tokenizer.vocab_dir=vocab",
        "data.train.dataset_path=C:\\data set\\a",
        "data.val.dataset_path=it's",
        "training.learning_rate=1e-3",
        "training.epochs=3",
        "training.epochs=4",
        "logging.wandb_entity='no'",
    ]
    assert pretraining(["a", *(part for setting in settings for part in ("--set", setting))]) == 0
    assert capsys.readouterr().out.endswith("next: python pretrain.py a\n")
    path = config_of(checkout, "pretraining", "a")
    config = load_config(path, "pretraining")
    assert str(config.data.train.dataset_path) == "C:\\data set\\a"
    assert config.data.val is not None and str(config.data.val.dataset_path) == "it's"
    assert (config.training.learning_rate, config.training.epochs) == (1e-3, 4)
    assert config.logging.wandb_entity == "no"
    template = template_path("pretraining").read_text(encoding="utf-8")
    assert comments(path.read_text(encoding="utf-8")) == comments(template)


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ("training.epoch=3", "did you mean training.epochs?"),
        ("training.epochs=many", "an integer"),
        ("epochs", "KEY=VALUE"),
        ("training.epochs=[", "not YAML"),
        ("experiment.name=b", "follows from the command's arguments"),
        ("architecture.attention.num_heads=7", "multiple"),
        ("chunking.stride=3", "belongs to the config of finetuning"),
    ],
)
def test_a_wrong_set_is_refused_and_nothing_is_written(
    checkout: Path, setting: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretraining(["a", "--set", setting]) == 2
    err = capsys.readouterr().err
    assert word in err
    assert all(line.startswith("error: ") for line in err.splitlines())
    assert not config_of(checkout, "pretraining", "a").parent.exists()


@pytest.mark.parametrize("name", ["../a", "a/b", "con", "-a", ""])
def test_a_bad_name_is_refused(name: str, checkout: Path) -> None:
    assert pretraining(["--", name]) == 2
    assert not (checkout / "experiments").exists()


def test_an_existing_run_is_replaced_only_with_overwrite(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretraining(["a"]) == 0
    path = config_of(checkout, "pretraining", "a")
    path.write_text("# mine\n", encoding="utf-8")
    (path.parent / "model.ckpt").touch()
    capsys.readouterr()
    assert pretraining(["a"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == "# mine\n" and (path.parent / "model.ckpt").exists()
    assert pretraining(["a", "--overwrite"]) == 0
    assert "experiment:" in path.read_text(encoding="utf-8")
    assert not (path.parent / "model.ckpt").exists()


def test_overwrite_deletes_results_that_lie_elsewhere(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["a", "--set", f"experiment.output_dir={checkout / 'scratch'}"]
    assert pretraining(flags) == 0
    results = RunFolder(checkout / "scratch" / "a")
    results.root.mkdir(parents=True)
    for path in (results.resolved_config, results.checkpoint, results.root / "mine.txt"):
        path.touch()
    with RunLock(results):
        assert pretraining([*flags, "--overwrite"]) == 7
    assert results.checkpoint.exists()
    assert pretraining([*flags, "--overwrite"]) == 0
    assert not results.checkpoint.exists() and (results.root / "mine.txt").exists()
    results.checkpoint.touch()
    (results.root / "mine.txt").unlink()
    other = RunFolder(checkout / "elsewhere" / "a")  # not of the run that is replaced
    other.root.mkdir(parents=True)
    other.checkpoint.touch()
    assert pretraining(["a", "--set", f"experiment.output_dir={other.root.parent}", "--overwrite"]) == 0
    assert not results.checkpoint.exists() and other.checkpoint.exists()


def test_a_wrong_set_says_nothing_of_what_may_stay_open(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretraining(["a", "--set", "training.epochs=none"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "training.epochs" in line


def test_a_wrong_set_with_overwrite_deletes_nothing(checkout: Path) -> None:
    assert pretraining(["a"]) == 0
    (config_of(checkout, "pretraining", "a").parent / "model.ckpt").touch()
    assert pretraining(["a", "--overwrite", "--set", "x=1"]) == 2
    assert (config_of(checkout, "pretraining", "a").parent / "model.ckpt").exists()


def test_a_run_in_use_is_not_overwritten(checkout: Path) -> None:
    assert pretraining(["a"]) == 0
    with RunLock(RunFolder.locate("pretraining", "a")):
        assert pretraining(["a", "--overwrite"]) == 7


def test_finetuning_points_at_the_pretraining_run(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pretraining(["pre"]) == 0
    capsys.readouterr()
    assert (
        finetuning(
            ["ft", "pre", "--set", "data.train.dataset_path=d", "--set", "architecture.dropouts.hidden=0.2"]
        )
        == 0
    )
    out, err = capsys.readouterr()
    assert out.endswith("next: python finetune.py ft\n")
    assert err.startswith("warning: ") and "no checkpoint" in err and "python pretrain.py pre" in err
    config = load_config(config_of(checkout, "finetuning", "ft"), "finetuning")
    assert (config.experiment.name, config.pretrained_experiment.path) == ("ft", "pre")
    assert config.architecture.dropouts.hidden == 0.2


def test_finetuning_does_not_warn_of_a_trained_run(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretraining(["pre"]) == 0
    (config_of(checkout, "pretraining", "pre").parent / "model.ckpt").touch()
    assert finetuning(["ft", "pre"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("source", ["missing", "./missing", "../x/y", "con"])
def test_finetuning_without_a_pretraining_run_is_refused(
    checkout: Path, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finetuning(["ft", source]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not (checkout / "experiments" / "finetuning").exists()


def test_finetuning_follows_the_output_dir_of_the_pretraining_run(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretraining(["pre", "--set", f"experiment.output_dir={checkout / 'scratch'}"]) == 0
    (checkout / "scratch" / "pre").mkdir(parents=True)
    (checkout / "scratch" / "pre" / "model.ckpt").touch()
    assert finetuning(["one", "pre"]) == 0
    assert finetuning(["two", "./scratch/pre"]) == 0
    assert capsys.readouterr().err == ""
    for name in ("one", "two"):
        text = config_of(checkout, "finetuning", name).read_text(encoding="utf-8")
        assert f"path: {checkout / 'scratch' / 'pre'}\n" in text


def test_weights_of_before_the_output_dir_are_not_taken_for_those_to_come(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = checkout / "scratch" / "pre"
    assert pretraining(["pre", "--set", f"experiment.output_dir={results.parent}"]) == 0
    assert finetuning(["before", "pre"]) == 0
    assert "path: pre\n" in config_of(checkout, "finetuning", "before").read_text(encoding="utf-8")
    (config_of(checkout, "pretraining", "pre").parent / "model.ckpt").touch()
    assert finetuning(["ft", "pre"]) == 0
    assert f"warning: {results} has no checkpoint yet" in capsys.readouterr().err
    assert f"path: {results}\n" in config_of(checkout, "finetuning", "ft").read_text(encoding="utf-8")


def test_a_template_without_load_weights_loads_them(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pretraining(["pre"]) == 0
    lines = template_path("finetuning").read_text(encoding="utf-8").splitlines(keepends=True)
    shorter = checkout / "finetuning.yaml"
    text = "".join(line for line in lines if not line.startswith("  load_weights:"))
    shorter.write_text(text, encoding="utf-8")
    monkeypatch.setattr(generate, "template_path", lambda kind: shorter)
    assert finetuning(["ft", "pre"]) == 0
    assert "has no checkpoint yet" in capsys.readouterr().err


def test_an_output_dir_in_the_home_folder_is_the_one_of_training(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(checkout / "home"))
    assert pretraining(["pre", "--set", "experiment.output_dir=~/runs"]) == 0
    results = checkout / "home" / "runs" / "pre"
    results.mkdir(parents=True)
    (results / "model.ckpt").touch()
    assert finetuning(["ft", "pre"]) == 0
    assert capsys.readouterr().err == ""
    text = config_of(checkout, "finetuning", "ft").read_text(encoding="utf-8")
    assert f"path: {results}\n" in text
