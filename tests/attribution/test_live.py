"""Whole runs in which our own access log is not there: Istio's text format, and no log but the counters."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.profile import PROFILES
from tests.mutants.suite import Outcome, copied_manifests, replace_once, run_suite

CONTROLLER = "enforcer/30-controller.yaml"
COMMAND = "[python3, -m, enforcer]"
# A miss, a DENY by its rule, a refusal by STRICT, and dry-run results.
SCENARIOS = "doc/02 or plain/04-strict-and-permissive or dry/03"


def run_with(folder: Path, log: str, scenarios: str = SCENARIOS) -> Outcome:
    manifests = copied_manifests(folder)
    command = COMMAND.replace("enforcer", f"tests.attribution.istio_log, {log}")
    replace_once(manifests / CONTROLLER, COMMAND, command)
    bundled = (PROFILES / "bundled.yaml").read_text()
    profile = folder / "profile.yaml"
    bundled = bundled.replace("attribution: access-log", "attribution: [access-log, counters]")
    # Whether a log tells is found out by waiting for a line.
    profile.write_text(bundled.replace("  attribution: 5", "  attribution: 2"))
    return run_suite(manifests, folder / "reports", scenarios, "--profile", str(profile))


@pytest.mark.parametrize(("log", "way"), [("text", "access-log"), ("silent", "counters")])
def test_deciders_are_known_without_our_own_access_log(tmp_path: Path, log: str, way: str) -> None:
    outcome = run_with(tmp_path, log)
    assert outcome.code == 0, outcome.output
    assert f"attribution: {way}" in outcome.output
    assert {case["attribution"] for case in outcome.cases.values()} == {way}
    told = {
        entry["described"]
        for case in outcome.cases.values()
        for step in case["steps"]
        for probe in step["probes"]
        for entry in probe["attribution"]
    }
    if log == "silent":
        assert told == set()
        assert "attribution   counters: that RBAC denied, not by which rule" in outcome.output
        return
    assert "denied, matched no policy" in told
    assert any(text.startswith("denied by foo-") for text in told)
    assert any(text.startswith("refused before any policy was asked") for text in told)
    assert "allowed, by which rule is not told" in told
