"""Allure's own page of the results, one file. Needs node; without it the results alone are there.

The tool is npm's `allure` with its allure2 plugin, pinned with hashes by allure_tool/package-lock.json and
installed once into .allure/ of the checkout. Its page would load an analytics script: that is switched off,
and a page that has one all the same is not kept.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from conformance.errors import InputError

__all__ = ["NO_NODE", "PAGE", "allure_page"]

TOOL = Path(__file__).parent / "allure_tool"
HOME = Path(__file__).parent.parent.parent / ".allure"
PAGE = "allure.html"
HISTORY = "allure-history.jsonl"
NO_NODE = "node and npm are not installed, so there is no Allure page (Debian: apt-get install nodejs npm)"
FOREIGN = (b"googletagmanager", b"google-analytics")


def allure_page(results: Path, history: Path) -> Path | None:
    """Writes allure.html beside the results; None where node is missing. Raises InputError."""
    if not shutil.which("node") or not shutil.which("npm"):
        return None
    _install()
    target = results.parent / PAGE
    with tempfile.TemporaryDirectory(prefix="allure-") as folder:
        environment = os.environ | {
            "ALLURE_NO_ANALYTICS": "true",
            "ALLURE_OUTPUT": folder,
            "ALLURE_HISTORY": str(history.resolve()),
        }
        command = [
            "npx",
            "--no-install",
            "allure",
            "generate",
            "--config",
            "allurerc.mjs",
            str(results.resolve()),
        ]
        _run(command, environment)
        page = Path(folder) / "index.html"
        if not page.is_file():
            raise InputError("allure wrote no page", hint=f"remove {HOME} and try again")
        text = page.read_bytes()
        if any(word in text for word in FOREIGN):
            raise InputError("allure's page would load an analytics script, so it is not kept")
        try:
            target.write_bytes(text)
        except OSError as error:
            raise InputError(f"{target} cannot be written: {error.strerror}") from None
    return target


def _install() -> None:
    """Into .allure/, anew where the lock has changed. The mark is written last."""
    mark = HOME / ".installed"
    lock = (TOOL / "package-lock.json").read_text(encoding="utf-8")
    try:
        if mark.is_file() and mark.read_text(encoding="utf-8") == lock:
            shutil.copy(TOOL / "allurerc.mjs", HOME)
            return
        HOME.mkdir(exist_ok=True)
        for name in ("package.json", "package-lock.json", "allurerc.mjs"):
            shutil.copy(TOOL / name, HOME)
        _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], dict(os.environ))
        mark.write_text(lock, encoding="utf-8")
    except OSError as error:
        raise InputError(f"allure cannot be installed in {HOME}: {error.strerror}") from None


def _run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=HOME, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        telling = [line for line in said if "error" in line.lower()] or said or ["it said nothing"]
        raise InputError(f"{' '.join(command[:3])} failed: {telling[0]}")
