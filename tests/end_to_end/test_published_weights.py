"""A finetuning run from published weights, from the generator to predictions; folders that do not fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import safetensors.torch
import tokenizers
import torch
import transformers
from end_to_end.conftest import Checkout
from end_to_end.published import BERTS_PAD, COMMIT, PAD, make_published, put_into_cache, save_tokenizer

import finetune
from experiments import generate_finetuning_experiment
from textclf_transformer.commands import evaluate, export, predict, prepare
from textclf_transformer.evaluation.loaded_run import load_run
from textclf_transformer.tokenizer.training import train_byte_level_bpe


def generate(checkout: Checkout, name: str, folder: Path, *more: str) -> Path:
    store = checkout.root / "bpe_store"
    data = [f"data.{split}.dataset_path={store / split}" for split in ("train", "val", "test")]
    values = [*data, "training.learning_rate=3e-3", "training.batch_size=8", "training.epochs=1"]
    options = [part for value in values for part in ("--set", value)]
    checkout.run(generate_finetuning_experiment.main, name, "--from-hf", folder, *options, *more)
    return checkout.root / "experiments" / "finetuning" / name


def make_store(checkout: Checkout, tokenizer: Path) -> None:
    split = ["--split", "0.7/0.15/0.15", "--seed", 1]
    out = checkout.root / "bpe_store"
    checkout.run(prepare.main, checkout.root / "corpus.jsonl", "--out", out, "--tokenizer", tokenizer, *split)


@pytest.mark.parametrize(
    ("family", "pickled"), [("roberta", False), ("deberta", True), ("bert", False), ("xlm-roberta", False)]
)
def test_from_published_weights_to_predictions(
    family: str, pickled: bool, checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_published(
        checkout.root / "published", checkout.root / "corpus.jsonl", family=family, pickled=pickled
    )
    run = generate(checkout, "ft", Path("published"))
    config = (run / "config.yaml").read_text(encoding="utf-8")
    frozen = config.replace("  freeze: null", "  freeze: [{from_epoch: 0, train: head}]")
    (run / "config.yaml").write_text(frozen, encoding="utf-8")
    said = capsys.readouterr().out
    assert "tensors matched, 0 missing, 0 unexpected; left behind: " in said and "head.bias" in said
    assert "longest sequence: 32 tokens" in said
    assert ("34 positions" in said and "first 2" in said) == (family in {"roberta", "xlm-roberta"})
    assert f"--tokenizer {Path('experiments/finetuning/ft/tokenizer')}" in said
    make_store(checkout, run / "tokenizer")
    capsys.readouterr()

    checkout.run(finetune.main, "ft", "--dry-run")
    assert "newly initialised: pooling." in capsys.readouterr().err
    assert not (run / "run.json").exists()
    checkout.run(finetune.main, "ft", "--quiet")

    loaded = load_run("ft")  # which reads the run's folder alone
    assert loaded.chunk_size == 32
    assert loaded.tokenizer.pad_token_id == (BERTS_PAD if family == "bert" else PAD)
    theirs = transformers.AutoModel.from_pretrained(folder).eval()  # the encoder was frozen, so it is theirs
    begin, end = loaded.tokenizer.cls_token_id, loaded.tokenizer.sep_token_id
    ids = torch.tensor([[begin, *range(5, 25), end]])
    mask = torch.zeros_like(ids, dtype=torch.bool)
    with torch.inference_mode():
        expected = theirs(input_ids=ids, attention_mask=(~mask).long()).last_hidden_state
        found = loaded.model.encoder(ids, mask)["last_hidden_state"]
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5
    architecture = torch.load(run / "model.ckpt", weights_only=True)["architecture"]
    assert architecture["dropouts"] == {"embedding": 0.1, "attention": 0.1, "hidden": 0.1}
    assert architecture["layer_norm_eps"] == 1e-4

    checkout.run(evaluate.main, "ft")
    out = checkout.root / "predictions.csv"
    checkout.run(predict.main, "ft", checkout.root / "corpus.jsonl", "--out", out)
    assert len(out.read_text(encoding="utf-8").splitlines()) == 91

    checkout.run(export.main, "ft", checkout.root / "exported")
    back = transformers.AutoModel.from_pretrained(checkout.root / "exported").eval()
    with torch.inference_mode():
        again = back(input_ids=ids, attention_mask=(~mask).long()).last_hidden_state
    assert float((again - expected).abs().max() / expected.abs().max()) < 1e-5
    text = json.loads((checkout.root / "corpus.jsonl").read_text(encoding="utf-8").splitlines()[0])["text"]
    (content,) = loaded.tokenizer.encode_batch([text])
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(checkout.root / "exported")
    assert their_tokenizer(text)["input_ids"] == [begin, *content.ids, end]


def test_a_resume_goes_on_with_the_same_weights_only(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_published(checkout.root / "published", checkout.root / "corpus.jsonl")
    run = generate(checkout, "ft", folder)
    make_store(checkout, run / "tokenizer")
    checkout.run(finetune.main, "ft", "--quiet")
    before = (run / "model.ckpt").read_bytes()
    checkout.run(finetune.main, "ft", "--quiet")  # finished: nothing changes
    # the same tensors in the other kind of file are the same weights
    state = safetensors.torch.load_file(folder / "model.safetensors")
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    folder = folder.rename(checkout.root / "moved")
    moved = ("--set", f"pretrained_experiment.from_hf={folder}", "--quiet")
    checkout.run(finetune.main, "ft", *moved)
    capsys.readouterr()

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"num_attention_heads": 4}), encoding="utf-8")
    assert finetune.main(["ft", *moved, "--allow-changed", "fingerprints.pretrained"]) == 4
    assert "encoder.attention.num_heads: " in capsys.readouterr().err
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    state["roberta.embeddings.LayerNorm.bias"] += 1
    torch.save(state, folder / "pytorch_model.bin")
    assert finetune.main(["ft", *moved]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert "add --allow-changed fingerprints.pretrained" in line
    assert (run / "model.ckpt").read_bytes() == before


def test_the_embeddings_are_trained_unless_a_phase_freezes_them(checkout: Checkout) -> None:
    folder = make_published(checkout.root / "published", checkout.root / "corpus.jsonl")
    run = generate(checkout, "ft", folder)
    make_store(checkout, run / "tokenizer")
    checkout.run(finetune.main, "ft", "--quiet")
    name = "embeddings.word_embeddings.weight"
    trained = torch.load(run / "model.ckpt", weights_only=True)["model"][f"encoder.{name}"]
    theirs = safetensors.torch.load_file(folder / "model.safetensors")[f"roberta.{name}"]
    assert not torch.equal(trained, theirs)


def test_a_name_on_the_hub_is_pinned_and_needs_no_network_once_it_is_cached(
    published: Path, checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = checkout.root / "cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert generate_finetuning_experiment.main(["ft", "--from-hf", "someone/tiny"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "someone/tiny" in line
    assert not (checkout.root / "experiments").exists()

    snapshot = put_into_cache(cache, published, name="someone/tiny")
    run = generate(checkout, "ft", Path("someone/tiny"))
    config = (run / "config.yaml").read_text(encoding="utf-8")
    assert f"  from_hf: someone/tiny@{COMMIT}\n" in config
    make_store(checkout, run / "tokenizer")
    checkout.run(finetune.main, "ft", "--quiet")
    resolved = (run / "config.resolved.yaml").read_text(encoding="utf-8")
    assert f"  from_hf: someone/tiny@{COMMIT}\n" in resolved
    checkout.run(export.main, "ft", "--to", "hf", checkout.root / "out")
    card = (checkout.root / "out" / "README.md").read_text(encoding="utf-8")
    assert '\nbase_model: "someone/tiny"\n' in card
    theirs = transformers.AutoTokenizer.from_pretrained(checkout.root / "out")
    ours = load_run("ft").tokenizer
    for text in ("the soil of\n a  rope", " leading", "", "<mask> is text </s>", "Ünïcode😀"):
        (encoding,) = ours.encode_batch([text])
        assert theirs(text)["input_ids"] == [ours.cls_token_id, *encoding.ids, ours.sep_token_id]
    put_into_cache(cache, published, name="someone/tiny", commit="f" * 40)  # a later one changes nothing
    (snapshot.parent / ("f" * 40) / "model.safetensors").unlink()
    checkout.run(finetune.main, "ft", "--quiet")

    at_random = ("--set", "pretrained_experiment.load_weights=false", "--overwrite")
    checkout.run(finetune.main, "ft", "--quiet", *at_random)
    checkout.run(export.main, "ft", checkout.root / "random")
    card = (checkout.root / "random" / "README.md").read_text(encoding="utf-8")
    assert "base_model" not in card and "started from random weights" in card


def test_a_chunk_longer_than_the_positions_allow_is_explained(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_published(checkout.root / "published", checkout.root / "corpus.jsonl")
    run = generate(checkout, "ft", folder, "--set", "chunking.chunk_size=34")
    make_store(checkout, run / "tokenizer")
    capsys.readouterr()
    assert finetune.main(["ft"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "chunking.chunk_size; found 34, expected at most 32" in line
    assert "34 positions of its config.json less the first 2" in line
    assert "PAD id 1" in line


def edit_config(**changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")

    return edit


def edit_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "model.safetensors"
        state = safetensors.torch.load_file(path)
        change(state)
        safetensors.torch.save_file(state, path)

    return edit


def another_tokenizer(folder: Path) -> None:
    save_tokenizer(train_byte_level_bpe(["a b"], vocab_size=263, min_frequency=1), folder)


NORM = "roberta.embeddings.LayerNorm.bias"
MISTAKES: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "no config": (
        lambda folder: (folder / "config.json").unlink(),
        4,
        "expected a folder in Hugging Face's layout: config.json",
    ),
    "no weights": (
        lambda folder: (folder / "model.safetensors").unlink(),
        4,
        "neither model.safetensors nor pytorch_model.bin",
    ),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), 3, "tokenizer.json"),
    "another model": (
        edit_config(model_type="gpt2"),
        4,
        "'gpt2', expected 'bert' or 'camembert' or 'deberta' or 'roberta' or 'xlm-roberta'",
    ),
    "another vocabulary": (another_tokenizer, 4, "disagree about the number of tokens"),
    "rows that no token has": (another_tokenizer, 4, "transformers' resize_token_embeddings("),
    "another PAD": (edit_config(pad_token_id=3), 4, "disagree about the id of the padding token"),
    "an eps of 0": (edit_config(layer_norm_eps=0), 4, "architecture.layer_norm_eps"),
    "a tensor missing": (edit_weights(lambda state: state.pop(NORM)), 4, "1 missing (embeddings.norm.bias)"),
    "a tensor too many": (
        edit_weights(lambda state: state.update({"roberta.adapter.weight": torch.zeros(1)})),
        4,
        "1 unexpected (adapter.weight)",
    ),
    "a tensor too many in a layer": (
        edit_weights(lambda state: state.update({"roberta.encoder.layer.0.lora.weight": torch.zeros(1)})),
        4,
        "1 unexpected (layers.0.lora.weight)",
    ),
    "another shape": (
        edit_weights(lambda state: state.update({NORM: torch.zeros(5)})),
        4,
        "embeddings.norm.bias has another shape",
    ),
}


@pytest.fixture(scope="module")
def published(prepared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_published(tmp_path_factory.mktemp("hf") / "published", prepared_folder / "corpus.jsonl")


@pytest.mark.parametrize("case", MISTAKES)
def test_a_folder_that_does_not_fit_is_refused_in_one_line_and_nothing_is_written(
    case: str, published: Path, checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = checkout.root / "broken"
    folder.mkdir()
    for path in published.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    break_it, code, words = MISTAKES[case]
    break_it(folder)
    assert generate_finetuning_experiment.main(["ft", "--from-hf", str(folder)]) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    assert words in lines[0]
    assert str(folder) in lines[0]
    assert not (checkout.root / "experiments").exists()


def test_a_larger_tokenizer_is_not_helped_by_cutting_rows(
    published: Path, checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(published, checkout.root / "larger"))
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens(["extra"])
    tokenizer.save(str(folder / "tokenizer.json"))
    assert generate_finetuning_experiment.main(["ft", "--from-hf", str(folder)]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("use the tokenizer that the weights were trained with")


def test_the_encoder_comes_from_one_place(
    published: Path, checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, word in (
        (["ft"], "neither"),
        (["ft", "pre", "--from-hf", str(published)], "both"),
        (["ft", "--from-hf", "nowhere"], "no such folder"),
        (["ft", "--from-hf", str(published), "--set", "pretrained_experiment.path=pre"], "follows from"),
        (["ft", "--from-hf", str(published), "--set", "pretrained_experiment.checkpoint=last"], "checkpoint"),
    ):
        assert generate_finetuning_experiment.main(arguments) == 2
        lines = capsys.readouterr().err.splitlines()
        assert word in lines[0] and all(line.startswith("error: ") for line in lines)
    assert not (checkout.root / "experiments").exists()
