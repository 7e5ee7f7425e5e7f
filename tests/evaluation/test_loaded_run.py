"""One code path from a run's folder to logits, whoever asks and however the documents are batched."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from end_to_end.conftest import Checkout

from textclf_transformer.data.corpus import Corpus
from textclf_transformer.data.store import Store
from textclf_transformer.data.text_documents import TextDocuments
from textclf_transformer.errors import CheckpointError, ConfigError, DataError, NonFiniteError, UsageError
from textclf_transformer.evaluation.explain import explain_documents
from textclf_transformer.evaluation.full_evaluation import evaluate_run
from textclf_transformer.evaluation.loaded_run import _numerics, check_finite, load_run
from textclf_transformer.evaluation.predict import predict_documents
from textclf_transformer.evaluation.probabilities import probabilities
from textclf_transformer.training.checkpoint import load_checkpoint, save_checkpoint
from textclf_transformer.training.numerics import cpu_has_bf16
from textclf_transformer.utils import AUTO_MICRO_BATCH_TOKENS


def run_folder(checkout: Checkout) -> Path:
    return checkout.root / "experiments" / "finetuning" / "ft"


def rewrite(path: Path, **changes: object) -> None:
    """Save a checkpoint again with other entries; None takes one out."""
    content = {**load_checkpoint(path), **changes}
    save_checkpoint(path, {key: value for key, value in content.items() if value is not None})


def test_the_facts_come_from_the_checkpoint(finetuned: Checkout) -> None:
    run = load_run("ft")
    assert run.label_names == ("garden", "harbour", "kitchen") and not run.multi_label
    assert (run.chunk_size, run.stride, run.max_chunks) == (24, 22, 4)
    assert run.checkpoint.name == "best.ckpt" and not run.model.training
    best = torch.load(run.checkpoint, weights_only=True)
    assert run.step == best["step"]
    for name, tensor in run.model.state_dict().items():
        assert torch.equal(tensor, best["model"][name])


def test_without_best_weights_the_last_are_taken(finetuned: Checkout) -> None:
    (run_folder(finetuned) / "best.ckpt").unlink()
    run = load_run("ft")
    assert run.checkpoint.name == "model.ckpt"
    assert run.step == torch.load(run.checkpoint, weights_only=True)["loop"]["step"]


def test_no_more_chunks_than_places_were_learned_for(finetuned: Checkout) -> None:
    run = load_run("ft")
    store = Store.open(finetuned.root / "store" / "test")
    assert run.batches(store, max_chunks=9).num_chunks > run.batches(store).num_chunks
    run.model.chunk_positions = torch.nn.Embedding(4, 32)
    assert run.batches(store, max_chunks=4).num_chunks == run.batches(store).num_chunks
    with pytest.raises(ConfigError, match=r"max_chunks; found 5, expected at most 4"):
        run.batches(store, max_chunks=5)


@pytest.mark.parametrize(
    ("name", "value"), [("num_layers", 1000), ("embedding_dim", 65536), ("max_sequence_length", 1 << 20)]
)
def test_a_checkpoint_that_claims_to_be_larger_than_it_is_takes_no_memory(
    finetuned: Checkout, name: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest of these would take terabytes; nothing but shapes may be made of it."""
    path = run_folder(finetuned) / "best.ckpt"
    rewrite(path, architecture={**load_checkpoint(path)["architecture"], name: value})
    built: list[torch.device] = []
    from textclf_transformer.evaluation import loaded_run

    build = loaded_run.build_encoder

    def watching(*args: object, **kwargs: object) -> object:
        encoder = build(*args, **kwargs)  # type: ignore[arg-type]
        built.append(next(encoder.parameters()).device)
        return encoder

    monkeypatch.setattr(loaded_run, "build_encoder", watching)
    with pytest.raises(CheckpointError, match=r"best\.ckpt"):
        load_run("ft")
    assert built == [torch.device("meta")]


