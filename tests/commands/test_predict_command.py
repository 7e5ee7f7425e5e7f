"""``textclf predict`` on files and on stdin."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from end_to_end.conftest import PREDICTION_COLUMNS, Checkout

from textclf_transformer.commands import predict
from textclf_transformer.commands.prediction_lines import escape_cell
from textclf_transformer.evaluation.predict import predict as predict_texts


def run_ok(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert predict.main(list(arguments)) == 0
    return capsys.readouterr().out


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    code = predict.main(list(arguments))
    out, err = capsys.readouterr()
    assert err.count("\n") == 1 and err.startswith("error: ") and "Traceback" not in err
    assert out.count("\n") <= 1  # nothing but, perhaps, the header
    return code, err


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def give_stdin(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    stream = io.BufferedReader(io.BytesIO(text.encode("utf-8")))  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream, encoding="utf-8"))


def test_csv_in_the_order_of_the_input(finetuned: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(run_ok(capsys, "ft", "corpus.jsonl"))
    assert list(found[0]) == PREDICTION_COLUMNS
    assert [row["id"] for row in found] == [f"corpus:{number}" for number in range(1, 91)]
    assert {row["truncated"] for row in found} == {"true", "false"}
    for row in found:
        probs = {name: float(row[f"prob_{name}"]) for name in ("garden", "harbour", "kitchen")}
        assert row["label"] == max(probs, key=lambda name: probs[name])
        assert float(row["confidence"]) == max(probs.values())


def test_many_windows_keep_the_order(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = rows(run_ok(capsys, "ft", "corpus.jsonl"))
    monkeypatch.setattr("textclf_transformer.data.encoding.BATCH_DOCUMENTS", 7)
    parts = rows(run_ok(capsys, "ft", "corpus.jsonl"))
    assert [row["id"] for row in parts] == [row["id"] for row in whole]
    assert [row["label"] for row in parts] == [row["label"] for row in whole]


MEASURE = """
import resource, sys
from textclf_transformer.commands import predict
assert predict.main(sys.argv[1:]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_stays_flat_over_100_000_documents(finetuned: Checkout) -> None:
    generator = random.Random(0)
    peaks = []
    for count in (5_000, 100_000):
        with Path("many.jsonl").open("w", encoding="utf-8") as file:
            for _ in range(count):
                words = generator.choices(["soil", "seed", "ship", "tide", "oven", "people"], k=8)
                file.write(json.dumps({"text": " ".join(words)}) + "\n")
        line = [sys.executable, "-c", MEASURE, "experiments/finetuning/ft", "many.jsonl", "--out", "out.csv"]
        done = subprocess.run(line, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout) / 1024)  # in MB on Linux
        assert Path("out.csv").read_text(encoding="utf-8").count("\n") == count + 1
    assert peaks[1] < peaks[0] + 60


