"""A real browser, headless, without a network: the Chromium that the machine has (Debian: chromium).

Where there is none these tests say so and are skipped, except in CI, which must have one.
Screenshots are left in reports/screenshots/.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

PATIENCE = 120_000.0  # milliseconds; a loaded machine is normal
SCREENSHOTS = Path(__file__).parent.parent.parent / "reports" / "screenshots"
NAMES = ("chromium", "chromium-browser", "google-chrome")


@dataclass
class Opened:
    """A page, what it asked of the network and what it complained of."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def shoot(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")


@pytest.fixture(scope="module")
def chromium() -> str:
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        said = "no Chromium is installed (Debian: apt-get install chromium), so the page was not looked at"
        if os.environ.get("CI"):
            pytest.fail(said)
        pytest.skip(said)
    return found


@pytest.fixture(scope="module")
def axe() -> str:
    """The accessibility checker axe-core as a script: of the file that AXE_CORE names, or of the package
    axe-playwright-python."""
    package = importlib.util.find_spec("axe_playwright_python")
    bundled = Path(package.origin).parent / "axe.min.js" if package and package.origin else None
    file = Path(os.environ["AXE_CORE"]) if os.environ.get("AXE_CORE") else bundled
    if file is None or not file.is_file():
        pytest.skip("no axe-core was found (AXE_CORE=axe.min.js, or pip install axe-playwright-python)")
    return file.read_text(encoding="utf-8")


# Not for the session: Playwright keeps an event loop running, in which no other test could start its own.
@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def browser(chromium: str, playwright: Playwright) -> Iterator[Browser]:
    # Without its own sandbox Chromium starts as root and in containers; it opens our own files only.
    arguments = ["--no-sandbox", "--disable-gpu"]
    started = playwright.chromium.launch(executable_path=chromium, args=arguments, timeout=PATIENCE)
    yield started
    started.close()


class Opener:
    """Opens files, each in a context of its own."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser

    def __call__(self, file: Path, **given: Any) -> Opened:
        context = self._browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | given))
        context.set_default_timeout(PATIENCE)
        context.set_default_navigation_timeout(PATIENCE)
        opened = Opened(page=context.new_page())
        opened.page.on("request", lambda request: opened.requests.append(request.url))
        opened.page.on("console", lambda message: opened.complaints.append(message.text))
        opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        opened.page.on("dialog", lambda dialog: opened.complaints.append(f"dialog {dialog.message}"))
        opened.page.goto(file.as_uri())
        return opened


@pytest.fixture(scope="module")
def view(browser: Browser) -> Opener:
    return Opener(browser)
