"""junit.xml: one testcase per scenario, one testsuite per group."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from conformance.report.console import case_text
from conformance.report.figures import count_statuses
from conformance.report.result import rerun

__all__ = ["junit_xml"]

Line = Mapping[str, Any]
# What XML 1.0 cannot hold; a probe may have received anything.
FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _clean(text: str) -> str:
    return FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)


def junit_xml(lines: Sequence[Line], sentences: Mapping[str, str]) -> str:
    """The document as text. Inconclusive is an error, a known deviation and unsupported are skips."""
    cases = [line for line in lines if line["line"] == "case"]
    root = ET.Element("testsuites", name=f"authz-conformance {lines[0]['profile']['name']}")
    groups: dict[str, list[Line]] = {}
    for case in cases:
        groups.setdefault(case["id"].partition("/")[0], []).append(case)
    for group, members in groups.items():
        counts = count_statuses(case["status"] for case in members)
        suite = ET.SubElement(
            root,
            "testsuite",
            name=group,
            tests=str(len(members)),
            failures=str(counts["failed"]),
            errors=str(counts["inconclusive"]),
            skipped=str(counts["skipped"] + counts["unsupported"] + counts["known-deviation"]),
            time=f"{sum(case['duration_ms'] or 0 for case in members) / 1000:.3f}",
        )
        # Of the suite, not of its cases: there the common schema (Jenkins' junit-10.xsd) has no properties.
        properties = ET.SubElement(suite, "properties")
        for case in members:
            told = {"title": case["title"], "level": case["level"]}
            told["requirements"] = " ".join(case["requirements"])
            for name, value in told.items():
                ET.SubElement(
                    properties, "property", name=_clean(f"{case['id']} {name}"), value=_clean(value)
                )
        for case in members:
            _add(suite, case, sentences, rerun(lines[0], case))
    _add_run(root, lines[-1])
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _add_run(root: ET.Element, footer: Line) -> None:
    """What is wrong with the run as a whole, although every case may hold; nothing where nothing is."""
    failures = {
        f"known deviation {item['requirement']}": f"must be taken off the list: {item['why']}"
        for item in footer.get("stale_deviations", [])
    }
    errors = {
        f"budget {item['budget']}": f"{item['measured_ms']:.0f} ms, more than {item['limit_ms']:.0f} ms"
        for item in footer.get("over_budget", [])
    }
    if not failures and not errors:
        return
    counts = {"tests": len(failures | errors), "failures": len(failures), "errors": len(errors), "skipped": 0}
    texts = {name: str(count) for name, count in counts.items()}
    suite = ET.SubElement(root, "testsuite", {"name": "run", **texts, "time": "0"})
    for tag, items in (("failure", failures), ("error", errors)):
        for name, message in items.items():
            element = ET.SubElement(suite, "testcase", classname="run", name=name, time="0")
            ET.SubElement(element, tag, message=_clean(message), type=tag)


def _add(suite: ET.Element, case: Line, sentences: Mapping[str, str], again: str) -> None:
    time = f"{(case['duration_ms'] or 0) / 1000:.3f}"
    element = ET.SubElement(
        suite, "testcase", classname=suite.get("name", ""), name=_clean(case["id"]), time=time
    )
    status = case["status"]
    if status == "passed":
        return
    tag = {"failed": "failure", "inconclusive": "error"}.get(status, "skipped")
    child = ET.SubElement(element, tag, message=_clean(f"{case['failure'] or status}: {case['reason']}"))
    if tag != "skipped":
        child.set("type", case["failure"] or status)
        child.text = _clean(case_text(case, sentences, again))
