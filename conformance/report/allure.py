"""A case as Allure shows it: labels, steps, attachments. Needs --alluredir; the result files are written by
allure-pytest, which makes a Breach `failed` and anything inconclusive `broken`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["describe_case", "finding_text", "severity"]

Line = Mapping[str, Any]


def severity(line: Line) -> str:
    """Core cases are critical: they are the walkthrough itself."""
    return "critical" if line["level"] == "core" else "normal"


def finding_text(finding: Line) -> str:
    """A finding as a paragraph."""
    head = f"Finding ({finding['severity']}, {finding['requirement']}): {finding['title']}."
    return f"{head} Seen: {finding['seen']}. {finding['why']} {finding['advice']}"


def describe_case(line: Line, profile_title: str, sentences: Mapping[str, str]) -> None:
    """Adds to the test that is running now."""
    import allure  # the plugin's API; only where results are asked for

    dynamic = allure.dynamic
    dynamic.title(line["title"])
    told = [sentences.get(name, name) for name in line["requirements"]]
    dynamic.description("\n\n".join(told + [finding_text(item) for item in line["findings"]]))
    dynamic.epic(profile_title)
    dynamic.feature(line["id"].partition("/")[0])
    for requirement in line["requirements"]:
        dynamic.story(requirement)
    dynamic.severity(severity(line))
    kind = allure.attachment_type.JSON
    policies = json.dumps(line["policies"], indent=2, ensure_ascii=False)
    allure.attach(policies, name="policies as applied", attachment_type=kind)
    for item in line["findings"]:
        dynamic.tag(f"finding: {item['severity']}")
    controls = json.dumps(line["controls"], indent=2, ensure_ascii=False)
    allure.attach(controls, name="controls", attachment_type=kind)
    for step in line["steps"]:
        with allure.step(f"{step['number']}. {step['change']}"):
            probes = json.dumps(step["probes"], indent=2, ensure_ascii=False)
            allure.attach(probes, name="probes", attachment_type=kind)
            if step["exposure"]:
                watched = json.dumps(step["exposure"], indent=2, ensure_ascii=False)
                allure.attach(watched, name="exposure watch", attachment_type=kind)
