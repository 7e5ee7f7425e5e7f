from __future__ import annotations

import json
from pathlib import Path

import pytest

from textclf_transformer.commands import train_tokenizer
from textclf_transformer.commands.train_tokenizer import main
from textclf_transformer.data.encoding import PIECE_CHARACTERS
from textclf_transformer.tokenizer.loading import load_tokenizer, tokenizer_kind

TEXTS = ["The cat sat on the mat", "a dog ran over the road", "no more than a few words"] * 5


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["wordpiece", "byte_bpe"])
def test_writes_a_folder_that_loads(
    source: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tok"
    assert main([str(source), "--out", str(out), "--kind", kind, "--vocab-size", "300"]) == 0
    assert tokenizer_kind(out) == kind
    tokenizer = load_tokenizer(kind, out)
    assert tokenizer.decode(tokenizer.encode_batch(["the cat"])[0].ids) == "the cat"
    printed = capsys.readouterr().out
    assert str(tokenizer.vocab_size) in printed
    assert "documents   15" in printed
    assert f"textclf prepare {source} --tokenizer {out}" in printed


def test_flags_reach_the_training(source: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.csv"
    plain.write_text("body\nThe cat\nThe cat\nthe dog\n ,\n".replace(" ,", '" "'), encoding="utf-8")
    out = tmp_path / "tok"
    arguments = [
        "--text-column",
        "body",
        "--skip-empty",
        "--cased",
        "--min-frequency",
        "2",
        "--vocab-size",
        "100",
    ]
    assert main([str(plain), "--out", str(out), *arguments]) == 0
    tokens = load_tokenizer("wordpiece", out).encode_batch(["The the dog"])[0].tokens
    assert tokens[0] == "The"
    assert "dog" not in tokens  # its pairs of pieces occur once


@pytest.mark.parametrize(
    ("text", "flags", "said"),
    [("học tiếng Việt", [], True), ("học tiếng Việt", ["--cased"], False), ("learn English", [], False)],
)
def test_accents_that_stay_are_told_of(
    text: str, flags: list[str], said: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.txt").write_text(text, encoding="utf-8")
    assert (
        main([str(tmp_path / "in.txt"), "--out", str(tmp_path / "tok"), "--vocab-size", "300", *flags]) == 0
    )
    assert ("accents     kept" in capsys.readouterr().out) == said


def test_same_input_gives_the_same_files(source: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert main([str(source), "--out", str(tmp_path / name), "--vocab-size", "200"]) == 0
    for file in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize("flag", ["--min-frequency=-5", f"--min-frequency={2**70}", f"--vocab-size={2**70}"])
@pytest.mark.parametrize("kind", ["wordpiece", "byte_bpe"])
def test_numbers_of_no_use(
    source: Path, tmp_path: Path, flag: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(source), "--out", str(tmp_path / "tok"), "--kind", kind, flag]) == 2
    assert f"found {flag.split('=')[1]}, expected" in capsys.readouterr().err
    assert not (tmp_path / "tok").exists()


def test_a_tokenizer_is_replaced_only_with_overwrite(source: Path, tmp_path: Path) -> None:
    arguments = [str(source), "--out", str(tmp_path / "tok"), "--vocab-size"]
    assert main([*arguments, "200"]) == 0
    before = (tmp_path / "tok" / "tokenizer.json").read_bytes()
    assert main([*arguments, "300"]) == 2
    assert main([*arguments, "5", "--overwrite"]) == 2
    assert (tmp_path / "tok" / "tokenizer.json").read_bytes() == before
    assert main([*arguments, "300", "--overwrite", "--kind", "byte_bpe"]) == 0
    assert tokenizer_kind(tmp_path / "tok") == "byte_bpe"
    (tmp_path / "tok" / "model.ckpt").write_text("x", encoding="utf-8")
    assert main([*arguments, "300", "--overwrite"]) == 2
    assert (tmp_path / "tok" / "model.ckpt").exists()


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [("", 3, "no documents"), ("{\n", 3, "in.jsonl:1"), ('{"text": ""}\n', 3, "text is empty")],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    tmp_path: Path, content: str, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(content, encoding="utf-8")
    assert main([str(path), "--out", str(tmp_path / "tok"), "--quiet"]) == code
    captured = capsys.readouterr().err
    assert message in captured
    assert captured.count("\n") == 1
    assert [found.name for found in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize("kind", ["wordpiece", "byte_bpe"])
def test_a_long_document_comes_in_pieces_that_have_its_words(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"{first}{second}{third}" for first in "abcdefgh" for second in "ijklmnop" for third in "qrstuv"]
    text = " ".join(words[place * place % len(words)] for place in range(3 * PIECE_CHARACTERS // 4))
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps({"text": text}), encoding="utf-8")
    longest = []

    def watched(texts, **options):
        longest.append(max(map(len, texts)))
        return learn(texts, **options)

    name = {"wordpiece": "train_wordpiece", "byte_bpe": "train_byte_level_bpe"}[kind]
    learn = getattr(train_tokenizer, name)
    monkeypatch.setattr(train_tokenizer, name, watched)
    files = []
    for pieces_of in (train_tokenizer.pieces_of, lambda text: [(0, text)]):
        monkeypatch.setattr(train_tokenizer, "pieces_of", pieces_of)
        out = tmp_path / f"tok{len(files)}"
        assert main([str(source), "--out", str(out), "--kind", kind, "--vocab-size", "400"]) == 0
        files.append((out / "tokenizer.json").read_bytes())
    assert files[0] == files[1]
    assert longest[0] < 1.01 * PIECE_CHARACTERS < longest[1] == len(text)
