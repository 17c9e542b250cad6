"""index.html: what it says, that nothing in a record can run in it, that it needs no network."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from conformance.report.page import index_html
from tests import lines
from tests.report import samples

FINGERPRINT = "ab" * 32


def page(content: list[samples.Line], **given: Any) -> str:
    return index_html(content, fingerprint=FINGERPRINT, **given)


class Elements(HTMLParser):
    """Every element with its attributes, and the text outside of style and script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        self._inside = tag if tag in ("style", "script") else ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.text += data

    def flat(self) -> str:
        return " ".join(self.text.split())


def headline(content: list[samples.Line]) -> str:
    found = re.search(r'<header class="top (\S+)">.*?<h1>.*?</span> <span>(.*?)</span>', page(content), re.S)
    assert found
    return f"{found[1]}: {found[2]}"


@pytest.mark.parametrize(
    ("statuses", "changed", "said"),
    [
        (["passed", "passed"], {}, "passed: Conformant"),
        (["passed", "unsupported"], {}, "passed: Conformant"),
        (["passed", "failed"], {}, "failed: Not conformant"),
        (["passed", "failed"], {"code": 7}, "failed: Not conformant"),  # the cases count, too
        (["passed"], {"code": 1}, "failed: Not conformant"),  # the typed walkthrough failed
        (["passed", "inconclusive"], {}, "inconclusive: Inconclusive"),
        (["passed", "skipped"], {}, "skipped: Partial"),
        (["passed", "passed"], {"code": 2}, "inconclusive: Interrupted"),
        (["passed", "passed"], {"code": 4}, "inconclusive: No result"),
        (["skipped"], {}, "inconclusive: Nothing ran"),
        (["unsupported"], {}, "inconclusive: Nothing ran"),
        (["known-deviation"], {}, "inconclusive: Nothing ran"),  # 0 passed is never green
        ([], {}, "inconclusive: Nothing ran"),
        (["passed"], {"selection": "-k a"}, "passed: Selection holds"),
    ],
)
def test_the_first_thing_a_reader_sees(statuses: list[str], changed: Any, said: str) -> None:
    cases = [lines.case(f"g/{number}") | {"status": status} for number, status in enumerate(statuses)]
    assert headline(samples.record(*cases, **changed)) == said


def test_core_and_extended_are_apart() -> None:
    core, extended = lines.case("g/a"), lines.case("g/b", "failed", failure="over-blocking")
    text = Elements(page(samples.record(core, extended | {"level": "extended"}))).flat()
    assert "Core 1 of 1 passed" in text
    assert "Extended 0 of 1 passed" in text


def test_what_an_auditor_asks_for_is_there() -> None:
    content = samples.record(
        lines.case("g/a"),
        options={"profile": "mine.yaml", "cluster": "embedded"},
        profile={
            "name": "p",
            "title": "t",
            "features": [],
            "unsupported": {"routing": "not read"},
            "budgets": {},
        },
    )
    text = Elements(page(content, implementation={"organization": "Örg", "contact": ""})).flat()
    for expected in (
        "not a production Kubernetes",
        "It says nothing about the policies of your services",
        "is reported as a finding, not judged",
        "python -m conformance run --cluster embedded --profile mine.yaml --level core",
        f"SHA-256 {FINGERPRINT}",
        "OrganizationÖrg",
        "port 9001 is rejected",
        "routing: not read",
        "a banner",
        "probe2.0 s",
        "sleep.foo → tcp-echo.foo:9001",
        "closed (FIN) after its first byte was sent",
        "denied, matched no policy",
        "landed at 2 ms",
    ):
        assert expected in text
    assert "Contact" not in text
    assert "oracle says" not in text  # no oracle was asked, so nothing is said of it


def test_the_fingerprint_stands_at_the_foot_of_every_printed_page() -> None:
    style = page(samples.record(lines.case("g/a")))
    assert re.search(r'@page\{[^}]*@bottom-left\{content:"[^"]*' + FINGERPRINT, style)


def test_the_oracle_is_shown_where_it_was_asked() -> None:
    case = lines.case("g/a")
    said = {"allowed": False, "policy": None, "rule": None, "reasons": ["an ALLOW policy selects it"]}
    case["steps"][0]["probes"][0]["oracle"] = said
    text = Elements(page(samples.record(case))).flat()
    assert "the oracle says" in text
    assert "denied" in text
    assert "an ALLOW policy selects it" in text


