"""The report and the served page in a real browser: they fit, follow the colour scheme, and run no script."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser.conftest import Browser
from browser.pictures import IMAGES, most_telling, picture_answer, picture_report
from end_to_end.conftest import served
from PIL import Image, ImageStat

from textclf_transformer.commands.serving import ModelServer
from textclf_transformer.data.text_files import Document
from textclf_transformer.evaluation.loaded_run import LoadedRun, load_run
from textclf_transformer.evaluation.report import Report, make_report
from textclf_transformer.evaluation.report_documents import shown_documents
from textclf_transformer.experiment import RunFolder

PHONE = 360
HOSTILE = (
    '</textarea></style><script>document.title="caught"</script><img src=x onerror=document.title="caught">'
)
TEXT = "soil seed and the people who said that it was root leaf. " * 8


@pytest.fixture(scope="module")
def run(finetuned_folder: Path, browser: Browser) -> LoadedRun:  # without a browser nothing is trained
    return load_run(finetuned_folder / "experiments" / "finetuning" / "ft")


@pytest.fixture(scope="module")
def report(run: LoadedRun) -> Report:
    return make_report(RunFolder.at(run.run.root), documents=4)


@pytest.fixture(scope="module")
def page(report: Report, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    report.write(path)
    return path.as_uri()


@pytest.fixture(scope="module")
def server(run: LoadedRun) -> Iterator[ModelServer]:
    with served(run) as made:
        yield made


def brightness(picture: Image.Image) -> float:
    return float(ImageStat.Stat(picture).median[0])


def assert_quiet(browser: Browser, own: str) -> None:
    """No complaint in the console, and no request but for the page itself."""
    assert browser.complaints() == []
    foreign = [url for url in browser.requests() if not url.startswith((own, "data:"))]
    assert foreign == []


def classify(browser: Browser, text: str) -> None:
    browser.script("document.querySelector('textarea').value = arguments[0]", text)
    browser.driver.find_element("css selector", "button.main").click()


@pytest.mark.parametrize("width", [1200, PHONE])
def test_the_report_fits_and_follows_the_colour_scheme(
    browser: Browser, page: str, tmp_path: Path, width: int
) -> None:
    for dark in (False, True):
        browser.open(page, width=width, dark=dark)
        browser.script("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert browser.script("return document.documentElement.scrollWidth") <= width
        shot = browser.screenshot(tmp_path / "report.png")
        assert brightness(shot) < 60 if dark else brightness(shot) > 220
        low, high = shot.getextrema()
        assert high - low > 150  # text stands out from the paper
        assert browser.script("return [...document.querySelectorAll('svg.chart')].length") >= 6
        assert_quiet(browser, page)


@pytest.mark.parametrize("width", [1200, PHONE])
def test_a_document_of_hundreds_of_chunks_fits(
    browser: Browser, report: Report, tmp_path: Path, width: int
) -> None:
    shown = max(report.documents, key=lambda document: len(document.chunks))  # strips are of several
    long = dataclasses.replace(shown, chunks=shown.chunks * (400 // len(shown.chunks)))
    path = tmp_path / "long.html"
    dataclasses.replace(report, documents=[long]).write(path)
    browser.open(path.as_uri(), width=width)
    too_wide = "return [...document.querySelectorAll('.strip')].map(one => one.scrollWidth - one.clientWidth)"
    assert browser.script(too_wide) == [0, 0]


def test_tables_fit_a_phone(browser: Browser, page: str) -> None:
    browser.open(page, width=PHONE)
    too_wide = (
        "return [...document.querySelectorAll('#results .scroll, #labels .scroll, #lengths .scroll')]"
        ".filter(one => one.scrollWidth > one.clientWidth).map(one => one.textContent)"
    )
    assert browser.script(too_wide) == []


def test_what_is_open_is_printed_with_its_text(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.print_media()
    shown = (
        "const [first, second] = document.querySelectorAll('.document');"
        "first.open = true; second.open = false;"
        "return [first, second].map(one => [one.querySelector('h3'), one.querySelector('.passage')]"
        ".map(part => part.checkVisibility({contentVisibilityAuto: true})))"
    )
    assert browser.script(shown) == [[True, True], [True, False]]
    assert browser.script("return getComputedStyle(document.querySelector('nav')).display") == "none"


def test_the_switch_shades_by_the_other_measure_without_a_script(browser: Browser, page: str) -> None:
    browser.open(page)
    colours = (
        "document.querySelectorAll('.document').forEach(one => one.open = true);"
        "return [...document.querySelectorAll('.passage')].map(one => getComputedStyle(one).backgroundColor)"
    )
    by_occlusion = browser.script(colours)
    browser.driver.find_element("css selector", "[for=by-attention]").click()
    by_attention = browser.script(colours)
    assert len(by_occlusion) >= 4 and by_occlusion != by_attention
    assert all("0, 103, 165" in colour for colour in by_attention if colour != "rgba(0, 0, 0, 0)")
    assert any("0, 103, 165" in colour for colour in by_attention)
    assert browser.complaints() == []


def test_the_pictures_of_the_docs_can_be_taken_anew(
    browser: Browser, report: Report, page: str, server: ModelServer, tmp_path: Path
) -> None:
    picture_report(browser, page, tmp_path)
    picture_answer(browser, server.url, most_telling(report), tmp_path / "serve.png")
    sizes = {path.name: Image.open(path).size for path in tmp_path.iterdir()}
    assert sizes.keys() == {path.name for path in IMAGES.iterdir()}
    assert all(size[0] == (360 if "phone" in name else 1100) for name, size in sizes.items())


def test_an_injected_script_never_runs(
    browser: Browser, run: LoadedRun, report: Report, tmp_path: Path
) -> None:
    result = copy.deepcopy(report.result)
    assert result is not None
    for row in result["classes"]:
        row["label"] = HOSTILE
    document = Document(HOSTILE, (HOSTILE,), HOSTILE, None, "memory")
    hostile = dataclasses.replace(
        report, result=result, documents=shown_documents(run, [document]), notes=[HOSTILE]
    )
    path = tmp_path / "hostile.html"
    hostile.write(path)
    browser.open(path.as_uri())
    assert browser.driver.title == "ft · finetuning report"
    assert browser.script("return document.images.length + document.scripts.length") == 0
    assert_quiet(browser, path.as_uri())
    # and if a fault of ours let markup through, the policy would still stop it
    path.write_text(path.read_text(encoding="utf-8").replace("<main>", f"<main>{HOSTILE}"), encoding="utf-8")
    browser.open(path.as_uri())
    assert browser.script("return document.scripts.length") == 1
    assert browser.driver.title == "ft · finetuning report"
    assert any("Content Security Policy" in complaint for complaint in browser.complaints())


@pytest.mark.parametrize("width", [1200, PHONE])
def test_a_pasted_document_is_classified(
    browser: Browser, server: ModelServer, tmp_path: Path, width: int
) -> None:
    for dark in (False, True):
        browser.open(server.url, width=width, dark=dark)
        classify(browser, TEXT)
        assert len(browser.driver.find_elements("css selector", ".chunk")) == 4
        assert browser.script("return document.querySelector('textarea').value") == TEXT
        assert browser.script("return document.documentElement.scrollWidth") <= width
        shot = browser.screenshot(tmp_path / "served.png")
        assert brightness(shot) < 60 if dark else brightness(shot) > 220
        assert_quiet(browser, server.url)


def test_a_dropped_file_and_a_hostile_text(browser: Browser, server: ModelServer, tmp_path: Path) -> None:
    browser.open(server.url)
    file = tmp_path / "a document.txt"
    file.write_text(TEXT + HOSTILE, encoding="utf-8")
    browser.driver.find_element("css selector", "input[type=file]").send_keys(str(file))
    browser.driver.find_element("css selector", "button.main").click()
    assert browser.driver.find_element("css selector", ".document h3").text.startswith("a document.txt")
    assert browser.script("return document.querySelector('textarea').value") == TEXT + HOSTILE
    assert browser.driver.title == "ft · classify a document"
    assert browser.script("return document.images.length + document.scripts.length") == 0
    browser.open(server.url)
    classify(browser, "   ")
    assert "empty" in browser.driver.find_element("css selector", "[role=alert]").text
