"""Opening a file never runs code from it and takes no memory it does not fill; names and texts stay in place.

Each file goes the way that a user would send it: through a command. A canary tells whether code ran, and a
control shows that it would have, had the reader been careless.
"""

from __future__ import annotations

import csv
import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from end_to_end.conftest import Checkout
from markdown_it import MarkdownIt
from torture import hostile

import finetune
import pretrain
from experiments import generate_finetuning_experiment, generate_pretraining_experiment
from textclf_transformer.commands import audit, evaluate, export, predict, prepare, report
from textclf_transformer.errors import UserError
from textclf_transformer.experiment import RunFolder
from textclf_transformer.safe_load import safe_load
from textclf_transformer.training.checkpoint import load_checkpoint, save_checkpoint

Main = Callable[[Sequence[str]], int]

EVIL = """
from pathlib import Path
Path({canary!r}).touch()
from textclf_transformer.tokenizer.wordpiece_tokenizer_wrapper import WordPieceTokenizerWrapper as Evil
"""


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def refused(capsys: pytest.CaptureFixture[str], code: int, named: str, main: Main, *arguments: object) -> str:
    """Run a command that must refuse: with this exit code, one line that names what is wrong, no fault."""
    capsys.readouterr()
    found = main([str(argument) for argument in arguments])
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert errors
    assert (found, named in errors[0], "fault of ours" in errors[0]) == (code, True, False), errors
    assert all(line.isprintable() for line in errors)
    return errors[0]


@pytest.mark.filterwarnings("ignore:Duplicate name", "ignore:.torch.jit")
def test_no_pickle_runs(tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = hostile.hostile_files(tmp_path, canary)
    assert len(files) >= 21
    for variable in ("0", "1"):
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", variable)
        for name, path in files.items():
            with pytest.raises(UserError) as caught:
                safe_load(path)
            assert path.name in str(caught.value), name
            assert not canary.exists(), name
    assert "canary_module" not in sys.modules


@pytest.mark.filterwarnings("ignore:Duplicate name", "ignore:.torch.jit")
def test_a_careless_reader_would_have_run_them(tmp_path: Path, canary: Path) -> None:
    files = hostile.hostile_files(tmp_path, canary)
    assert files.keys() > hostile.SILENT
    for name, path in files.items():
        if name in hostile.SILENT:
            continue
        if path.read_bytes()[:2] == b"PK" or name == "torch's old format":
            try:
                torch.load(path, weights_only=False)
            except AssertionError:  # torch 2.10 stops at a size before it comes to the call
                assert name == "in the state of a class that may be read"
                continue
        else:
            pickle.loads(path.read_bytes())  # what the warning is about
        assert canary.exists(), name
        canary.unlink()


def test_torch_alone_would_take_the_memory(tmp_path: Path, canary: Path) -> None:
    """What zipfile finds in these files is harmless; what torch finds makes a file of 1 kB take 50 MB."""
    for name, path in hostile.two_faced_files(tmp_path).items():
        assert path.stat().st_size < 2000, name
        assert len(torch.load(path, weights_only=True)) == hostile.MUCH, name


def test_no_command_runs_what_lies_in_its_files(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str], canary: Path, tmp_path: Path
) -> None:
    evil = tmp_path / "evil.pt"
    torch.save({"model": hostile.payloads(canary)["os.system"]}, evil)
    runs = finetuned.root / "experiments"
    refused(capsys, 3, "evil.pt", pretrain.main, "pre", "--set", f"data.train.dataset_path={evil}")
    shutil.copy(evil, runs / "finetuning" / "ft" / "best.ckpt")
    refused(capsys, 4, "best.ckpt", evaluate.main, "ft")
    refused(capsys, 4, "best.ckpt", predict.main, "ft", "corpus.jsonl")
    finetuned.finetuning("again", "pre")
    for name in ("model.ckpt", "model.ckpt.prev", "best.ckpt"):
        shutil.copy(evil, runs / "pretraining" / "pre" / name)
    refused(capsys, 4, "model.ckpt.prev", pretrain.main, "pre")
    refused(capsys, 4, "best.ckpt", finetune.main, "again")
    refused(capsys, 4, "evil.pt", finetune.main, "again", "--set", f"pretrained_experiment.checkpoint={evil}")
    published = tmp_path / "published"
    published.mkdir()
    shutil.copytree(finetuned.root / "tokenizer", published, dirs_exist_ok=True)
    shutil.copy(evil, published / "pytorch_model.bin")
    config = {"model_type": "roberta", "auto_map": {"AutoModel": "modeling_evil.Evil"}, "vocab_size": 200}
    (published / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (published / "modeling_evil.py").write_text(EVIL.format(canary=str(canary)), encoding="utf-8")
    refused(
        capsys,
        4,
        str(published),
        generate_finetuning_experiment.main,
        "fromhf",
        "--from-hf",
        published,
        "--set",
        f"data.train.dataset_path={finetuned.root / 'store' / 'train'}",
    )
    assert not canary.exists()


def test_no_string_is_imported_without_consent_on_the_command_line(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str], canary: Path
) -> None:
    code = EVIL.format(canary=str(canary))
    (finetuned.root / "evil.py").write_text(code, encoding="utf-8")
    (finetuned.root / "textclf_transformer").mkdir()
    (finetuned.root / "textclf_transformer" / "evil.py").write_text(code, encoding="utf-8")
    checkout = finetuned.root / "experiments"
    names = [
        "evil.py:Evil",
        f"{finetuned.root / 'evil.py'}:Evil",
        "./evil.py:Evil",
        "evil:Evil",
        "textclf_transformer/../evil.py:Evil",
        "textclf_transformer/evil.py:Evil",
        "textclf_transformer.evil:Evil",
        "textclf_transformer.utils:Path",
        "textclf_transformer.tokenizer.base:Tokenizer",
        "textclf_transformer.commands.common:CommandParser",
        "os:system",
        "builtins:eval",
        "logging.os:system",
    ]
    fine = checkout / "finetuning" / "ft" / "best.ckpt"
    pre = checkout / "pretraining" / "pre" / "best.ckpt"
    good = {path: load_checkpoint(path) for path in (fine, pre)}
    finetuned.finetuning("again", "pre")
    for name in names:
        refused(capsys, 2, "", pretrain.main, "pre", "--set", f"tokenizer.wrapper_path={name}")
        for path, main, arguments in (
            (fine, predict.main, ["ft", "corpus.jsonl"]),
            (pre, finetune.main, ["again"]),
        ):
            facts = {**good[path]["tokenizer"], "wrapper_path": name}
            save_checkpoint(path, {**good[path], "tokenizer": facts})
            refused(capsys, 2, "", main, *arguments)
        assert not canary.exists(), name
    # a consent that is written down is none: neither in the config nor in the checkpoint
    facts = {**good[fine]["tokenizer"], "wrapper_path": f"{finetuned.root / 'evil.py'}:Evil"}
    save_checkpoint(fine, {**good[fine], "tokenizer": facts, "trust_code": True})
    refused(capsys, 2, "--trust-code", predict.main, "ft", "corpus.jsonl")
    refused(capsys, 2, "trust_code", pretrain.main, "pre", "--set", "tokenizer.trust_code=true")
    assert not canary.exists()
    # the control: with consent it runs
    assert predict.main(["ft", "corpus.jsonl", "--trust-code"]) == 0
    assert canary.exists()


