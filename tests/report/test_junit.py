"""junit.xml as CI systems read it."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from conformance.report.junit import junit_xml
from tests import lines


def parse(*cases: lines.Line) -> ET.Element:
    return ET.fromstring(junit_xml([lines.header(), *cases, lines.footer()], {}).encode())


def test_groups_are_suites_and_statuses_have_their_elements() -> None:
    root = parse(
        lines.case("a/1"),
        lines.case("a/2", "failed", failure="over-blocking"),
        lines.case("b/1", "inconclusive"),
        lines.case("b/2", "skipped"),
        lines.case("b/3", "unsupported"),
    )
    first, second = root.findall("testsuite")
    assert (first.get("tests"), first.get("failures"), first.get("errors")) == ("2", "1", "0")
    assert (second.get("tests"), second.get("errors"), second.get("skipped")) == ("3", "1", "2")
    tags = [[child.tag for child in case if child.tag != "properties"] for case in root.iter("testcase")]
    assert tags == [[], ["failure"], ["error"], ["skipped"], ["skipped"]]


def test_bytes_that_xml_cannot_hold_are_replaced() -> None:
    case = lines.case("a/1", "failed", reason="answered '\x00\x1b\ud800'", failure="allowed but forbidden")
    failure = parse(case).find(".//failure")
    assert failure is not None
    assert "answered '\N{REPLACEMENT CHARACTER}" in str(failure.get("message"))
