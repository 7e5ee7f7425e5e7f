"""The report shows what the evaluation says, lets no text become markup, and is complete in itself."""

from __future__ import annotations

import base64
import copy
import csv
import dataclasses
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from end_to_end.conftest import Checkout

from textclf_transformer.commands import evaluation_tables
from textclf_transformer.data.store import Store
from textclf_transformer.data.text_files import Document
from textclf_transformer.evaluation import full_evaluation
from textclf_transformer.evaluation import report as report_module
from textclf_transformer.evaluation.explain import Passage
from textclf_transformer.evaluation.full_evaluation import evaluate_run
from textclf_transformer.evaluation.loaded_run import LoadedRun, load_run
from textclf_transformer.evaluation.predict import Prediction
from textclf_transformer.evaluation.report import MOST_LABELS_SHOWN, Report, make_report
from textclf_transformer.evaluation.report_documents import (
    _chunks,
    _shown,
    choose_documents,
    shown_documents,
)
from textclf_transformer.evaluation.report_page import duration, encoded, interval, number, short, signed
from textclf_transformer.evaluation.report_run import read_record
from textclf_transformer.experiment import RunFolder
from textclf_transformer.training.checkpoint import load_checkpoint, save_checkpoint

HOSTILE = '<script>document.title="caught"</script><img src=x onerror=alert(1)>'


