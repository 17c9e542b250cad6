"""conformance-report.yaml: the run in the shape of Gateway API's ConformanceReport; its schema is
docs/conformance-report.schema.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from conformance.report.page import instant_iso
from conformance.report.result import level_results, result_of

__all__ = ["conformance_report", "report_yaml"]

Line = Mapping[str, Any]
API_VERSION = "authz-conformance/v1"


def conformance_report(
    lines: Sequence[Line], fingerprint: str, implementation: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The report as data. Only for a record whose result claims a level."""
    header, cases, footer = lines[0], lines[1:-1], lines[-1]
    given = {name: text for name, text in (implementation or {}).items() if text}
    block = {
        "organization": given.get("organization", ""),
        "project": given.get("project", header["implementation"]["name"]),
        "url": given.get("url", ""),
        "version": given.get("version", header["implementation"]["version"]),
        "contact": [given["contact"]] if "contact" in given else [],
    }
    report: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": "ConformanceReport",
        "date": instant_iso(header["started"]),
        "suiteVersion": header["suite"]["version"],
        "implementation": block,
        "profile": header["profile"]["name"],
        "level": header["level"],
        "cluster": {"kind": header["cluster"]["kind"], "version": header["cluster"]["version"]},
        "result": _whole(lines),
        "record": {"run": header["run"], "sha256": fingerprint, "durationMs": footer["duration_ms"]},
    }
    for level in level_results(cases):
        if not level.total:
            continue
        statistics = {
            "passed": level.counts["passed"],
            "failed": level.counts["failed"],
            "inconclusive": level.counts["inconclusive"],
            "skipped": level.counts["skipped"],
            "unsupported": level.counts["unsupported"],
            "knownDeviations": level.counts["known-deviation"],
        }
        report[level.level] = {"result": level.result, "statistics": statistics} | {
            key: found
            for key, status in (
                ("failedTests", "failed"), ("inconclusiveTests", "inconclusive"), ("skippedTests", "skipped"),
                ("knownDeviations", "known-deviation"),
            )
            if (found := [c["id"] for c in cases if c["level"] == level.level and c["status"] == status])
        }  # fmt: skip
    profile = header["profile"]
    report["supportedFeatures"] = sorted(profile["features"])
    report["unsupportedFeatures"] = sorted(profile["unsupported"])
    needed = {feature for case in cases if case["status"] == "skipped" for feature in case["features"]}
    report["skippedFeatures"] = sorted(needed - set(profile["features"]) - set(profile["unsupported"]))
    return report


def _whole(lines: Sequence[Line]) -> str:
    return {"conformant": "success", "not conformant": "failure"}.get(result_of(lines).word, "partial")


def report_yaml(
    lines: Sequence[Line], fingerprint: str, implementation: Mapping[str, str] | None = None
) -> str:
    report = conformance_report(lines, fingerprint, implementation)
    return yaml.safe_dump(report, sort_keys=False, allow_unicode=True)
