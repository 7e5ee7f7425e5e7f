"""Models by their name on the hub, without the hub: a cache as the client lays it out, and faked clients."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from end_to_end.published import COMMIT, put_into_cache
from model_cases import make_encoder, spread_weights

from textclf_transformer.errors import ConfigError
from textclf_transformer.model.encoder import RobertaModel
from textclf_transformer.model.heads import RobertaForMaskedLM
from textclf_transformer.model.hf_hub import fetch_from_hub, local_folder, pinned_name
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.model.presets import create_model
from textclf_transformer.model.sequence_classification import RobertaForSequenceClassification

NAME = "someone/tiny"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network."""
    cache = tmp_path / "home" / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return cache


def test_every_model_loads_by_its_name(hub: Path, tmp_path: Path) -> None:
    models = [
        make_encoder(),
        RobertaForMaskedLM(make_encoder()),
        RobertaForSequenceClassification(make_encoder(), num_labels=3),
        RobertaForSequenceClassification(make_encoder(), num_labels=3, pooling="mean"),
        HierarchicalRobertaForClassification(make_encoder(), num_labels=3),
    ]
    for number, model in enumerate(models):
        spread_weights(model)
        model.to_hf(tmp_path / str(number))
        put_into_cache(hub, tmp_path / str(number), name=f"someone/model-{number}")
        back = type(model).from_hf(f"someone/model-{number}")
        assert back.state_dict().keys() == model.state_dict().keys()
        for name, tensor in model.state_dict().items():
            assert torch.equal(back.state_dict()[name], tensor)
        assert torch.equal(
            RobertaModel.from_hf(f"someone/model-{number}@{COMMIT}").layers[0].output.weight,
            (model if isinstance(model, RobertaModel) else model.encoder).layers[0].output.weight,
        )


def test_create_model_loads_weights_by_name_and_freezes_the_embeddings(hub: Path, tmp_path: Path) -> None:
    encoder = spread_weights(make_encoder())
    encoder.to_hf(tmp_path / "out")
    put_into_cache(hub, tmp_path / "out", name=NAME)
    model = create_model(base_model_name=NAME)
    weight = model.encoder.embeddings.word_embeddings.weight
    assert torch.equal(weight, encoder.embeddings.word_embeddings.weight)
    assert not weight.requires_grad


def test_a_folder_of_that_name_goes_first(hub: Path, tmp_path: Path) -> None:
    make_encoder().to_hf(tmp_path / "elsewhere")
    put_into_cache(hub, tmp_path / "elsewhere", name=NAME)
    assert local_folder(NAME) == hub / "models--someone--tiny" / "snapshots" / COMMIT
    (tmp_path / "someone" / "tiny").mkdir(parents=True)
    assert local_folder(NAME) == Path("someone/tiny")
    assert local_folder(Path("any/thing")) == Path("any/thing")
    assert local_folder("./any/thing") == Path("any/thing")


def test_a_name_is_pinned_to_its_commit(hub: Path, tmp_path: Path) -> None:
    make_encoder().to_hf(tmp_path / "out")
    put_into_cache(hub, tmp_path / "out", name=NAME)
    pinned = pinned_name(NAME)
    assert pinned == f"{NAME}@{COMMIT}" == pinned_name(pinned)
    later = "f" * 40
    put_into_cache(hub, tmp_path / "out", name=NAME, commit=later)
    assert fetch_from_hub(NAME).name == later
    assert fetch_from_hub(pinned).name == COMMIT


def test_what_is_not_cached_is_one_line(hub: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such folder.*someone/tiny.*HF_HUB_OFFLINE") as caught:
        RobertaModel.from_hf(NAME)
    assert len(caught.value.lines) == 1 and "\n" not in caught.value.lines[0]
    make_encoder().to_hf(tmp_path / "out")
    (tmp_path / "out" / "model.safetensors").unlink()
    put_into_cache(hub, tmp_path / "out", name=NAME)
    with pytest.raises(ConfigError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        RobertaModel.from_hf(NAME)
    with pytest.raises(ConfigError, match="no such folder"):
        RobertaModel.from_hf(f"{NAME}@v2")


def test_without_the_client_it_says_so(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r"cannot be imported.*pip install huggingface_hub"):
        RobertaModel.from_hf(NAME)


def test_whatever_the_client_raises_becomes_one_line(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **more: object) -> str:
        raise RuntimeError("401 Client Error.\n\nRepository Not Found\x1b[31m for url")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(ConfigError) as caught:
        RobertaModel.from_hf(NAME)
    assert "401 Client Error." in str(caught.value) and "Repository" not in str(caught.value)


@pytest.mark.parametrize("name", ["a--b/tiny", "someone/a..b", "someone/tiny.git"])
def test_a_name_that_the_client_refuses_is_one_line(hub: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="no such model could be had") as caught:
        fetch_from_hub(name)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_only_what_is_needed_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: Path) -> None:
    """A client with a network: branches are asked for once, then the commit, and no second set of weights."""
    make_encoder().to_hf(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / COMMIT)
    asked: list[tuple[str, str]] = []

    def download(repository: str, file: str, *, revision: str) -> str:
        asked.append((file, revision))
        if not (tmp_path / COMMIT / file).exists():
            raise huggingface_hub.errors.EntryNotFoundError("404")
        return str(tmp_path / COMMIT / file)

    client: Any = SimpleNamespace(
        hf_hub_download=download, try_to_load_from_cache=lambda *a, **m: None, errors=huggingface_hub.errors
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)
    RobertaModel.from_hf(f"{NAME}@v1")
    assert asked[:2] == [("config.json", "v1"), ("model.safetensors", COMMIT)]
    assert {revision for _, revision in asked[1:]} == {COMMIT}
    assert "pytorch_model.bin" not in dict(asked)


def test_the_clients_own_settings_count(tmp_path: Path) -> None:
    """In a process of its own, as the client reads its environment when it is imported."""
    make_encoder().to_hf(tmp_path / "out")
    put_into_cache(tmp_path / "home" / "hub", tmp_path / "out", name=NAME)
    code = f"from textclf_transformer import RobertaModel; print(RobertaModel.from_hf({NAME!r}).hidden_size)"
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "24\n"
