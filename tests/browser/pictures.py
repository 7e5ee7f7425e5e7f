"""The pictures of docs/images, taken of a finished run: ``make pictures``, of another ``RUN_NAME=name``.

Take them of data whose terms allow to show them, as those of the demo do.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from browser.conftest import Browser, started_browser
from end_to_end.conftest import served

from textclf_transformer.evaluation.loaded_run import load_run
from textclf_transformer.evaluation.report import Report, make_report
from textclf_transformer.evaluation.report_documents import ShownDocument

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
WIDTH, PHONE = 1100, 360


def main() -> None:
    """Take all of them."""
    parser = argparse.ArgumentParser(description="Take the pictures of docs/images.")
    parser.add_argument("run", nargs="?", default="demo", help="name or folder of a run (default: demo)")
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder (default: docs/images)")
    arguments = parser.parse_args()
    run = load_run(arguments.run)
    report = make_report(run.run, documents=12)
    with tempfile.TemporaryDirectory() as scratch, started_browser(Path(scratch) / "profile") as browser:
        page = Path(scratch) / "report.html"
        report.write(page)
        picture_report(browser, page.as_uri(), arguments.out)
        with served(run) as server:
            picture_answer(browser, server.url, most_telling(report), arguments.out / "serve.png")


def picture_report(browser: Browser, url: str, out: Path) -> None:
    """Take the summary, the labels, the documents, and the summary on a phone in the dark."""
    browser.open(url, width=WIDTH)
    for name, section, height in (
        ("summary", "body", 1130),
        ("labels", "#labels", 1130),
        ("documents", "#documents", 1500),
    ):
        code = "return document.querySelector(arguments[0]).getBoundingClientRect().top + scrollY"
        browser.screenshot(out / f"report-{name}.png", top=browser.script(code, section), height=height)
    browser.open(url, width=PHONE, dark=True)
    browser.screenshot(out / "report-phone-dark.png", height=1150)


def picture_answer(browser: Browser, url: str, document: ShownDocument, path: Path) -> None:
    """Take the served page after a document was pasted."""
    browser.open(url, width=WIDTH)
    text = "".join(chunk.text for chunk in document.chunks)
    browser.script("document.querySelector('textarea').value = arguments[0]", text)
    browser.driver.find_element("css selector", "button.main").click()
    browser.driver.find_element("css selector", ".document")
    browser.screenshot(path, height=1350)


def most_telling(report: Report) -> ShownDocument:
    """Return the document, rightly classified if there is one, that rests most on one chunk."""
    right = [shown for shown in report.documents if shown.right and shown.prediction.confidence > 0.5]
    return max(right or report.documents, key=lambda shown: max(chunk.drop or 0.0 for chunk in shown.chunks))


if __name__ == "__main__":
    main()