class Elements(HTMLParser):
    """Collects what a browser would make of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def folder(finetuned_folder: Path) -> RunFolder:
    return RunFolder.at(finetuned_folder / "experiments" / "finetuning" / "ft")


@pytest.fixture(scope="module")
def report(folder: RunFolder) -> Report:
    return make_report(folder, documents=6)


def assert_complete_in_itself(page: str) -> None:
    for tag, attributes in Elements(page).tags:
        assert tag not in {"script", "iframe", "object", "embed", "base", "form"}
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("src", "href", "xlink:href", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), attributes
    assert "url(http" not in page and "@import" not in page


def test_the_page_says_what_the_evaluation_says(report: Report, folder: RunFolder) -> None:
    run = load_run(folder.root)
    store = Store.open(folder.root.parents[2] / "store" / "test")
    expected = evaluate_run(run, store)
    page = report.html()
    assert_complete_in_itself(page)
    text = Elements(page).text
    model = expected["scores"][0]
    assert f"On {len(store)} test documents this model gets {100 * model['accuracy']:.1f} % right" in text
    for row in expected["scores"]:
        assert f"{row['name']} {100 * row['accuracy']:.1f} %" in text
        low, high = row["intervals_95"]["mcc"]
        assert f" {row['mcc']:.3f} {low:.3f} –\N{WORD JOINER} {high:.3f}" in text.replace("−", "-")
    for row in expected["classes"]:
        assert f"{row['label']} {100 * row['precision']:.1f} % {100 * row['recall']:.1f} %" in text
        assert f"{100 * row['f1']:.1f} % {row['auc']:.3f} {row['documents']}" in text
    assert not report.notes
    assert report.findings
    for finding in report.findings:
        assert " ".join(finding.what.split()) in text
    names = {picture.name for picture in report.curves} | set(report.charts)
    assert names >= {"loss", "scores", "learning-rate", "gradient-norm", "rivals", "confusion", "calibration"}
    assert sum(tag == "svg" and values.get("role") == "img" for tag, values in Elements(page).tags) == len(
        names
    )


def test_the_policy_allows_the_page_its_own_style_and_nothing_else(report: Report) -> None:
    page = report.html()
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    policies = [tag[1]["content"] for tag in Elements(page).tags if "http-equiv" in tag[1]]
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policies == [
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    ]


def test_a_temperature_that_makes_it_worse_is_not_praised(report: Report) -> None:
    result = copy.deepcopy(report.result)
    assert result is not None
    result["calibration"] |= {"expected_calibration_error": 0.048, "expected_calibration_error_after": 0.269}
    text = Elements(dataclasses.replace(report, result=result).html()).text
    assert "of val, makes the calibration error worse: 26.9 % in place of 4.8 %. Leave the prob" in text
    assert "val is too small to fit it, or unlike these documents." in text and "brings" not in text
    result["calibration"]["expected_calibration_error_after"] = 0.03
    text = Elements(dataclasses.replace(report, result=result).html()).text
    assert "fitted on the 14 documents of val, brings the calibration error from 4.8 % to 3.0 %." in text
    assert "worse: " not in text
    for hardly_other in (0.0476, 0.0484):
        result["calibration"]["expected_calibration_error_after"] = hardly_other
        text = Elements(dataclasses.replace(report, result=result).html()).text
        assert "of val, leaves the calibration error at 4.8 %." in text


def test_what_accuracy_means_and_kappa_stand_on_the_page(report: Report) -> None:
    assert report.result is not None
    plain = Elements(report.html()).text
    assert "kappa" not in plain and "all labels" not in plain
    result = copy.deepcopy(dict(report.result))
    for place, row in enumerate(result["scores"]):
        row["quadratic_kappa"] = None if place else -0.4321
        row["intervals_95"]["quadratic_kappa"] = (None, None) if place else (-0.5004, -0.1)
    ordered = Elements(dataclasses.replace(report, result={**result, "ordered": True}).html()).text
    assert "Quadratic kappa −0.432" in ordered and "MCC kappa this model" in ordered
    assert "−0.432 −0.500 –\N{WORD JOINER} −0.100" in ordered
    several = {
        **result,
        "multi_label": True,
        "confusion": [[1, 0, 0, 1] for _ in result["labels"]],
        "thresholds": [0.5 for _ in result["labels"]],
    }
    text = Elements(dataclasses.replace(report, result=several).html()).text
    assert (
        "this model gets all labels of " in text and "A document counts as right where all its labels" in text
    )


def test_an_interval_without_width_is_no_certainty(report: Report) -> None:
    result = copy.deepcopy(report.result)
    assert result is not None
    told = "Mind that an accuracy of 100 % on "
    for accuracy in (1.0, 0.9):
        for row in result["scores"]:
            row["accuracy"] = accuracy
        text = Elements(dataclasses.replace(report, result=result).html()).text
        title, _ = evaluation_tables._scores(result)
        assert (told in text) == ("\nan accuracy of 100 % on " in title) == (accuracy == 1.0)


def test_of_many_and_long_names_of_labels_the_page_shows_some(report: Report) -> None:
    result = copy.deepcopy(report.result)
    assert result is not None
    row = result["classes"][0]
    names = [f"begin{place} {'on and ' * 100} end{place}" for place in range(5_000)]
    several = {
        "multi_label": True,
        "labels": names,
        "classes": [row | {"label": name, "documents": place} for place, name in enumerate(names)],
        "confusion": [[0, 0, 0, place] for place in range(5_000)],
    }
    few = dataclasses.replace(report, result=result).html()
    page = dataclasses.replace(report, result=result | several).html()
    assert len(page) < len(few) + 2 * MOST_LABELS_SHOWN * 700
    assert page.count("begin4999 ") == page.count(" end4999") == 2 and "begin4799 " not in page
    said = "These are the 200 labels with the most documents, of 5,000; for all see textclf evaluate --json ."
    assert said in " ".join(Elements(page).text.split()) and "labels with the most" not in few


def test_the_confusion_of_many_labels_is_not_copied(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleaned, clean = [], full_evaluation._without_nan
    monkeypatch.setattr(full_evaluation, "_without_nan", lambda value: cleaned.append(value) or clean(value))
    result = make_report(folder, documents=0).result
    assert result is not None
    assert result["classes"] in cleaned and result["confusion"] not in cleaned


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("RIVALS_UP_TO_TOKENS", "have more than 1,000 tokens; textclf evaluate ft fits them"),
        ("RIVALS_UP_TO_PASSES", " tokens and 3 labels, each of which is fitted by itself; textclf evaluate"),
    ],
)
def test_baselines_that_take_longer_than_a_run_are_left_to_evaluate(
    folder: RunFolder, limit: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_module, limit, 1_000)
    made = make_report(folder, documents=0)
    assert made.result is not None and [row["name"] for row in made.result["scores"]] == ["this model"]
    assert any(note.startswith("no baselines: ") and said in note for note in made.notes)


def test_no_text_becomes_markup(report: Report, folder: RunFolder) -> None:
    document = Document(f"soil {HOSTILE} seed", (HOSTILE,), HOSTILE, None, "memory")
    result = copy.deepcopy(report.result)
    assert result is not None
    for row in result["classes"]:
        row["label"] = f"{HOSTILE}\x00\ud800"
    hostile = dataclasses.replace(
        report,
        record=dataclasses.replace(report.record, config_text=f"{HOSTILE}\ud800"),
        result=result,
        documents=shown_documents(load_run(folder.root), [document]),
        notes=[HOSTILE],
    )
    page = hostile.html()
    assert_complete_in_itself(page)
    assert {tag for tag, _ in Elements(page).tags} <= {tag for tag, _ in Elements(report.html()).tags}
    # the note, the config, three labels, the id and the true label; the text is torn apart by the chunks
    assert Elements(page).text.count(HOSTILE) == 7
    assert b"?" in encoded(page)


def test_documents_are_mistakes_first_and_the_same_each_time(folder: RunFolder) -> None:
    run = load_run(folder.root)
    store = Store.open(folder.root.parents[2] / "store" / "test")
    assert store.labels is not None
    logits = run.logits(run.batches(store)).copy()
    logits[:4] = -logits[:4]  # four mistakes more, at least where the model was right
    wrong = {store.document_id(int(i)) for i in np.flatnonzero(logits.argmax(1) != store.labels)}
    chosen = choose_documents(run, store, logits, count=6)
    assert len({document.id for document in chosen}) == 6
    assert [document.id in wrong for document in chosen] == [True] * min(3, len(wrong)) + [False] * (
        6 - min(3, len(wrong))
    )
    assert len({document.label for document in chosen[3:]}) == 3  # one of each label in turn
    assert chosen == choose_documents(run, store, logits, count=6)
    assert len(choose_documents(run, store, logits, count=1000)) == len(store)


def passage(chunk: int, attention: float, drop: float | None, start: int, end: int) -> Passage:
    return Passage(chunk, start, end, attention, drop, "")


def test_shades_follow_the_scores() -> None:
    text = "abcdefghij" * 3
    scores = [(0.6, 2.0), (0.3, -1.0), (0.12, 0.0)]
    passages = [passage(i, a, d, 10 * i, 10 * i + 12) for i, (a, d) in enumerate(scores)]
    chunks = _chunks(text, passages, {0}, 0.5)
    assert [chunk.drop_level for chunk in chunks] == [5, -2, 0]
    assert [chunk.attention_level for chunk in chunks] == [9, 4, 2]  # the largest share is compared with 2/3
    assert [chunk.text for chunk in chunks][:2] == [text[:10], text[10:20]]  # an overlap is shown once
    assert chunks[0].probability_without == pytest.approx(0.5 * np.exp(-2.0))
    equal = _chunks(text, [passage(i, 0.25, 0.001, 5 * i, 5 * i + 5) for i in range(4)], {0}, 0.9)
    assert {chunk.attention_level for chunk in equal} == {5}
    assert {chunk.drop_level for chunk in equal} == {0}


def test_what_is_left_without_a_chunk_is_of_all_labels_together() -> None:
    # 0.9 that a is there and 0.8 that b is not; without the chunk both are even
    passages = [passage(0, 0.5, float(np.log(0.9 * 0.8 / 0.25)), 0, 3), passage(1, 0.5, 0.0, 3, 6)]
    prediction = Prediction("x", "a", 0.8, {"a": 0.9, "b": 0.2}, 2, 6, False, passages)
    shown = _shown(Document("abcdef", None, "x", None, "memory"), prediction, multi_label=True)
    assert [chunk.probability_without for chunk in shown.chunks] == pytest.approx([0.25, 0.9 * 0.8])
    assert shown.together == pytest.approx(0.9 * 0.8)  # what a reader compares it with


@pytest.mark.parametrize(
    ("drops", "decides"),
    [([None], False), ([0.05, -0.09], False), ([0.02, 0.1], True), ([-0.3, 0.02], True)],
)
def test_a_chunk_decides_by_a_drop_either_way(drops: list[float | None], decides: bool) -> None:
    passages = [passage(place, 0.5, drop, place, place + 1) for place, drop in enumerate(drops)]
    prediction = Prediction("x", "a", 0.8, {"a": 0.8, "b": 0.2}, len(drops), 2, False, passages)
    shown = _shown(Document("ab", None, "x", None, "memory"), prediction, multi_label=False)
    assert shown.one_decides == decides


def test_the_whole_text_that_was_read_is_shown(folder: RunFolder) -> None:
    text = " ".join(f"soil {n} seed" for n in range(300))
    run = load_run(folder.root)
    shown = shown_documents(run, [Document(text, None, "x", None, "memory")])[0]
    assert shown.true is None and shown.right is None
    read = "".join(chunk.text for chunk in shown.chunks)
    assert text.startswith(read) and len(shown.chunks) == run.max_chunks
    assert shown.unread_characters == len(text) - len(read) and text[len(read) :].startswith(shown.unread)
    assert sum(chunk.attention for chunk in shown.chunks) == pytest.approx(1, abs=1e-5)


def test_a_pretraining_run_shows_its_curves(pretrained: Checkout) -> None:
    report = make_report(RunFolder.locate("pretraining", "pre"), documents=3)
    page = report.html()
    assert_complete_in_itself(page)
    assert report.result is None and not report.notes
    assert [picture.name for picture in report.curves] == ["loss", "learning-rate", "gradient-norm"]
    text = Elements(page).text
    assert "Best loss on val" in text and "wordpiece" in text and "mask_p" in text


def test_what_is_gone_is_left_out_and_said(finetuned: Checkout) -> None:
    run = RunFolder.locate("finetuning", "ft")
    content = load_checkpoint(run.best_checkpoint)
    for part in content["config"]["data"].values():
        part["dataset_path"] = str(finetuned.root / "gone")
    save_checkpoint(run.best_checkpoint, content)
    report = make_report(run, documents=3)
    assert report.result is None and "not here any more" in report.notes[0]
    assert "not here any more" in Elements(report.html()).text
    shutil.rmtree(run.root / "metrics")
    (note,) = [note for note in make_report(run, documents=0).notes if note.startswith("no curves: ")]
    assert "has trained, but its metrics" in note and f"gone or empty; {run.root}" in note
    for name in ("best.ckpt", "model.ckpt", "model.ckpt.prev"):
        (run.root / name).unlink(missing_ok=True)
    run.run_json.write_text("no JSON", encoding="utf-8")
    report = make_report(run, documents=3)
    assert not report.findings
    assert any("no checkpoint" in note for note in report.notes) and not report.curves
    assert "no curves: the run has logged nothing yet" in report.notes
    assert "not begun" in Elements(report.html()).text


def test_metrics_are_read_whatever_stands_in_them(finetuned: Checkout) -> None:
    run = RunFolder.locate("finetuning", "ft")
    steps, losses = read_record(run).series["train"].points("loss")
    lines = run.train_metrics.read_text(encoding="utf-8").splitlines()
    assert len(steps) == len(losses) == len(lines) - 1
    broken = lines[1].split(",")
    broken[lines[0].split(",").index("loss")] = "?"
    run.train_metrics.write_text(
        "\n".join([lines[0], ",".join(broken), *lines[2:], "99"]) + "\n", encoding="utf-8"
    )
    csv.field_size_limit(131_072)  # Python's own; whoever reads documents from CSV raises it
    for zeros in (0, 200_000):
        with run.train_metrics.open("ab") as file:
            file.write(bytes(zeros))
        assert read_record(run).series["train"].points("loss")[0].tolist() == steps.tolist()[1:]
    run.run_json.write_text(
        json.dumps({"data": {"train": {"tokens": "many"}}, "step": True}), encoding="utf-8"
    )
    facts = read_record(run).facts
    assert facts.step is None and facts.data[0].tokens is None


def test_what_the_run_has_just_computed_is_taken_over(folder: RunFolder) -> None:
    run = load_run(folder.root)
    store = Store.open(folder.root.parents[2] / "store" / "test")
    own = run.logits(run.batches(store))
    for given, used in ((-own, -own), (own[1:], own)):  # others, to see them used; too few, which are not
        expected = evaluate_run(run, store, logits=used, with_rivals=False)
        result = make_report(folder, documents=0, test_logits=given).result
        assert result is not None and result["loss"] == expected["loss"]
        assert result["confusion"] == expected["confusion"]


def test_mistakes_are_judged_by_the_runs_thresholds(folder: RunFolder) -> None:
    store = Store.open(folder.root.parents[2] / "store" / "test")
    size = len(store)
    for mistake in (2, 5):
        logits = np.full((size, 3), 2.0, dtype=np.float32)  # a probability of 0.88
        logits[mistake] = 1.0  # 0.73: above one half, below the threshold
        run = SimpleNamespace(
            batches=lambda _: SimpleNamespace(labels=np.ones((size, 3), dtype=np.int64)),
            multi_label=True,
            thresholds=(0.8, 0.8, 0.8),
            label_names=("a", "b", "c"),
            seed=1,
        )
        chosen = choose_documents(cast(LoadedRun, run), store, logits, count=2)
        assert chosen[0].id == store.document_id(mistake)


def test_numbers_read_well() -> None:
    # nothing in an interval at which a line may break
    assert interval((0.7754, 0.902)) == "77.5\N{NO-BREAK SPACE}–\N{WORD JOINER}\N{NO-BREAK SPACE}90.2"
    assert [signed(value) for value in (0.456, -0.1, 0.001, None)] == ["+0.46", "−0.10", "0.00", "–"]
    assert [short(value) for value in (5_589_771, 12_345, 950, 1_462_080)] == [
        "5.59 M",
        "12.3 k",
        "950",
        "1.46 M",
    ]
    assert [duration(value) for value in (12, 219.1, 3_900, None)] == [
        "12 s",
        "3 min 39 s",
        "1 h 05 min",
        "–",
    ]
    assert [number(value) for value in (1234, 0.12345, True, "x", None)] == [
        "1,234",
        "0.1235",
        "True",
        "x",
        "–",
    ]
