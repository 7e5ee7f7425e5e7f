"""Texts, labels and values of configs are shown as they are written, and never acted on; no key is shown."""

from __future__ import annotations

import csv
import json
import os
from html.parser import HTMLParser
from pathlib import Path

import pytest
from end_to_end.conftest import Checkout
from markdown_it import MarkdownIt
from torture import hostile
from torture.refusals import refused

import finetune
import pretrain
from textclf_transformer.commands import audit, evaluate, export, predict, prepare, report


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
