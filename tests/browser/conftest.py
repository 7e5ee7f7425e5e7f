"""One headless Chromium for all tests of this folder; without one they skip and say so."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

# The pages are tested as they are; what the browser itself would fetch from its maker is switched off.
FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--hide-scrollbars",
)


class Browser:
    """Opens pages in a given width and colour scheme and tells what they did.

    Attributes:
        driver: Selenium's driver.
    """

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, url: str, *, width: int = 1200, dark: bool = False) -> None:
        from selenium.webdriver.support.wait import WebDriverWait

        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._command("Emulation.setEmulatedMedia", media="", features=[scheme])
        self._command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        self.driver.get_log("browser"), self.driver.get_log("performance")
        self.driver.get(url)
        # on a busy machine the driver may return from a page that is not all there yet
        loaded = "return document.readyState === 'complete' && location.href !== 'about:blank'"
        WebDriverWait(self.driver, 60).until(lambda driver: driver.execute_script(loaded))

    def print_media(self) -> None:
        """Lay the page out as it is printed."""
        self._command("Emulation.setEmulatedMedia", media="print")

    def script(self, code: str, *arguments: Any) -> Any:
        return self.driver.execute_script(code, *arguments)

    def screenshot(self, path: Path, *, top: float = 0, height: int = 4000) -> Image.Image:
        """Save a picture of the page, ``height`` pixels of it from ``top`` on, and return it."""
        width, whole = self.script("return [innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": top, "width": width, "height": min(whole - top, height), "scale": 1}
        answer = self._command("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        content = base64.b64decode(answer["data"])
        path.write_bytes(content)
        return Image.open(io.BytesIO(content)).convert("L")

    def complaints(self) -> list[str]:
        """Return what the page wrote to the console since it was opened: errors and warnings."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Return the addresses that were asked for since the page was opened."""
        events = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        return [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def _command(self, name: str, **parameters: Any) -> Any:
        return self.driver.execute_cdp_cmd(name, parameters)


@contextlib.contextmanager
def started_browser(profile: Path) -> Iterator[Browser]:
    """A browser with nothing of the user's in it; LookupError, with what is missing, where there is none.

    Args:
        profile: an empty folder for its files.
    """
    try:
        from selenium import webdriver
    except ImportError:
        raise LookupError("selenium is not installed") from None
    program = shutil.which("chromium") or shutil.which("google-chrome")
    driver_program = shutil.which("chromedriver")
    if program is None or driver_program is None:
        raise LookupError("no browser: install chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium refuses its sandbox to root
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_program))
    driver.implicitly_wait(20)  # a click that sends a form returns before the answer is there
    try:
        yield Browser(driver)
    finally:
        driver.quit()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The browser, or a skip that says what is missing."""
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(started_browser(tmp_path_factory.mktemp("browser")))
        except LookupError as missing:
            pytest.skip(str(missing))
        yield made
