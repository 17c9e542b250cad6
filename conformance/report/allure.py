"""The run as Allure results: one result file per case, with labels, links, steps and attachments.

Made of the record like every other report, so it is the same with and without workers, and what a case is
called and which parameters it has does not change from run to run: Allure joins its history by them.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from allure_commons.logger import AllureFileLogger
from allure_commons.model2 import (
    Attachment,
    Label,
    Link,
    Parameter,
    Status,
    StatusDetails,
    TestResult,
    TestStepResult,
)

from conformance.report.case_view import as_yaml
from conformance.report.console import case_text
from conformance.report.result import reproduce, rerun
from conformance.report.traceability import source_of

__all__ = ["CATEGORIES", "finding_text", "severity", "write_allure"]

Line = Mapping[str, Any]
# What could not be asked is broken, as a test that raised; a known deviation and the like are skipped.
STATUSES = {
    "passed": Status.PASSED,
    "failed": Status.FAILED,
    "inconclusive": Status.BROKEN,
    "skipped": Status.SKIPPED,
    "unsupported": Status.SKIPPED,
    "known-deviation": Status.SKIPPED,
}
# (name, statuses, regular expression on the message, which begins with the kind of failure). Allure puts a
# result into every category that fits, so no two may.
NAMED = {
    "Breach": r"(allowed but forbidden|a rejected client's bytes)",
    "Over-blocking": r"(over-blocking|still rejected after deletion)",
    "Wrong reason": r"(wrong reason|answered by another workload)",
}
CATEGORIES = (
    *((name, ["failed"], rf"{start}[\s\S]*") for name, start in NAMED.items()),
    ("Other failures", ["failed"], rf"(?!{'|'.join(NAMED.values())})[\s\S]*"),
    ("Inconclusive", ["broken"], r"[\s\S]*"),
    ("Known deviation", ["skipped"], r"known-deviation[\s\S]*"),
    ("Unsupported or skipped", ["skipped"], r"(?!known-deviation)[\s\S]*"),
)
YAML, JSON, TEXT = ("application/yaml", "yaml"), ("application/json", "json"), ("text/plain", "txt")


def severity(line: Line) -> str:
    """Core cases are critical: they are the walkthrough itself."""
    return "critical" if line["level"] == "core" else "normal"


def finding_text(finding: Line) -> str:
    """A finding as a paragraph."""
    head = f"Finding ({finding['severity']}, {finding['requirement']}): {finding['title']}."
    return f"{head} Seen: {finding['seen']}. {finding['why']} {finding['advice']}"


def write_allure(lines: Sequence[Line], folder: Path, sentences: Mapping[str, str]) -> None:
    """Into `folder`, whose older results are removed. Raises OSError."""
    header = lines[0]
    logger = AllureFileLogger(str(folder), clean=True)
    sources = {item["id"]: source_of(item["source"]).links for item in header["requirements"]}
    for case in lines[1:-1]:
        logger.report_result(
            _result(header, case, _Attacher(logger, header["run"], case["id"]), sources, sentences)
        )
    categories = [
        {"name": name, "matchedStatuses": statuses, "messageRegex": message}
        for name, statuses, message in CATEGORIES
    ]
    _write_json(folder / "categories.json", categories)
    executor = {"name": header["suite"]["name"], "type": "local", "buildName": f"run {header['run']}"}
    executor |= {"reportName": f"AuthorizationPolicy on TCP: {header['profile']['title']}"}
    _write_json(folder / "executor.json", executor)
    (folder / "environment.properties").write_text(_environment(header), encoding="utf-8")


def _write_json(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _environment(header: Line) -> str:
    """In Java's .properties format, which has its own idea of special characters."""
    pairs = {
        "profile": header["profile"]["name"],
        "level": header["level"],
        "cluster": f"{header['cluster']['kind']}: {header['cluster']['description']}",
        "kubernetes": header["cluster"]["version"],
        "mesh": f"{header['implementation']['name']} {header['implementation']['version']}",
        "suite": header["suite"]["version"],
        "python": header["python"],
        "reproduce": reproduce(header),
    }
    return "".join(f"{name} = {' '.join(str(text).split())}\n" for name, text in pairs.items())


