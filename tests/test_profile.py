"""Profiles with mistakes: each is told with its line, and none makes a run believe more than it may."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.errors import InputError
from conformance.profile import PROFILES, load_profile

GOOD = (PROFILES / "bundled.yaml").read_text(encoding="utf-8")
WITHOUT_DEVIATIONS = GOOD.replace("known_deviations: []\n", "")
DEVIATION = "- {scenario: doc/02-x, reason: r, link: l, approved_by: a, expires: 2026-12-31}\n"


def problems(file: Path, text: str) -> str:
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        load_profile(file)
    return str(caught.value)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            "denials: [closed, reset, banner]",
            "denials: [closed, unknown]",
            "unknown way of denying 'unknown'",
        ),
        ("denials: [closed, reset, banner]", "denials: [answered]", "unknown way of denying 'answered'"),
        ("denials: [closed, reset, banner]", "denials: closed", "must be a list of texts"),
        ("denials: [closed, reset, banner]", "", "'denials' is missing"),
        ("awaited_kinds: [AuthorizationPolicy, ", "awaited_kinds: [", "lacks AuthorizationPolicy"),
        ("features:\n", "features:\n- routing\n", "declared and unsupported at once"),
        ("time_to_enforce_p95: 5000", "time_to_enforce_p95: soon", "must be a number of 0 or more"),
        ("time_to_enforce_p95: 5000", "time_to_enforce_p99: 1000", "unknown key 'time_to_enforce_p99'"),
        ("{time_to_enforce_p95: 5000, time_to_recover_p95: 5000}", "[1000]", "'budgets' must be a mapping"),
        ("attribution: access-log", "attribution: guess", "must be one of access-log, counters, none"),
        ("attribution: access-log", "attribution: [counters, none]", "'attribution' lists 'none'"),
        ("attribution: access-log", "attribution: [counters, counters]", "each of access-log, counters once"),
        ("rounds: 3", "rounds: 0", "'rounds' must be 1 or more"),
        ("rounds: 3", "rounds: three", "must be a whole number"),
        ("  probe: 4", "  probe: -1", "must be a number of 0 or more"),
        ("  probe: 4", "  probes: 2", "unknown key 'probes'"),
    ],
)
def test_a_mistake(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in GOOD
    told = problems(tmp_path / "p.yaml", GOOD.replace(before, after))
    assert message in told
    assert "p.yaml:" in told


def test_a_known_deviation_is_read(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(WITHOUT_DEVIATIONS + f"known_deviations:\n{DEVIATION}")
    assert load_profile(tmp_path / "p.yaml").known_deviations[0].expires == "2026-12-31"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DEVIATION.replace("2026-12-31", "soon"), "'expires' must be a day"),
        (DEVIATION.replace("2026-12-31", "2026-13-45"), "a value cannot be read"),
        (DEVIATION.replace(", expires: 2026-12-31", ""), "'expires' must be a day"),
        (DEVIATION.replace("approved_by: a, ", ""), "'approved_by' is missing"),
        (DEVIATION.replace("scenario: doc/02-x, ", ""), "either a 'scenario' or a 'requirement'"),
        (DEVIATION.replace("{", "{requirement: DOC-02, "), "either a 'scenario' or a 'requirement'"),
        (DEVIATION.replace("reason: r", "reason: FILL IN"), "'reason' still says FILL IN"),
        ("  doc/02-x: because\n", "must be a list"),
    ],
)
def test_a_known_deviation_that_nobody_could_review(tmp_path: Path, text: str, message: str) -> None:
    assert message in problems(tmp_path / "p.yaml", f"{WITHOUT_DEVIATIONS}known_deviations:\n{text}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00", "is no UTF-8 text"),
        (b"name: a\x01b\n", "not YAML"),
        (b"name: [\n", "not YAML"),
        (b"name: &a [*a]\n", "an alias contains itself"),
        (b"- a\n", "a mapping was expected"),
        (b"", "one YAML document"),
    ],
)
def test_what_is_no_profile_at_all(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "p.yaml").write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_profile(tmp_path / "p.yaml")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("attribution: access-log", ("access-log",)),
        ("attribution: [access-log, counters]", ("access-log", "counters")),
        ("attribution: none", ()),
        ("", ()),
    ],
)
def test_ways_to_know_who_decided(tmp_path: Path, written: str, read: tuple[str, ...]) -> None:
    (tmp_path / "p.yaml").write_text(GOOD.replace("attribution: access-log", written))
    assert load_profile(tmp_path / "p.yaml").attribution == read
