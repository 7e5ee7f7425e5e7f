"""From configs back to data, YAML and absolute paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from textclf_transformer import experiment
from textclf_transformer.config import (
    FinetuningConfig,
    PretrainingConfig,
    config_to_dict,
    dump_yaml,
    flatten,
    load_config,
    resolve_paths,
)
from textclf_transformer.errors import UsageError

PRETRAINING = {
    "experiment": {"name": "pre"},
    "tokenizer": {"vocab_dir": Path("vocab")},
    "data": {"train": {"dataset_path": Path("../train")}},
}


def finetuning(**source: object) -> FinetuningConfig:
    data = {"train": {"dataset_path": Path("train")}, "val": {"dataset_path": Path("/abs/val")}}
    return FinetuningConfig.model_validate(
        {"experiment": {"name": "ft"}, "pretrained_experiment": source, "data": data}
    )


def test_flatten() -> None:
    assert flatten({"a": {"b": 1, "c": {}}, "d": [1]}) == {"a.b": 1, "a.c": {}, "d": [1]}


def test_a_written_config_is_read_back_equal(tmp_path: Path) -> None:
    config = PretrainingConfig.model_validate(PRETRAINING)
    path = tmp_path / "config.resolved.yaml"
    path.write_text(dump_yaml(config_to_dict(config)), encoding="utf-8")
    assert load_config(path, "pretraining") == config
    other = finetuning(path="./pre")
    path.write_text(dump_yaml(config_to_dict(other)), encoding="utf-8")
    assert load_config(path, "finetuning") == other


def test_the_dict_is_plain() -> None:
    flat = flatten(config_to_dict(PretrainingConfig.model_validate(PRETRAINING)))
    assert flat["tokenizer.vocab_dir"] == "vocab"
    assert {type(value) for value in flat.values()} <= {str, int, float, bool, type(None)}


def test_relative_paths_start_at_the_base(tmp_path: Path) -> None:
    config = resolve_paths(PretrainingConfig.model_validate(PRETRAINING), tmp_path / "work")
    assert config.tokenizer.vocab_dir == tmp_path / "work" / "vocab"
    assert config.data.train.dataset_path == tmp_path / "train"
    assert config.experiment.output_dir is None
    assert config.tokenizer.wrapper_path == "wordpiece"
    assert resolve_paths(config, tmp_path / "elsewhere") == config


def test_a_tokenizer_file_is_a_path_and_a_module_is_not(tmp_path: Path) -> None:
    for given, resolved in (
        ("my/tok.py:Mine", f"{tmp_path / 'my' / 'tok.py'}:Mine"),
        ("my.tok:Mine", "my.tok:Mine"),
    ):
        data = {**PRETRAINING, "tokenizer": {"vocab_dir": Path("v"), "wrapper_path": given}}
        config = resolve_paths(PretrainingConfig.model_validate(data), tmp_path)
        assert config.tokenizer.wrapper_path == resolved


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    data = {**PRETRAINING, "tokenizer": {"vocab_dir": Path("~/vocab")}}
    config = resolve_paths(PretrainingConfig.model_validate(data), Path("/base"))
    assert config.tokenizer.vocab_dir == tmp_path / "vocab"


def test_a_home_that_nobody_has_is_a_name_like_others() -> None:
    data = {**PRETRAINING, "tokenizer": {"vocab_dir": Path("~nobody-has-it/vocab")}}
    config = resolve_paths(PretrainingConfig.model_validate(data), Path("/base"))
    assert config.tokenizer.vocab_dir == Path("/base/~nobody-has-it/vocab")


def test_pretrained_experiment_is_a_name_or_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "CHECKOUT", tmp_path / "checkout")
    run = tmp_path / "checkout" / "experiments" / "pretraining" / "pre"
    work = tmp_path / "work"
    for given, resolved in (
        ("pre", run),
        ("./pre", work / "pre"),
        ("a/pre", work / "a" / "pre"),
        ("/pre", Path("/pre")),
    ):
        config = resolve_paths(finetuning(path=given), work)
        assert config.pretrained_experiment.path == str(resolved)
        assert config.pretrained_experiment.checkpoint == "best"
        assert config.data.val is not None and config.data.val.dataset_path == Path("/abs/val")
    with pytest.raises(UsageError, match="Windows"):
        resolve_paths(finetuning(path="con"), work)


def test_published_weights_are_a_folder_or_a_name_on_the_hub(tmp_path: Path) -> None:
    (tmp_path / "a" / "folder").mkdir(parents=True)
    for given, resolved in (
        ("a/folder", str(tmp_path / "a" / "folder")),
        ("word", str(tmp_path / "word")),
        ("./a/b", str(tmp_path / "a" / "b")),
        ("a/b/c", str(tmp_path / "a" / "b" / "c")),
        ("/a/b", str(Path("/a/b"))),
        ("a/b", "a/b"),
        ("FacebookAI/roberta-base@main", "FacebookAI/roberta-base@main"),
    ):
        source = resolve_paths(finetuning(path=None, from_hf=given), tmp_path).pretrained_experiment
        assert (source.path, source.from_hf, source.checkpoint) == (None, resolved, "best")


def test_a_checkpoint_file_is_a_path(tmp_path: Path) -> None:
    assert resolve_paths(
        finetuning(path="p", checkpoint="x.ckpt"), tmp_path
    ).pretrained_experiment.checkpoint == str(tmp_path / "x.ckpt")
    assert (
        resolve_paths(finetuning(path="p", checkpoint="last"), tmp_path).pretrained_experiment.checkpoint
        == "last"
    )
