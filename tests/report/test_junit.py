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


def test_properties_name_requirements_and_level() -> None:
    found = [(item.get("name"), item.get("value")) for item in parse(lines.case("a/1")).iter("property")]
    assert found == [
        ("a/1 title", "The case a/1 holds"),
        ("a/1 level", "core"),
        ("a/1 requirements", "DOC-02 RUN-01"),
    ]


# What Jenkins' junit-10.xsd allows of each element that we write: attributes, children.
ALLOWED = {
    "testsuites": ({"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors", "skipped", "time", "timestamp", "hostname", "id", "package"},
        {"properties", "testcase", "system-out", "system-err"},
    ),
    "testcase": (
        {"name", "classname", "time", "group"},
        {"skipped", "error", "failure", "system-out", "system-err"},
    ),
    "properties": (set[str](), {"property"}),
    "property": ({"name", "value"}, set[str]()),
    "failure": ({"type", "message"}, set[str]()),
    "error": ({"type", "message"}, set[str]()),
    "skipped": ({"type", "message"}, set[str]()),
}


def test_it_keeps_to_the_common_schema() -> None:
    statuses = ("passed", "failed", "inconclusive", "skipped", "unsupported", "known-deviation")
    root = parse(*(lines.case(f"a/{name}") | {"status": name} for name in statuses))
    for element in root.iter():
        attributes, children = ALLOWED[element.tag]
        assert set(element.attrib) <= attributes
        assert {child.tag for child in element} <= children