class _Attacher:
    """Writes attachments under names that follow from run, case and place, so that a rebuild is the same."""

    def __init__(self, logger: AllureFileLogger, run: str, case: str) -> None:
        self._logger, self._name, self._count = logger, f"{run}/{case}", 0

    def __call__(self, name: str, body: str, kind: tuple[str, str]) -> Attachment:
        self._count += 1
        unique = uuid.uuid5(uuid.NAMESPACE_URL, f"{self._name}/{self._count}")
        source = f"{unique}-attachment.{kind[1]}"
        self._logger.report_attached_data(body.encode("utf-8", "replace"), source)
        return Attachment(name=name, source=source, type=kind[0])


def _result(
    header: Line,
    case: Line,
    attach: _Attacher,
    sources: Mapping[str, Sequence[str]],
    sentences: Mapping[str, str],
) -> TestResult:
    group = case["id"].partition("/")[0]
    start = round((case["started"] or header["started"]) * 1000)
    identity = hashlib.sha256(case["id"].encode()).hexdigest()[:32]
    labels = [
        ("epic", header["profile"]["title"]),
        ("feature", group),
        *(("story", requirement) for requirement in case["requirements"]),
        ("severity", severity(case)),
        ("tag", case["level"]),
        *(("tag", feature) for feature in case["features"]),
        ("parentSuite", header["profile"]["title"]),
        ("suite", group),
        ("host", header["cluster"]["kind"]),
        ("thread", case["worker"] or "main"),
        ("framework", header["suite"]["name"]),
    ]
    urls = dict.fromkeys(url for name in case["requirements"] for url in sources.get(name, ()))
    attachments = []
    if case["policies"]:
        text = "\n---\n".join(map(as_yaml, case["policies"])) + "\n"
        attachments.append(attach("policies as applied", text, YAML))
    if case.get("oracle"):
        attachments.append(attach("oracle", as_yaml(case["oracle"]) + "\n", YAML))
    result = TestResult(
        uuid=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{header['run']}/{case['id']}")),
        name=case["title"],
        fullName=case["id"],
        historyId=identity,
        testCaseId=identity,
        status=STATUSES[case["status"]],
        stage="finished",
        start=start,
        stop=start + round(case["duration_ms"] or 0),
        description="\n\n".join(f"{name}: {sentences.get(name, name)}" for name in case["requirements"]),
        labels=[Label(name=name, value=value) for name, value in labels],
        links=[Link(type="link", url=url, name=url.partition("://")[2]) for url in urls],
        parameters=[Parameter(name="profile", value=header["profile"]["name"])],
        steps=[_step(step, attach, start) for step in case["steps"]],
        attachments=attachments,
    )
    if case["status"] != "passed":
        message = f"{case['failure'] or case['status']}: {case['reason']}"
        if case["status"] == "known-deviation":
            message = f"known-deviation: {case['reason']}"
        again = rerun(header, case)
        result.statusDetails = StatusDetails(message=message, trace=case_text(case, sentences, again))
    return result


def _step(step: Line, attach: _Attacher, start: int) -> TestStepResult:
    times = [value for value in (step.get("timings") or {}).values() if value is not None]
    attachments = []
    if step["probes"]:
        probes = json.dumps(step["probes"], indent=2, ensure_ascii=False) + "\n"
        attachments.append(attach("probes", probes, JSON))
    said = [
        f"round {probe['round']}, {probe['from']} -> {probe['to']}:{probe['port']}: {entry['described']}"
        for probe in step["probes"]
        for entry in probe.get("attribution") or ()
    ]
    if said:
        attachments.append(attach("what the mesh logged", "\n".join(said) + "\n", TEXT))
    found = TestStepResult(
        name=f"{step['number']}. {step['change']}",
        status=STATUSES.get(step["status"], Status.BROKEN),
        stage="finished",
        start=start + round(min(times, default=0)),
        stop=start + round(max(times, default=0)),
        attachments=attachments,
    )
    if step["status"] != "passed":
        found.statusDetails = StatusDetails(message=step["reason"])
    return found