def test_bombs_are_refused_before_they_take_memory(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = finetuned.root
    hostile.write_zip_bomb(tmp_path / "zipbomb.pt")
    hostile.write_expanded_tensor(tmp_path / "expanded.pt")
    hostile.write_gzip_bomb(tmp_path / "bomb.jsonl.gz", megabytes=60)
    (tmp_path / "deep.jsonl").write_text('{"text": ' + "[" * 200_000 + "\n", encoding="utf-8")
    monkeypatch.setattr("textclf_transformer.data.text_files.MAX_LINE_BYTES", 1 << 20)
    header = json.loads((root / "store" / "train" / "header.json").read_text(encoding="utf-8"))
    shutil.copytree(root / "store" / "train", tmp_path / "claims")
    claims = {**header, "documents": 10**15, "tokens": 10**15, "header_checksum": 0}
    (tmp_path / "claims" / "header.json").write_text(json.dumps(claims), encoding="utf-8")
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text("[" * 500_000, encoding="utf-8")
    config = root / "experiments" / "pretraining" / "pre" / "config.yaml"
    text = config.read_text(encoding="utf-8")
    tokenizer = ["--tokenizer", root / "tokenizer"]
    with hostile.little_memory(150 << 20):
        for name in ("zipbomb.pt", "expanded.pt"):
            place = f"data.train.dataset_path={tmp_path / name}"
            refused(capsys, 3, name, pretrain.main, "pre", "--set", place)
        place = f"data.train.dataset_path={tmp_path / 'claims'}"
        refused(capsys, 3, "header.json", pretrain.main, "pre", "--set", place)
        for name in ("bomb.jsonl.gz", "deep.jsonl"):
            refused(capsys, 3, name, prepare.main, tmp_path / name, "--out", tmp_path / "s", *tokenizer)
        place = f"tokenizer.vocab_dir={tmp_path / 'tokenizer'}"
        refused(capsys, 3, "tokenizer.json", pretrain.main, "pre", "--set", place)
        for bomb in (
            hostile.yaml_bomb(),
            "a: " + "[" * 100_000,
            "a: 1\n" * 1_000_000,
            "a: !!python/name:os.system x",
        ):
            config.write_text(bomb, encoding="utf-8")
            refused(capsys, 2, "config.yaml", pretrain.main, "pre")
    config.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("header_bytes", [None, 10**18, 100])
def test_weights_that_claim_more_than_they_hold_are_refused(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str], tmp_path: Path, header_bytes: int | None
) -> None:
    published = tmp_path / "published"
    shutil.copytree(finetuned.root / "tokenizer", published)
    config = {"model_type": "roberta", "hidden_size": 24, "num_attention_heads": 3, "vocab_size": 10**12}
    (published / "config.json").write_text(json.dumps(config), encoding="utf-8")
    hostile.write_safetensors_bomb(published / "model.safetensors", header_bytes=header_bytes)
    with hostile.little_memory():
        refused(capsys, 4, str(published), generate_finetuning_experiment.main, "x", "--from-hf", published)


