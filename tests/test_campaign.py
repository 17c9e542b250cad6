"""What a run decides around its cases: known deviations, the report directory."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from conformance.absence import is_checked, judge_absence
from conformance.campaign import Campaign
from conformance.campaign_folder import check_reports
from conformance.campaign_options import Options
from conformance.deviations import KnownDeviation, check_deviations, deviate, stale
from conformance.errors import InputError
from conformance.pods import Pod
from conformance.profile import find_profile, load_profile
from conformance.record import exit_code
from conformance.rig import Rig
from conformance.scenario_reader import SCENARIOS, load_scenarios
from conformance.topology import WORKLOADS, Ref
from tests import lines


class OnlyPods(Rig):
    """A rig of which nothing else is asked."""

    def __init__(self, pods: dict[Ref, Pod]) -> None:
        self.pods = pods


PASSED = {"status": "passed", "reason": "so"}
TODAY = date(2026, 5, 20)


def known(
    *, case: str = "doc/02-allow-port-9000", requirement: str = "", expires: str = "2026-05-20"
) -> KnownDeviation:
    return KnownDeviation(
        case=case,
        requirement=requirement,
        reason="so",
        link="https://x",
        approver="me",
        expires=expires,
        file=Path("known.yaml"),
        line=7,
    )


@pytest.mark.parametrize(
    ("status", "expires", "becomes", "code"),
    [
        ("failed", "2026-05-20", "known-deviation", 7),  # its last day
        ("failed", "2026-05-19", "failed", 1),
        ("passed", "2026-05-20", "failed", 1),  # fixed: off the list with it
        ("passed", "2026-05-19", "failed", 1),
        ("inconclusive", "2026-05-20", "inconclusive", 6),  # nothing was seen, so nothing is excused
        ("inconclusive", "2026-05-19", "inconclusive", 6),
        ("skipped", "2026-05-20", "skipped", 5),
    ],
)
def test_a_known_deviation(status: str, expires: str, becomes: str, code: int) -> None:
    case = lines.case(
        "doc/02-allow-port-9000", status, failure="over-blocking" if status == "failed" else None
    )
    line = deviate(case, [known(expires=expires)], TODAY)
    assert line["status"] == becomes
    assert line["known_deviation"]["approver"] == "me"
    assert exit_code([line], [line["id"]]) == code
    if becomes == "failed":
        assert line["failure"] == "known deviation expired or fixed"
        assert "must be taken off the list" in line["reason"]


def test_other_cases_are_left_alone() -> None:
    case = lines.case("doc/07-http-only-allow-rule", "failed", failure="over-blocking")
    assert deviate(case, [known()], TODAY) == case


@pytest.mark.parametrize(
    ("status", "expires", "becomes"),
    [
        ("failed", "2026-05-20", "known-deviation"),
        ("failed", "2026-05-19", "failed"),
        ("passed", "2026-05-20", "passed"),  # another case of the requirement may fail
        ("inconclusive", "2026-05-20", "inconclusive"),
    ],
)
def test_a_known_deviation_of_a_requirement(status: str, expires: str, becomes: str) -> None:
    case = lines.case("doc/02", status, failure="over-blocking" if status == "failed" else None)
    assert case["requirements"][0] == "DOC-02"
    line = deviate(case, [known(case="", requirement="DOC-02", expires=expires)], TODAY)
    assert line["status"] == becomes
    assert (line["known_deviation"] is not None) is (status == "failed")


def test_an_entry_for_the_case_comes_before_one_for_its_requirement() -> None:
    entries = [known(case="", requirement="DOC-02"), known()]
    line = deviate(lines.case("doc/02-allow-port-9000", "failed", failure="over-blocking"), entries, TODAY)
    assert line["known_deviation"]["case"] == "doc/02-allow-port-9000"


@pytest.mark.parametrize(
    ("first", "second", "expires", "why"),
    [
        ("passed", "passed", "2026-05-20", "every case of DOC-02 passes"),
        ("passed", "known-deviation", "2026-05-20", ""),
        ("passed", "inconclusive", "2026-05-20", ""),
        ("passed", "", "2026-05-20", ""),  # not every case has run: nothing is known
        ("unsupported", "unsupported", "2026-05-20", ""),
        ("passed", "passed", "2026-05-19", "it expired on 2026-05-19"),
        ("failed", "", "2026-05-19", "it expired on 2026-05-19"),
    ],
)
def test_a_requirement_that_holds_again_is_taken_off_the_list(
    first: str, second: str, expires: str, why: str
) -> None:
    scenario = next(item for item in load_scenarios() if "DOC-02" in item.requirements)
    scenarios = {name: replace(scenario, id=name) for name in ("doc/a", "doc/b")}
    statuses = (first, second)
    ran = [
        lines.case(name, status, failure="over-blocking" if status == "failed" else None)
        for name, status in zip(scenarios, statuses, strict=True)
        if status
    ]
    entries = [known(case="", requirement="DOC-02", expires=expires)]
    found = stale(ran, entries, scenarios, TODAY)
    assert [entry["why"] for entry in found] == [why] * bool(why)
    code = exit_code(ran, [line["id"] for line in ran], stale=bool(found))
    assert (code == 1) is (bool(why) or first == "failed")


def test_a_known_deviation_of_no_case_is_refused() -> None:
    check_deviations([known(), known(case="", requirement="DOC-02")], load_scenarios())
    for wrong, message in (
        ([known(case="doc/99-typo")], "known.yaml:7: there is no scenario 'doc/99-typo'"),
        ([known(case="", requirement="DOC-99")], "known.yaml:7: no scenario cites a requirement 'DOC-99'"),
        ([known(), known()], "known.yaml:7: 'doc/02-allow-port-9000' stands twice"),
    ):
        with pytest.raises(InputError, match=message):
            check_deviations(wrong, load_scenarios())


def test_a_report_directory_that_cannot_be_is_refused(tmp_path: Path) -> None:
    check_reports(tmp_path / "new" / "reports")
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path / "file", tmp_path / "file" / "reports"):
        with pytest.raises(InputError, match="the report directory"):
            check_reports(wrong)


@pytest.mark.parametrize(
    ("status", "becomes", "words"),
    [
        ("passed", "failed", "yet the case passes"),
        ("failed", "unsupported", "checked for absence: it got through"),
        ("inconclusive", "unsupported", "absence is not proven: it got through"),
    ],
)
def test_what_is_declared_unsupported_must_not_pass(status: str, becomes: str, words: str) -> None:
    failure = "over-blocking" if status == "failed" else None
    line = judge_absence(lines.case("g/a", status, reason="it got through", failure=failure), "audit: no")
    assert line["status"] == becomes
    assert line["failure"] == ("declared unsupported and works" if becomes == "failed" else None)
    assert words in line["reason"]


@pytest.mark.parametrize(
    ("has", "lacks", "needs", "checked"),
    [
        (("mtls",), ("audit",), ("audit", "mtls"), True),
        (("mtls",), ("audit",), ("audit", "dry-run"), False),  # the profile says nothing of dry-run
        (("mtls",), ("audit",), ("audit", "mesh-wide"), False),  # which the suite may not do there
        (("mtls",), ("mesh-wide",), ("mesh-wide",), False),
    ],
)
def test_what_is_tried_where_it_is_unsupported(
    has: tuple[str, ...], lacks: tuple[str, ...], needs: tuple[str, ...], checked: bool
) -> None:
    declared = replace(
        load_profile(find_profile("bundled")), features=has, unsupported=dict.fromkeys(lacks, "no")
    )
    scenario = replace(load_scenarios()[0], features=needs)
    assert is_checked(scenario, declared) is checked


@pytest.mark.parametrize("without", [(), ("sleep.legacy",)])
def test_ipv6_is_asked_where_the_pods_have_it(without: tuple[str, ...]) -> None:
    pods = {
        ref: Pod(
            name=ref.name,
            namespace=ref.namespace,
            address="10.244.0.10",
            address6="" if str(ref) in without else "fd00::a",
            sidecar=True,
            labels={},
        )
        for ref in WORKLOADS
    }
    campaign = Campaign(Options(), run="r1")
    campaign.rig = OnlyPods(pods)
    asked: list[str] = []
    campaign._play = lambda scenario, *_: asked.append(scenario.id) or PASSED  # type: ignore[func-returns-value, method-assign]
    six = next(each for each in campaign.scenarios if "ipv6" in each.features)
    four = next(each for each in campaign.scenarios if not each.features)
    told = [campaign.conduct(case) for case in (six, four)]
    if not without:
        assert asked == [six.id, four.id]
        return
    # Not skipped: a machine without IPv6 makes no run partial.
    assert asked == [four.id]
    assert told[0]["status"] == "unsupported"
    assert told[0]["reason"] == "ipv6: 1 of 8 pods have no IPv6 address, sleep.legacy for one"
    assert exit_code(told, [six.id, four.id]) == 0


def test_a_scenario_that_the_oracle_disagrees_with_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = next(one for one in load_scenarios() if one.id == "doc/02-allow-port-9000").file
    text = (SCENARIOS / "doc" / shipped.name).read_text()
    (tmp_path / "doc").mkdir()
    wrong = tmp_path / "doc" / shipped.name
    wrong.write_text(text.replace("[9001], outcome: rejected, by: none", "[9001], outcome: succeeded"))
    read = load_scenarios(tmp_path)
    monkeypatch.setattr("conformance.campaign.load_scenarios", lambda: read)
    with pytest.raises(InputError, match=r"02-allow-port-9000.yaml:9: .*the oracle"):
        Campaign(Options(), run="t")
