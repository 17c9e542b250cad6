"""A run whose disk is full: one line with the cause, a code that is not success, no traceback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
# The header of the record has about 20 kB, a case 10 kB and more.
SIZES = {"at the header": "4k", "in the middle": "40k"}


@pytest.mark.skipif(not shutil.which("unshare"), reason="unshare (util-linux) is not installed")
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
def test_no_space_for_the_record(tmp_path: Path, size: str) -> None:
    reports = tmp_path / "reports"
    reports.mkdir()
    namespaces = ["-m"] if os.geteuid() == 0 else ["-U", "-r", "-m"]
    run = [sys.executable, "-m", "conformance", "run", "--cluster=embedded", "-k", "doc/0 or doc/1"]
    script = f'mount -t tmpfs -o size={size} none "$0" && "$@"; code=$?; ls "$0" >&2; exit $code'
    done = subprocess.run(
        ["unshare", *namespaces, "sh", "-c", script, str(reports), *run, "--report-dir", str(reports)],
        cwd=PROJECT,
        env={**os.environ, "KUBECONFIG": ""},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode not in (0, 1), said
    assert "No space left on device" in said
    assert "no record can be written to" in said
    assert "Traceback" not in said
    assert "PASSED: " not in said