def test_jsonl_to_a_file_equals_csv(finetuned: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    as_csv = rows(run_ok(capsys, "ft", "corpus.jsonl"))
    assert run_ok(capsys, "ft", "corpus.jsonl", "--out", "out.jsonl") == ""
    lines = Path("out.jsonl").read_text(encoding="utf-8").splitlines()
    for row, line in zip(as_csv, lines, strict=True):
        record = json.loads(line)
        assert list(record) == PREDICTION_COLUMNS
        assert record["confidence"] == float(row["confidence"]) and record["label"] == row["label"]
        assert record["truncated"] is (row["truncated"] == "true")
    assert run_ok(capsys, "ft", "corpus.jsonl", "--out", "out.txt", "--format", "jsonl") == ""
    assert Path("out.txt").read_bytes() == Path("out.jsonl").read_bytes()


def test_formats_of_prepare(finetuned: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.csv").write_text("id,text\nx,soil seed\n", encoding="utf-8")
    Path("b.tsv").write_text("text\nship rope\n", encoding="utf-8")
    Path("c.txt").write_text("oven salt\n\nsoil\nroot\n", encoding="utf-8")
    with gzip.open("d.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write('{"text": "tide"}\n')
    Path("folder").mkdir()
    Path("folder/one.txt").write_text("crane anchor", encoding="utf-8")
    found = rows(run_ok(capsys, "ft", "a.csv", "b.tsv", "c.txt", "d.jsonl.gz", "folder"))
    assert [row["id"] for row in found] == ["x", "b:1", "c:1", "c:2", "d:1", "one.txt"]


@pytest.mark.parametrize(
    ("text", "more", "ids"),
    [
        ('{"text": "soil", "id": "a"}\n{"text": "ship"}\n', [], ["a", "stdin:2"]),
        ("soil seed\n\nship rope\n", [], ["stdin:1", "stdin:2"]),
        ("{soil}\n", ["--stdin-format", "txt"], ["stdin:1"]),
        ("text,id\nsoil,q\n", ["--stdin-format", "csv"], ["q"]),
        ('\ufeff"id","text"\r\nq,"soil, seed"\r\n', [], ["q"]),
        ("id\ttext\nq\tsoil\n", [], ["q"]),
        ("text\nsoil\nship\n", [], ["stdin:1", "stdin:2"]),
        ("id,body\nq,soil\n", ["--text-column", "body"], ["q"]),
        ("the text, as it is\n\nship\n", [], ["stdin:1", "stdin:2"]),
    ],
)
def test_stdin(
    finetuned: Checkout,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    more: list[str],
    ids: list[str],
) -> None:
    give_stdin(monkeypatch, text)
    assert [row["id"] for row in rows(run_ok(capsys, "ft", "-", *more))] == ids


def test_stdin_lies_in_no_folder(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name is that of no file here, so it is no part of the folder beside it."""
    folder = Path("texts")
    folder.mkdir()
    (folder / "one.txt").write_text("ship rope\n", encoding="utf-8")
    monkeypatch.chdir(folder)
    for inputs, ids in ((["-", "."], ["stdin:1", "one.txt"]), ([".", "-"], ["one.txt", "stdin:1"])):
        give_stdin(monkeypatch, "soil seed\n")
        assert [row["id"] for row in rows(run_ok(capsys, "ft", *inputs))] == ids


def test_explain_in_both_formats(finetuned: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [
        json.loads(line)["text"] for line in Path("corpus.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    found = rows(run_ok(capsys, "ft", "corpus.jsonl", "--explain"))
    records = run_ok(capsys, "ft", "corpus.jsonl", "--explain", "--format", "jsonl").splitlines()
    for text, row, line in zip(texts, found, records, strict=True):
        passages = json.loads(row["passages"])
        assert passages == json.loads(line)["passages"]
        assert 1 <= len(passages) <= int(row["n_chunks"])
        for passage in passages:
            assert text[passage["start"] : passage["end"]] == passage["text"]
            assert 0 <= passage["attention_weight"] <= 1
            assert (passage["occlusion_drop"] is None) == (row["n_chunks"] == "1")


def test_cells_that_begin_a_formula_are_escaped(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = ["=cmd()", "+1", "-1", "@x", "plain", "a=b", 'quo"te, and comma']
    lines = [json.dumps({"id": name, "text": "soil"}) + "\n" for name in ids]
    Path("in.jsonl").write_text("".join(lines), encoding="utf-8")
    found = [row["id"] for row in rows(run_ok(capsys, "ft", "in.jsonl"))]
    assert found == ["'=cmd()", "'+1", "'-1", "'@x", "plain", "a=b", 'quo"te, and comma']
    exact = run_ok(capsys, "ft", "in.jsonl", "--format", "jsonl").splitlines()
    assert [json.loads(line)["id"] for line in exact] == ids
    assert escape_cell("\t=1") == "'\t=1" and escape_cell("") == ""


def test_a_terminal_is_not_driven_by_an_id(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = json.dumps({"id": "\x1b[2Jgone", "text": "soil"}) + "\n"
    Path("in.jsonl").write_text(line, encoding="utf-8")
    capsys.readouterr()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert predict.main(["ft", "in.jsonl"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\\x1b[2Jgone" in out


def test_empty_documents_are_an_error_or_are_left_out(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in.jsonl").write_text('{"text": "soil"}\n{"text": "\\u200b"}\n{"text": "ship"}\n', encoding="utf-8")
    code, message = fails(capsys, "ft", "in.jsonl")
    assert code == 3 and "in.jsonl:2" in message and "--skip-empty" in message
    capsys.readouterr()
    assert predict.main(["ft", "in.jsonl", "--skip-empty"]) == 0
    out, err = capsys.readouterr()
    assert [row["id"] for row in rows(out)] == ["in:1", "in:3"]
    assert "left out: 1" in err


def test_what_labels_do_not_tell_is_told_beside_them(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "SECONDS_BETWEEN_LINES", -1.0)
    Path("in.jsonl").write_text(
        json.dumps({"text": "soil " * 500}) + '\n{"text": "ship"}\n', encoding="utf-8"
    )
    capsys.readouterr()
    assert predict.main(["ft", "in.jsonl", "--out", "out.csv"]) == 0
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "1 document …",
        "2 documents …",
        "2 documents classified; 1 longer than what max_chunks = 4 reads",
    ]
    assert predict.main(["ft", "in.jsonl", "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    Path("void.jsonl").write_text("", encoding="utf-8")
    assert predict.main(["ft", "void.jsonl", "--quiet"]) == 0
    assert capsys.readouterr().err == "warning: the input holds no document\n"


def test_text_that_the_tokenizer_does_not_know_is_told(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ("soil soil soil", "今日は良い天気です", "soil שלום", "soil ship שלום")
    lines = [json.dumps({"id": f"d{place}", "text": text}) for place, text in enumerate(texts)]
    Path("in.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert predict.main(["ft", "in.jsonl", "--quiet"]) == 0
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("warning: half or more of the text of 2 documents is unknown to the tokenizer")
    assert "the first is d1;" in told
    with pytest.warns(
        UserWarning, match="the text of 1 document is unknown to the tokenizer, the first is 1"
    ):
        predict_texts("ft", ["soil", "今日は"])


def test_an_input_without_documents_among_others_is_told(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty.jsonl").write_text("")
    assert predict.main(["ft", "empty.jsonl", "corpus.jsonl", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert len(rows(out)) == 90 and err == "warning: empty.jsonl holds no document\n"


def test_an_input_that_is_not_there_is_named_before_the_model_is_loaded(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "load_run", lambda *_, **__: pytest.fail("the model was loaded"))
    for name, words in (("missing.jsonl", "no such file"), ("store/train/header.json", "unknown format")):
        code, message = fails(capsys, "ft", "corpus.jsonl", name)
        assert code == 3 and words in message


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nobody", "corpus.jsonl"], 2, "no such finetuning run"),
        (["pre", "corpus.jsonl"], 2, "found a pretraining run pre, which classifies nothing yet"),
        (["ft", "missing.jsonl"], 3, "missing.jsonl"),
        (["ft", "tokenizer/tokenizer.json"], 3, "unknown format"),
        (["ft", "corpus.jsonl", "--text-column", "body"], 3, "'body'"),
        (["ft", "bad.jsonl"], 3, "bad.jsonl:1"),
        (["ft", "-", "-"], 2, "standard input"),
        (["ft", "corpus.jsonl", "./corpus.jsonl"], 3, "named twice"),
        (["ft", "corpus.jsonl", "--out", "./corpus.jsonl"], 2, "replace an input"),
        (
            ["nobody", "corpus.jsonl", "--out", "nowhere/out.csv"],
            2,
            "no such folder to write",
        ),
        (["nobody", "corpus.jsonl", "--out", "store"], 2, "this is a folder; --out store"),
        (["ft", "corpus.jsonl", "--format", "xml"], 2, "xml"),
        (["ft"], 2, "INPUT"),
    ],
)
def test_mistakes(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    Path("bad.jsonl").write_text("no json\n", encoding="utf-8")
    found, message = fails(capsys, *arguments)
    assert found == code and words in message


def test_a_fault_halfway_leaves_the_old_file(finetuned: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out.csv").write_text("old", encoding="utf-8")
    Path("in.jsonl").write_text('{"text": "soil"}\n{"txt": "ship"}\n', encoding="utf-8")
    before = sorted(Path().iterdir())
    code, message = fails(capsys, "ft", "in.jsonl", "--out", "out.csv")
    assert code == 3 and "in.jsonl:2" in message
    assert Path("out.csv").read_text(encoding="utf-8") == "old"
    assert sorted(Path().iterdir()) == before


def test_a_damaged_checkpoint(finetuned: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    path = finetuned.root / "experiments/finetuning/ft/best.ckpt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    code, message = fails(capsys, "ft", "corpus.jsonl")
    assert code == 4 and "best.ckpt" in message


def test_a_dirty_input_stream_is_named(
    finetuned: Checkout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    give_stdin(monkeypatch, '{"text": "soil"}\n{"text": \n')
    code, message = fails(capsys, "ft", "-")
    assert code == 3 and "-:2" in message


@pytest.mark.parametrize(
    ("text", "more", "warnings"),
    [
        ("id;text\r\n1;a ship\r\n", [], 1),
        ("id;text\r\n1;a ship\r\n", ["--stdin-format", "txt"], 0),
        ("id\ttitle\r\n1\ta ship\r\n", [], 1),
        ('{"text": "soil"}\n', [], 0),
        ("A ship, a harbour; soil.\n", [], 0),
        ("soil\n", [], 0),
    ],
)
def test_a_table_that_is_taken_for_plain_text_is_told(
    finetuned: Checkout,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    more: list[str],
    warnings: int,
) -> None:
    give_stdin(monkeypatch, text)
    capsys.readouterr()
    assert predict.main(["ft", "-", *more]) == 0
    error = capsys.readouterr().err
    assert error.count("--stdin-format") == warnings