@pytest.mark.parametrize("name", hostile.NAMES)
def test_no_name_leaves_the_folder(
    checkout: Checkout, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    before = sorted(path for path in tmp_path.rglob("*"))
    generators = (generate_pretraining_experiment.main, generate_finetuning_experiment.main)
    for main, more in zip(
        (*generators, pretrain.main, finetune.main), (["--"], ["pre", "--"], [], []), strict=True
    ):
        arguments = [*more, name] if name.startswith("-") else [name, *more[:-1]]
        refused(capsys, 2, "", main, *arguments)
    if "/" not in name and name not in {".", ".."}:  # these are paths, and a path may lead anywhere
        refused(capsys, 2, "", predict.main, *(["--"] if name.startswith("-") else []), name, "corpus.jsonl")
    assert sorted(path for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "place", ["../x.csv", "/tmp/x.csv", "C:\\x.csv", "a/../../x.csv", "model.ckpt/x.csv", "x"]
)
def test_no_path_in_a_config_leads_out_of_the_run(
    checkout: Checkout, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    checkout.pretraining("pre")
    refused(capsys, 2, "logging.train_csv", pretrain.main, "pre", "--set", f"logging.train_csv={place}")


def test_links_in_the_place_of_folders_are_refused(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(finetuned.root / "experiments" / "pretraining" / "pre", elsewhere)
    (elsewhere / "precious").write_text("x", encoding="utf-8")
    run = RunFolder.locate("pretraining", "linked").root
    run.symlink_to(elsewhere)
    refused(capsys, 2, "symbolic link", pretrain.main, "linked", "--overwrite")
    out = tmp_path / "out"
    out.symlink_to(elsewhere)
    arguments = ["corpus.jsonl", "--out", out, "--tokenizer", "tokenizer", "--overwrite"]
    refused(capsys, 2, "symbolic link", prepare.main, *arguments)
    # a link inside a run is removed by --overwrite, what it points to is not
    inside = RunFolder.locate("pretraining", "pre").root / "metrics"
    shutil.rmtree(inside)
    inside.symlink_to(elsewhere)
    refused(capsys, 2, "leads out", pretrain.main, "pre")
    assert pretrain.main(["pre", "--overwrite", "--quiet"]) == 0
    assert (elsewhere / "precious").exists()
    assert not inside.is_symlink()


def test_a_run_json_of_another_meaning_is_passed_over(pretrained: Checkout) -> None:
    """It holds nothing that a run needs, so a hostile one costs its figures and no more."""
    path = pretrained.root / "experiments" / "pretraining" / "pre" / "run.json"
    for content in (
        "[" * 500_000,
        "[1, 2]",
        '{"status": "finished", "test": {"loss": 2}, "data": 5}',
        '{"environment": {"torch": "<b>"}, "data": {"<b>": {}, "train": {}}, "best": {"loss": "low"}}',
        "\x00",
    ):
        path.write_text(content, encoding="utf-8")
        assert report.main(["pre", "--quiet"]) == 0
        assert export.main(["pre", "out", "--to", "hf", "--overwrite"]) == 0
        assert "<b>" not in Path("out/README.md").read_text(encoding="utf-8")
        assert pretrain.main(["pre", "--quiet"]) == 0
        assert json.loads(path.read_text(encoding="utf-8"))["test"] is None


class Page(HTMLParser):
    """What a browser makes of a page: its elements, attributes and links, and the text that is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.text = ""

    @classmethod
    def read(cls, path: Path) -> Page:
        page = cls()
        page.feed(path.read_text(encoding="utf-8"))
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in {"href", "src", "xlink:href"}]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def hostile_run(pretrained: Checkout) -> Checkout:
    """A finetuning run on documents whose texts, ids and labels are all hostile."""
    lines = []
    for number in range(6 * len(hostile.TEXTS)):
        label = list(hostile.TEXTS.values())[number % len(hostile.TEXTS)]
        text = f"people with a garden said {label} and {label} with the ship {number}"
        lines.append(json.dumps({"text": text, "label": label, "id": f"{label}{number}"}) + "\n")
    (pretrained.root / "hostile.jsonl").write_text("".join(lines), encoding="utf-8")
    return pretrained


def test_hostile_texts_and_labels_are_shown_and_never_acted_on(
    hostile_run: Checkout, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = hostile_run.root
    out = tmp_path / "hostile"
    split = ["--split", "0.5/0.25/0.25", "--seed", "1"]
    capsys.readouterr()
    arguments = ["hostile.jsonl", "--out", out, "--tokenizer", root / "tokenizer", *split]
    assert prepare.main([str(argument) for argument in arguments]) == 0
    assert audit.main([str(out)]) in {0, 3}  # 3: it finds the documents too much alike, and they are
    hostile_run.finetuning("ft", "pre")
    settings = [f"data.{part}.dataset_path={out / part}" for part in ("train", "val", "test")]
    flags = [word for setting in (*settings, "training.epochs=1") for word in ("--set", setting)]
    assert finetune.main(["ft", *flags]) == 0
    assert evaluate.main(["ft", "--data", str(out / "test")]) == 0
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        allowed = {char for char in text if not char.isprintable()} - {"\n"}
        assert not allowed, f"raw control characters {sorted(map(repr, allowed))}"
    for name in ("rich markup", "broken markup", "html", "yaml", "percent"):
        assert hostile.TEXTS[name] in shown.out, name  # as it is written, not taken for markup
    assert r"\x1b[2J" in shown.out
    assert predict.main(["ft", "hostile.jsonl", "--out", "predictions.csv"]) == 0
    with Path("predictions.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 6 * len(hostile.TEXTS)
    for row in rows:
        assert not row["id"].startswith(("=", "+", "-", "@", "\t", "\r"))
        assert not row["label"].startswith(("=", "+", "-", "@", "\t", "\r"))
    assert sum(row["id"].startswith("'") for row in rows) == 6 * 3
    assert report.main(["ft"]) == 0
    page = Page.read(root / "experiments" / "finetuning" / "ft" / "report.html")
    assert export.main(["ft", "--to", "hf", str(tmp_path / "exported")]) == 0
    card = (tmp_path / "exported" / "README.md").read_text(encoding="utf-8")
    assert all(char.isprintable() or char == "\n" for char in card)
    tokens = [
        token
        for block in MarkdownIt().enable("table").parse(card)
        for token in (block, *(block.children or ()))
    ]
    assert not [token for token in tokens if token.type.startswith("html")]
    assert [token.content for token in tokens if token.type == "code_inline"].count(
        hostile.TEXTS["html"]
    ) == 1
    assert "big" not in [token.content for token in tokens if token.type == "inline"]
    assert hostile.TEXTS["html"] in page.text
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert not {name for name in page.attributes if name.startswith("on")}
    assert "javascript:" not in " ".join(page.links)
    assert all(link == "data:," or link.startswith(("#", "data:image/")) for link in page.links)
    assert not Path("/tmp/evil").exists()
    assert not (tmp_path / "evil").exists()


def test_hostile_values_in_messages_are_one_printable_line(
    checkout: Checkout, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    checkout.pretraining("pre")
    for text in hostile.TEXTS.values():
        bad = tmp_path / "bad.jsonl"
        bad.write_text(json.dumps({"text": [text], "label": text}) + "\n", encoding="utf-8")
        refused(
            capsys, 3, "bad.jsonl", prepare.main, bad, "--out", tmp_path / "s", "--tokenizer", "tokenizer"
        )
        refused(capsys, 2, "", pretrain.main, "pre", "--set", f"training.device={text}")
        refused(capsys, 2, "", pretrain.main, "pre", "--set", f"{text}=1")
        if os.sep not in text:
            refused(capsys, 2, "", predict.main, text, "corpus.jsonl")


def test_keys_and_passwords_are_kept_out_of_configs(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = checkout.pretraining("pre")
    for key in ("api_key", "wandb_api_key", "password", "secret", "token"):
        line = refused(capsys, 2, key, pretrain.main, "pre", "--set", f"logging.{key}=hunter2")
        assert "hunter2" not in line
    assert "hunter2" not in (folder / "config.yaml").read_text(encoding="utf-8")