def test_every_probe_is_in_the_page() -> None:
    content = samples.many(20, 5)
    text = page(content)
    nonces = [probe["nonce"] for case in content[1:-1] for probe in case["steps"][0]["probes"]]
    assert len(nonces) == 300
    assert [nonce for nonce in nonces if nonce not in text] == []


def test_rounds_that_differ_are_told_apart_and_the_worst_is_in_the_table() -> None:
    case = lines.case("g/a")
    good = case["steps"][0]["probes"][0]
    bad = good | {"round": 2, "nonce": "n1", "status": "failed", "failure": "allowed but forbidden"}
    bad["observed"] = good["observed"] | {"kind": "answered"}
    case["steps"][0]["probes"] = [good, bad, good | {"round": 3, "nonce": "n2"}]
    text = Elements(page(samples.record(case))).flat()
    assert "failed: answered, differs by round" in text


def test_a_record_that_is_script_does_nothing() -> None:
    content = samples.hostile()
    text = page(content, implementation={"organization": samples.HOSTILE})
    elements = Elements(text)
    tags = [tag for tag, _ in elements.found]
    assert tags.count("script") == 1
    assert "img" not in tags
    assert elements.text.count("<script>alert(1)</script>") > 20
    assert [a for _, a in elements.found if any(name.startswith("on") or name == "style" for name in a)] == []
    links = [a["href"] for tag, a in elements.found if tag == "a"]
    assert [link for link in links if not link.startswith(("#", "https://"))] == []
    style = re.search(r"<style>(.*?)</style>", text, re.S)
    assert style
    assert "<" not in style[1]


def test_only_the_page_itself_may_be_loaded_and_run() -> None:
    text = page(samples.record(lines.case("g/a")))
    elements = Elements(text).found
    (policy,) = [a["content"] for tag, a in elements if a.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    for name in ("script", "style"):
        found = re.search(rf"<{name}>(.*?)</{name}>", text, re.S)
        assert found
        hashed = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
        assert rules[f"{name}-src"] == f"'sha256-{hashed}'"
        assert "url(" not in found[1]
        assert "@import" not in found[1]
        assert "http" not in found[1]
    assert [a for _, a in elements if "src" in a or "srcset" in a or "action" in a] == []
    assert [a["href"] for tag, a in elements if tag == "link"] == ["data:,"]


def test_names_in_other_scripts_stay_as_they_are() -> None:
    case = lines.case("g/名前", reason="запрещено") | {"title": "端口 9000 يُسمح به ✓ café"}
    text = page(samples.record(case))
    assert 'id="case-g-名前"' in text
    assert "端口 9000 يُسمح به ✓ café" in text


def test_anchors_are_unique_and_every_link_has_its_target() -> None:
    content = samples.record(lines.case("g/a[1]"), lines.case("g/a-1"), lines.case("g/a 1"))
    elements = Elements(page(content)).found
    names = [a["id"] for _, a in elements if "id" in a]
    assert sorted(names) == sorted(set(names))
    links = [a["href"][1:] for tag, a in elements if tag in ("a", "use") and a["href"].startswith("#")]
    assert set(links) <= set(names)
    assert {a["data-r"] for _, a in elements if "data-r" in a} <= set(names)


def test_ten_thousand_cases_still_make_a_page_that_opens() -> None:
    content = samples.many(10_000, 2, rounds=1)
    failed = lines.case("group1/00001-a-case-with-a-name", "failed", failure="over-blocking", reason="why")
    content[2] = failed
    content[-1] = lines.footer(1)
    text = page(content)
    assert len(text) < 16_000_000
    assert "leaves out the probes of 9,999 cases that passed" in text
    assert "step 1: applied 1 ms" in text  # of the failed one, in full
    assert text.count('<details class="case"') == 10_000


def test_three_hundred_cases_with_five_thousand_probes_are_three_megabytes_at_most() -> None:
    content = samples.many(300, 6)  # 5,400 probes
    assert len(page(content).encode()) <= 3_000_000