def test_a_moved_folder_is_all_that_is_needed(
    finetuned: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = Corpus([finetuned.root / "corpus.jsonl"], label_column=None)
    before = [prediction.row() for prediction in predict_documents(load_run("ft"), texts, explain=True)]
    moved, corpus = tmp_path / "moved", tmp_path / "corpus.jsonl"
    shutil.move(run_folder(finetuned), moved)
    shutil.move(finetuned.root / "corpus.jsonl", corpus)
    shutil.rmtree(finetuned.root)
    monkeypatch.chdir(tmp_path)
    texts = Corpus([corpus], label_column=None)
    after = [prediction.row() for prediction in predict_documents(load_run("./moved"), texts, explain=True)]
    assert before == after


def test_evaluate_and_predict_agree_to_the_bit(finetuned: Checkout) -> None:
    run = load_run("ft")
    store = Store.open(finetuned.root / "store" / "test")
    probs = probabilities(run.logits(run.batches(store)), multi_label=False)
    lines = [{"id": store.document_id(i), "text": store.text(i)} for i in range(len(store))]
    path = finetuned.root / "again.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    for explain in (False, True):
        predictions = list(predict_documents(run, Corpus([path], label_column=None), explain=explain))
        assert [prediction.id for prediction in predictions] == [line["id"] for line in lines]
        assert np.array_equal([list(p.probabilities.values()) for p in predictions], probs)


def test_evaluate_repeats_the_runs_own_test_row_to_the_bit(finetuned: Checkout) -> None:
    run = load_run("ft")
    report = json.loads((run_folder(finetuned) / "run.json").read_text(encoding="utf-8"))
    assert str(run.amp_dtype) == report["environment"]["amp_dtype"] and "as in training" in run.numerics
    result = evaluate_run(run, Store.open(finetuned.root / "store" / "test"))
    model = result["scores"][0]
    again = {"loss": result["loss"], "accuracy": model["accuracy"], "f1_macro": model["f1_macro"]}
    assert again == {name: report["test"][name] for name in again}
    assert result["numerics"] == run.numerics


def test_numerics_follow_the_run_unless_float32_is_asked_for(finetuned: Checkout) -> None:
    environment = load_checkpoint(run_folder(finetuned) / "best.ckpt")["environment"]
    changed = {**environment, "amp_dtype": "torch.bfloat16", "micro_batch_tokens": 500}
    rewrite(run_folder(finetuned) / "best.ckpt", environment=changed)
    run, wide = load_run("ft"), load_run("ft", float32=True)
    assert run.trained_amp_dtype == wide.trained_amp_dtype == torch.bfloat16
    assert wide.amp_dtype is None and wide.numerics == "float32, in training bfloat16"
    assert run.tokens_per_micro_batch == 500
    if not cpu_has_bf16():
        assert run.amp_dtype is None
        return
    store = Store.open(finetuned.root / "store" / "test")
    narrow_logits, logits = run.logits(run.batches(store)), wide.logits(wide.batches(store))
    difference = np.abs(narrow_logits - logits).max() / np.abs(logits).max()
    assert 0 < difference < 0.05
    explained, _ = explain_documents(run, run.batches(store))
    assert np.array_equal(explained, narrow_logits)


def test_the_tokens_of_another_kind_of_device_are_not_taken_over() -> None:
    cpu = torch.device("cpu")
    for trained_on, tokens in (("cpu", 777), ("cuda", AUTO_MICRO_BATCH_TOKENS["cpu"])):
        environment = {"amp_dtype": "torch.bfloat16", "device": trained_on, "micro_batch_tokens": 777}
        found = _numerics({"environment": environment}, Path("best.ckpt"), cpu)
        assert found == (torch.bfloat16, tokens)


@pytest.mark.parametrize(("float32", "bound"), [(True, 1e-5), (False, 1e-2)])
def test_neither_batch_size_nor_order_changes_labels_or_logits(
    finetuned: Checkout, float32: bool, bound: float
) -> None:
    run = load_run("ft", float32=float32)
    documents = list(Corpus([finetuned.root / "corpus.jsonl"]))
    order = np.random.default_rng(0).permutation(len(documents))

    def logits(documents: list, budget: int) -> np.ndarray:
        tokenised = TextDocuments.read(documents, run.tokenizer, multi_label=False, path="memory")
        return run.logits(replace(run, tokens_per_micro_batch=budget).batches(tokenised))

    own = run.tokens_per_micro_batch
    reference = logits(documents, own)
    alone = logits(documents, 1)
    shuffled = logits([documents[place] for place in order], 500)
    for other in (alone, shuffled[np.argsort(order)]):
        assert other.argmax(1).tolist() == reference.argmax(1).tolist()
        assert np.abs(other - reference).max() <= bound * np.abs(reference).max()
    assert not np.array_equal(alone, logits([*reversed(documents)], own))  # the order matters to the rows


def test_fewer_chunks_are_read_where_asked_for(finetuned: Checkout) -> None:
    run = load_run("ft")
    store = Store.open(finetuned.root / "store" / "test")
    assert run.batches(store, max_chunks=1).num_chunks == len(store)
    assert run.batches(store, max_chunks=1).coverage.tokens_read == np.minimum(store.lengths, 22).sum()
    assert run.batches(store).num_chunks == np.clip(-(-store.lengths // 22), 1, 4).sum()


def test_loading_leaves_the_random_stream_alone(finetuned: Checkout) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    load_run("ft")
    assert torch.equal(torch.rand(3), expected)


def test_a_logit_that_is_not_finite_is_named() -> None:
    with pytest.raises(NonFiniteError, match="document 1"):
        check_finite(np.array([[0.0, 1.0], [np.nan, 0.0]]))


def test_no_such_run(finetuned: Checkout) -> None:
    with pytest.raises(ConfigError, match=r"no such finetuning run.*\./NAME"):
        load_run("nobody")
    with pytest.raises(ConfigError, match=r"not a path; run; found NoneType, expected the name of a run"):
        load_run(None)  # type: ignore[arg-type]
    for path in ("somewhere/else", "~nobody-has-it/run"):
        with pytest.raises(ConfigError, match=f"no such finetuning run.*{path}"):
            load_run(path)
    with pytest.raises(UsageError, match="not a name"):
        load_run("a b")


def test_a_folder_that_is_no_run_is_called_so(finetuned: Checkout) -> None:
    with pytest.raises(ConfigError, match=r"not the folder of a run.*config\.yaml and model\.ckpt"):
        load_run("store/")


def test_a_pretraining_run_is_refused(finetuned: Checkout) -> None:
    with pytest.raises(CheckpointError, match="pretraining run"):
        load_run(finetuned.root / "experiments" / "pretraining" / "pre")


@pytest.mark.parametrize("device", ["gpu", None, "cuda:7"])
def test_another_device_is_refused_as_the_argument_that_it_is(finetuned: Checkout, device: Any) -> None:
    with pytest.raises(ConfigError, match=r"(unknown|this CUDA) device.*; device; found"):
        load_run("ft", device=device)


def test_a_link_is_refused(finetuned: Checkout) -> None:
    link = finetuned.root / "link"
    link.symlink_to(run_folder(finetuned))
    with pytest.raises(UsageError, match="symbolic link"):
        load_run(link)


def test_a_run_without_checkpoint(finetuned: Checkout) -> None:
    for name in ("best.ckpt", "model.ckpt"):
        (run_folder(finetuned) / name).unlink()
    with pytest.raises(CheckpointError, match=r"no checkpoint.*python finetune\.py ft"):
        load_run("ft")


def test_the_code_of_its_tokenizer_runs_only_with_consent(finetuned: Checkout) -> None:
    code, mark = finetuned.root / "mine.py", finetuned.root / "mark"
    code.write_text(f"open({str(mark)!r}, 'w').close()\nclass Mine: pass\n", encoding="utf-8")
    best = run_folder(finetuned) / "best.ckpt"
    content = load_checkpoint(best)
    content["tokenizer"]["wrapper_path"] = f"{code}:Mine"
    save_checkpoint(best, content)
    with pytest.raises(UsageError, match="--trust-code"):
        load_run("ft")
    assert not mark.exists()
    with pytest.raises(UsageError, match="lacks methods"):
        load_run("ft", trust_code=True)
    assert mark.exists()


def test_another_tokenizer_is_refused(finetuned: Checkout) -> None:
    path = run_folder(finetuned) / "tokenizer" / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    vocabulary["soil"], vocabulary["seed"] = vocabulary["seed"], vocabulary["soil"]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(CheckpointError, match="tokenizer in the run folder is not the one"):
        load_run("ft")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"multi_label": None}, "lacks multi_label"),
        ({"environment": None}, "lacks environment"),
        ({"environment": {"device": "cpu", "amp_dtype": "int4"}}, "does not say how it was computed"),
        ({"config": {"chunking": {"chunk_size": -3}, "classification_head": {}}}, "no model that this"),
        ({"architecture": {"embedding_dim": 10**12}}, "no model that this"),
        ({"labels": ["a", "b"]}, "classifier"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    finetuned: Checkout, changes: dict[str, object], message: str
) -> None:
    rewrite(run_folder(finetuned) / "best.ckpt", **changes)
    with pytest.raises(CheckpointError, match=message):
        load_run("ft")


def test_unknown_label_in_the_data(finetuned: Checkout) -> None:
    run = load_run("ft")
    path = finetuned.root / "more.jsonl"
    path.write_text(json.dumps({"text": "soil", "label": "attic"}) + "\n", encoding="utf-8")
    documents = TextDocuments.read(Corpus([path]), run.tokenizer, multi_label=False, path=str(path))
    with pytest.raises(DataError, match="'attic'"):
        run.batches(documents)
