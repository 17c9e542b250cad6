"""The stand-in for `docker` and `kind` on PATH."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

STANDIN = Path(__file__).parent / "kind_standin.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIn:
    """`state`: see kind_standin.py; `home`: of the user."""

    state: Path
    programs: Path
    home: Path

    def calls(self) -> list[str]:
        """Every call so far."""
        log = self.state / "calls.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        return [str(json.loads(line)["call"]) for line in lines]

    def unknown(self) -> list[str]:
        log = self.state / "calls.jsonl"
        lines = [json.loads(line) for line in (log.read_text().splitlines() if log.exists() else [])]
        return [str(line["call"]) for line in lines if not line["known"]]

    def clusters(self, *names: str) -> list[str]:
        """The clusters that exist; sets them where names are given."""
        file = self.state / "clusters.json"
        if names:
            file.write_text(json.dumps(names))
        return list(json.loads(file.read_text()))

    def answer(self, start: str, **answer: Any) -> None:
        """What calls that begin so say from now on: code, out, err; `unless`: only those that contain it."""
        file = self.state / "answers.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), start: answer}))

    def marks(self) -> list[str]:
        return sorted(file.stem for file in self.home.glob(".local/state/authz-conformance/kind/*.json"))


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """Docker and kind that work, with no cluster yet. What they were asked is checked at the end."""
    state, programs, home = (tmp_path / name for name in ("state", "bin", "home"))
    for directory in (state, programs, home):
        directory.mkdir()
    (state / "clusters.json").write_text("[]")
    (state / "answers.json").write_text("{}")
    (state / "kubeconfig").write_text("apiVersion: v1\nkind: Config\n")
    for name in ("docker", "kind"):
        program = programs / name
        program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -I -S '{STANDIN}' {name} \"$@\"\n")
        program.chmod(0o755)
    monkeypatch.setenv("STANDIN", str(state))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    for name in ("XDG_STATE_HOME", "KIND_KUBERNETES", "KIND_CONFIG", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    # What a run that is played dead leaves there goes with the test.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    one = StandIn(state=state, programs=programs, home=home)
    yield one
    assert one.unknown() == []
