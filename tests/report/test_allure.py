"""Allure results: labels, attachments, categories, and what history is joined by."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from conformance.errors import InputError
from conformance.report import allure_page
from conformance.report.allure import CATEGORIES, write_allure
from tests import lines
from tests.report import samples


def results(folder: Path, content: list[samples.Line]) -> dict[str, dict[str, Any]]:
    write_allure(content, folder, {"DOC-02": "the sentence"})
    found = [json.loads(file.read_text()) for file in folder.glob("*-result.json")]
    return {result["fullName"]: result for result in found}


def labels(result: dict[str, Any], name: str) -> list[str]:
    return [label["value"] for label in result["labels"] if label["name"] == name]


def test_labels_links_and_attachments(tmp_path: Path) -> None:
    found = results(tmp_path, samples.record(lines.case("g/a")))["g/a"]
    assert labels(found, "epic") == ["t"]
    assert labels(found, "feature") == ["g"]
    assert labels(found, "story") == ["DOC-02", "RUN-01"]
    assert labels(found, "severity") == ["critical"]
    assert [link["url"] for link in found["links"]] == ["https://example.com/page?a=1&b=2"]
    attached = {
        item["name"]: item["source"] for item in found["attachments"] + found["steps"][0]["attachments"]
    }
    assert list(attached) == ["policies as applied", "oracle", "probes", "what the mesh logged"]
    assert "kind: AuthorizationPolicy" in (tmp_path / attached["policies as applied"]).read_text()
    assert "no ALLOW rule matches" in (tmp_path / attached["oracle"]).read_text()
    assert "denied, matched no policy" in (tmp_path / attached["what the mesh logged"]).read_text()
    assert "the sentence" in found["description"]


@pytest.mark.parametrize(
    ("status", "failure", "shown", "category"),
    [
        ("failed", "allowed but forbidden", "failed", "Breach"),
        ("failed", "a rejected client's bytes reached the application", "failed", "Breach"),
        ("failed", "over-blocking", "failed", "Over-blocking"),
        ("failed", "wrong reason", "failed", "Wrong reason"),
        ("failed", "wrong warnings", "failed", "Other failures"),
        ("inconclusive", None, "broken", "Inconclusive"),
        ("known-deviation", "over-blocking", "skipped", "Known deviation"),
        ("unsupported", None, "skipped", "Unsupported or skipped"),
    ],
)
def test_every_kind_of_end_has_its_category(
    tmp_path: Path, status: str, failure: str | None, shown: str, category: str
) -> None:
    case = lines.case("g/a", status, reason="two\nlines", failure=failure)
    found = results(tmp_path, samples.record(case))["g/a"]
    assert found["status"] == shown
    message = found["statusDetails"]["message"]
    # Allure puts a result into every category that fits.
    fits = [name for name, statuses, text in CATEGORIES if shown in statuses and re.fullmatch(text, message)]
    assert fits == [category]


def test_two_runs_share_what_history_is_joined_by_and_nothing_unstable(tmp_path: Path) -> None:
    first = results(tmp_path / "1", samples.record(lines.case("g/a[row]"), run="r1"))["g/a[row]"]
    again = samples.record(lines.case("g/a[row]") | {"worker": "w1", "started": 99.0}, run="r2", started=98.0)
    second = results(tmp_path / "2", again)["g/a[row]"]
    for name in ("historyId", "testCaseId", "fullName", "parameters", "name"):
        assert first[name] == second[name]
    assert first["uuid"] != second["uuid"]


def test_a_rebuild_leaves_nothing_old(tmp_path: Path) -> None:
    content = samples.record(lines.case("g/a"), lines.case("g/b"))
    results(tmp_path, content)
    before = sorted(file.read_bytes() for file in tmp_path.iterdir())
    results(tmp_path, content)
    assert sorted(file.read_bytes() for file in tmp_path.iterdir()) == before


def test_environment_and_executor_are_there(tmp_path: Path) -> None:
    results(
        tmp_path,
        samples.record(lines.case("g/a"), cluster={"kind": "k", "description": "a\nb", "version": "v"}),
    )
    text = (tmp_path / "environment.properties").read_text()
    assert "cluster = k: a b\n" in text
    assert json.loads((tmp_path / "executor.json").read_text())["buildName"] == "run r1"


def test_without_node_there_is_no_page_and_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert allure_page.allure_page(tmp_path / "allure-results", tmp_path / "history") is None


def test_the_tool_is_pinned_by_hash_and_switches_analytics_off() -> None:
    lock = json.loads((allure_page.TOOL / "package-lock.json").read_text())
    packages = {name: item for name, item in lock["packages"].items() if name}
    assert packages["node_modules/allure"]["version"].startswith("3.")
    assert [name for name, item in packages.items() if not item.get("integrity")] == []
    wanted = json.loads((allure_page.TOOL / "package.json").read_text())["dependencies"]
    assert lock["packages"][""]["dependencies"] == wanted


def test_a_page_with_an_analytics_script_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def generate(command: list[str], environment: dict[str, str]) -> None:
        assert environment["ALLURE_NO_ANALYTICS"] == "true"
        page = Path(environment["ALLURE_OUTPUT"]) / "index.html"
        page.write_text('<script async src="https://www.googletagmanager.com/gtag/js"></script>')

    monkeypatch.setattr(allure_page, "_install", lambda: None)
    monkeypatch.setattr(allure_page, "_run", generate)
    monkeypatch.setattr("shutil.which", lambda name: name)
    with pytest.raises(InputError, match="analytics"):
        allure_page.allure_page(tmp_path / "allure-results", tmp_path / "history")
    assert not (tmp_path / "allure.html").exists()
