"""Exported runs in transformers: no key missing or unexpected, the same ids and predictions."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from end_to_end.conftest import TOPICS, Checkout

import finetune
import pretrain
from textclf_transformer.atomic import atomic_write_text
from textclf_transformer.commands import cli, export, prepare
from textclf_transformer.commands.pretrained import read_published
from textclf_transformer.evaluation.loaded_run import load_run
from textclf_transformer.evaluation.predict import predict
from textclf_transformer.tokenizer.loading import load_tokenizer

SHORT = "soil and the seed of a rope"
LONG = " ".join(f"the {word} of some people" for words in TOPICS.values() for word in words.split()) * 2
HUGGINGFACE = ("classification_head.kind=huggingface", "classification_head.pooling=cls")
POOLER = {"pooler.dense.weight", "pooler.dense.bias"}


def options(*values: str) -> list[str]:
    return [part for value in values for part in ("--set", value)]


def loads(folder: Path, auto: str) -> transformers.PreTrainedModel:
    """Load with an Auto class; no key may be missing, unexpected or of another shape."""
    model, info = getattr(transformers, auto).from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    return model.eval()


def check_encoder(folder: Path, *, head: tuple[str, ...], pooler: set[str] = POOLER) -> None:
    """AutoModel may miss its own pooler, and leave over what begins as ``head`` does."""
    _, info = transformers.AutoModel.from_pretrained(folder, output_loading_info=True)
    assert set(info["missing_keys"]) == pooler
    assert all(name.startswith(head) for name in info["unexpected_keys"])
    assert bool(info["unexpected_keys"]) == bool(head)
    assert not info["mismatched_keys"]


def check_tokenizer(folder: Path, run: Path, *, texts: tuple[str, ...]) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ours = load_tokenizer("wordpiece", run / "tokenizer")
    for text, encoding in zip(texts, ours.encode_batch(list(texts)), strict=True):
        expected = [ours.cls_token_id, *encoding.ids, ours.sep_token_id]
        assert theirs(text) == {"input_ids": expected, "attention_mask": [1] * len(expected)}
    assert (theirs.pad_token_id, theirs.mask_token_id) == (ours.pad_token_id, ours.mask_token_id)


def run_card(folder: Path, monkeypatch: pytest.MonkeyPatch, *, text: str | None = None) -> dict[str, Any]:
    """Execute each block of the card by itself, as it stands or with another ``text``, where it lies."""
    card = (folder / "README.md").read_text(encoding="utf-8")
    if text is not None:
        card, count = re.subn(r'(?m)^text = ".*"$', f"text = {text!r}", card)
        assert count == 1
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    for lines in re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL):
        own: dict[str, Any] = {}
        exec(lines, own)
        names |= own
    monkeypatch.undo()
    return names


def ours_of(run: Path, text: str) -> list[float]:
    """Our probabilities, in float32 whatever the run was trained in, as transformers computes."""
    rows = predict(dataclasses.replace(load_run(run), amp_dtype=None), [text])
    row = rows[0] if isinstance(rows, list) else rows.iloc[0].to_dict()
    return [value for name, value in row.items() if name.startswith("prob_")]


def check_card(folder: Path, root: Path, monkeypatch: pytest.MonkeyPatch, run: Path) -> str:
    """The lines of the card give our probabilities, on their own text and on a long one."""
    with monkeypatch.context() as patch:
        first = run_card(folder, patch)
        again = run_card(folder, patch, text=LONG)
    for names in (first, again):
        expected = torch.tensor(ours_of(run, names["text"]))
        torch.testing.assert_close(names["probabilities"], expected, rtol=1e-5, atol=1e-6)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert str(root) not in card
    for heading in ("Data and training", "Metrics", "Intended use", "Limits", "Loading it"):
        assert f"\n## {heading}\n" in card
    return card


def check_given(folder: Path, monkeypatch: pytest.MonkeyPatch, run: Path) -> None:
    """The lines of the card give the labels that we give, by the thresholds of the run."""
    loaded = load_run(run)
    assert loaded.thresholds is not None and set(loaded.thresholds) != {0.5}
    with monkeypatch.context() as patch:
        names = run_card(folder, patch)
    least = torch.tensor(loaded.thresholds)
    assert names["given"] == (torch.tensor(ours_of(run, names["text"])) > least).nonzero().flatten().tolist()


def test_a_hierarchical_run(finetuned: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    out = finetuned.root / "out" / "ft"
    finetuned.run(cli.main, "export", "ft", "--to", "hf", out)
    assert {path.name for path in out.iterdir()} == export.EXPORT_FILES
    check_encoder(out, head=())
    run = finetuned.root / "experiments" / "finetuning" / "ft"
    # a special token that a text spells is text, there as here
    check_tokenizer(out, run, texts=(SHORT, LONG, "", "[MASK] is text [SEP]", "Ünïcode\u00a0😀"))
    assert load_run(run).chunk_size == 24  # the card's long text has more chunks than are read
    card = check_card(out, finetuned.root, monkeypatch, run)
    assert "matrix products in" in card
    report = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert f"| f1_macro | {report['test']['f1_macro']:.4f} |" in card
    assert f"{report['best']['f1_macro']:.4f}" in card
    assert "| train | `store/train` | 63 | 4,381 |" in card
    assert "`garden`, `harbour`, `kitchen`" in card
    assert "the pretraining run `pre`" in card


def test_a_run_with_hugging_faces_head(pretrained: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    run = pretrained.finetuning("ft", "pre", *options(*HUGGINGFACE, "training.epochs=6"))
    pretrained.run(finetune.main, "ft", "--quiet")
    out = pretrained.root / "out"
    pretrained.run(export.main, run, "--to", "hf", out)
    model = loads(out, "AutoModelForSequenceClassification")
    assert isinstance(model, transformers.RobertaForSequenceClassification)
    assert model.config.id2label == {0: "garden", 1: "harbour", 2: "kitchen"}
    assert model.config.problem_type == "single_label_classification"
    check_encoder(out, head=("classifier.",))
    check_card(out, pretrained.root, monkeypatch, run)

    texts = [json.loads(line)["text"] for line in (pretrained.root / "corpus.jsonl").open(encoding="utf-8")]
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    tokens = tokenizer(texts, truncation=True, padding=True, return_tensors="pt")
    with torch.inference_mode():
        found = model(**tokens).logits.softmax(dim=-1)
    expected = torch.tensor([ours_of(run, text) for text in texts])
    assert float((found - expected).abs().max()) < 1e-5
    assert float(expected.std()) > 0.05, "the labels must differ for the comparison to mean something"


def test_a_pretraining_run(pretrained: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    out = pretrained.root / "out"
    pretrained.run(export.main, "pre", out)
    model = loads(out, "AutoModelForMaskedLM")
    check_encoder(out, head=("lm_head.",))
    run = pretrained.root / "experiments" / "pretraining" / "pre"
    check_tokenizer(out, run, texts=(SHORT, LONG, ""))
    best = torch.load(run / "best.ckpt", weights_only=True)["model"]
    torch.testing.assert_close(
        model.roberta.embeddings.word_embeddings.weight, best["encoder.embeddings.word_embeddings.weight"]
    )
    names = run_card(out, monkeypatch)
    assert int(names["hidden"].sum()) == 1
    again = read_published(str(out)).check_weights()  # it can be finetuned as any published weights
    assert again.matched == sum(name.startswith("encoder.") for name in best)
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "| perplexity |" not in card and "not tested" in card and "enhanced" not in card


def test_disentangled_runs_and_several_labels(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pre = checkout.pretraining(
        "deberta", *options("architecture.attention.kind=disentangled", "training.epochs=1")
    )
    checkout.run(pretrain.main, "deberta", "--quiet")
    checkout.run(export.main, "deberta", "--to", "hf", checkout.root / "mlm")
    assert "mask decoder" in capsys.readouterr().err
    loads(checkout.root / "mlm", "AutoModelForMaskedLM")
    check_encoder(checkout.root / "mlm", head=("cls.",), pooler=set())
    assert "mask decoder" in (checkout.root / "mlm" / "README.md").read_text(encoding="utf-8")
    assert (pre / "best.ckpt").exists()

    several = checkout.root / "several.jsonl"
    lines = (checkout.root / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    documents = [json.loads(line) for line in lines]
    for number, document in enumerate(documents):
        document["label"] = "garden|kitchen" if number % 4 == 0 else document["label"]
    several.write_text("".join(json.dumps(document) + "\n" for document in documents), encoding="utf-8")
    store = checkout.root / "several"
    tokenizer, split = checkout.root / "tokenizer", ["--split", "0.7/0.15/0.15", "--seed", 1]
    checkout.run(prepare.main, several, "--out", store, "--tokenizer", tokenizer, "--multi-label", *split)
    data = [f"data.{part}.dataset_path={store / part}" for part in ("train", "val", "test")]
    run = checkout.finetuning("ft", "deberta", *options(*data, *HUGGINGFACE, "training.epochs=2"))
    checkout.run(finetune.main, "ft", "--quiet")
    out = checkout.root / "classifier"
    checkout.run(export.main, "ft", "--to", "hf", out)
    model = loads(out, "AutoModelForSequenceClassification")
    assert isinstance(model, transformers.DebertaForSequenceClassification)
    assert model.config.problem_type == "multi_label_classification"
    check_encoder(out, head=("classifier.", "pooler."), pooler=set())
    assert "any number of the labels" in check_card(out, checkout.root, monkeypatch, run)
    check_given(out, monkeypatch, run)

    run = checkout.finetuning("chunks", "deberta", *options(*data, "training.epochs=1"))
    checkout.run(finetune.main, "chunks", "--quiet")
    checkout.run(export.main, "chunks", "--to", "hf", checkout.root / "chunks")
    check_given(checkout.root / "chunks", monkeypatch, run)

    checkout.finetuning("long", "deberta", *options("training.epochs=1", "chunking.stride=7"))
    checkout.run(finetune.main, "long", "--quiet")
    checkout.run(export.main, "long", "--to", "hf", checkout.root / "long")
    check_card(checkout.root / "long", checkout.root, monkeypatch, run.with_name("long"))


def test_a_folder_is_replaced_only_with_the_flag_and_only_an_export(
    finetuned: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = finetuned.root / "out"
    arguments = ["ft", str(out), "--to", "hf"]
    finetuned.run(export.main, *arguments)
    before = {path: path.read_bytes() for path in out.iterdir()}
    capsys.readouterr()
    assert export.main(arguments) == 2
    assert "add --overwrite" in capsys.readouterr().err

    def full_disk(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "atomic_write_text", full_disk)
    assert export.main([*arguments, "--overwrite"]) == 6
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert not list(finetuned.root.glob(".out*"))
    monkeypatch.setattr(export, "atomic_write_text", atomic_write_text)

    (out / "README.md").write_text("an old one", encoding="utf-8")
    finetuned.run(export.main, *arguments, "--overwrite")
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    assert export.main([*arguments, "--overwrite"]) == 2
    assert (out / "notes.txt").exists()


def test_which_run_is_meant(finetuned: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    finetuned.pretraining("ft")  # not trained
    out = str(finetuned.root / "out")
    for run, code, words in (
        ("ft", 2, "a pretraining and a finetuning run have this name"),
        ("nothing", 2, "there is no such run"),
        ("./nothing", 2, "there is no such run"),
        ("../x", 2, "there is no such run"),
        (str(finetuned.root / "experiments" / "pretraining" / "ft"), 4, "no checkpoint"),
    ):
        capsys.readouterr()
        assert export.main([run, out, "--to", "hf"]) == code
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and words in lines[0]
    assert export.main(["pre", out, "--to", "onnx"]) == 2
    assert not Path(out).exists()
