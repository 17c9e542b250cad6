"""`make sample`: the published sample, a report of a real run with screenshots of it.

python -m tests.browser.sample RUN TARGET
"""

from __future__ import annotations

import gzip
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from conformance.report.outputs import write_reports
from tests.browser.conftest import NAMES, PATIENCE

KEPT = ("index.html", "conformance-report.yaml", "badge.svg", "summary.md")
# name -> (width, height, colour scheme, what is brought into view)
SHOTS = {
    "verdict": (1280, 820, "light", "body"),
    "truth-tables": (1280, 820, "dark", "#truth"),
    "case": (1280, 1000, "light", "#case-doc-02-allow-port-9000"),
    "phone": (400, 820, "light", "body"),
}


def main(run: Path, target: Path) -> int:
    """What a run's folder has, the record packed, and screenshots of the page."""
    chromium = next((path for name in NAMES if (path := shutil.which(name))), None)
    if chromium is None:
        print("no Chromium is installed (Debian: apt-get install chromium)", file=sys.stderr)
        return 4
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    write_reports(run.resolve(), controls=("nist-sp-800-53", "pci-dss-4", "iso-27001"))
    for name in KEPT:
        if (run / name).is_file():
            shutil.copy(run / name, target / name)
    # Without a time in it: packing the same record again gives the same file.
    packed = gzip.compress((run / "record.jsonl").read_bytes(), mtime=0)
    (target / "record.jsonl.gz").write_bytes(packed)
    page_file = (target / "index.html").resolve().as_uri()
    with sync_playwright() as running:
        browser = running.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"], timeout=PATIENCE
        )
        for name, (width, height, scheme, place) in SHOTS.items():
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme="dark" if scheme == "dark" else "light",
            )
            page = context.new_page()
            page.set_default_timeout(PATIENCE)
            page.goto(page_file, timeout=PATIENCE)
            # As a reader would come there: by the link, which also opens what is closed.
            if place != "body":
                page.evaluate("place => { location.hash = place; }", place)
                page.wait_for_function("place => location.hash === place", arg=place)
                page.evaluate("place => document.querySelector(place).scrollIntoView()", place)
            page.screenshot(path=target / f"{name}.png", timeout=PATIENCE)
            context.close()
        browser.close()
    print(f"{target}: {', '.join(sorted(file.name for file in target.iterdir()))}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
