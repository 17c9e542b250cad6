"""One worker and eight say the same of the same cases.

Not among the tests that `make test` finds: with sidecars for eight workers it comes near the inotify
instances that a user may have, so that it wants to run alone.

    make test TESTS=tests/existing/one_and_eight.py ARGS="-n 0"
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.existing.conftest import Stranger
from tests.existing.runs import record, suite
from tests.existing.test_ownership import nothing_is_left

# Two for each of the eight; sidecars of eight workers are near what one user may have (docs/existing.md).
CASES = (
    "doc/02 or doc/06 or doc/07 or doc/09 or doc/13 or empty/03 or empty/05 or empty/10 or port/02 or port/04"
    " or port/06 or scope/09 or when/01-any or http/01-allow-hosts or http/02-deny-methods or plain/05"
)
LANE = ("from", "to", "via", "port", "expected", "by", "status", "failure")


def essence(case: Mapping[str, Any], run: str, worker: str) -> dict[str, Any]:
    """What a case says of the mesh, without times, nonces and the names of this run."""

    def logical(text: str) -> str:
        return text.replace(f"authz-conf-{run}{worker}-", "")

    steps = []
    for step in case["steps"]:
        # How many rounds it took is a matter of time.
        last = max((probe["round"] for probe in step["probes"]), default=0)
        probes = [probe for probe in step["probes"] if probe["round"] == last]
        lanes = [
            {name: probe[name] for name in LANE} | {"observed": probe["observed"]["kind"]} for probe in probes
        ]
        deciders = [
            (probe["from"], probe["port"], logical(str([entry["policy"], entry["rule"]])))
            for probe in probes
            for entry in probe["attribution"]
        ]
        steps.append({"change": step["change"], "lanes": lanes, "deciders": sorted(set(deciders))})
    foretold = [
        (
            lane["step"],
            lane["from"],
            lane["to"],
            lane["port"],
            lane["outcome"],
            logical(str(lane["deciders"])),
        )
        for lane in (case["oracle"] or {}).get("lanes", ())
    ]
    verdict = {name: case[name] for name in ("status", "failure", "requirements")}
    return verdict | {"steps": steps, "oracle": foretold}


def told(stranger: Stranger, reports: Path, workers: int) -> tuple[dict[str, Any], set[str]]:
    code, output = suite(stranger.kubeconfig, reports, "-n", str(workers), "-k", CASES).finish()
    assert code == 0, output
    header, *cases, _ = record(reports)
    nothing_is_left(stranger)
    found = {case["id"]: essence(case, header["run"], case["worker"]) for case in cases}
    return found, {case["worker"] for case in cases}


def test_one_worker_and_eight_say_the_same(stranger: Stranger, tmp_path: Path) -> None:
    one, alone = told(stranger, tmp_path / "one", 0)
    eight, workers = told(stranger, tmp_path / "eight", 8)
    assert len(one) == 16
    assert (alone, len(workers)) == ({""}, 8)
    assert list(one) == list(eight)
    for case, said in one.items():
        assert eight[case] == said, case
