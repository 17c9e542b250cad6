"""index.html: what it says, that nothing in a record can run in it, that it needs no network."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from conformance.findings import finding
from conformance.report.compact import compact
from conformance.report.page import index_html
from tests import lines
from tests.report import samples

FINGERPRINT = "ab" * 32


def page(content: list[samples.Line], **given: Any) -> str:
    return index_html(content, fingerprint=FINGERPRINT, **given)


INLINE = ("a", "b", "code", "i", "q", "small", "span")


class Elements(HTMLParser):
    """Every element with its attributes, and the text outside of style and script; what is no part of a line
    stands apart, as readers see it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        self._inside = tag if tag in ("style", "script") else ""
        self.text += "" if tag in INLINE else " "

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
        (["known-deviation"], {}, "skipped: Partial"),  # 0 passed is never green
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
        "Organization Örg",
        "port 9001 is rejected",
        "routing: not read",
        "a banner",
        "probe 2 s",
        "sleep.foo → tcp-echo.foo:9001",
        "closed (FIN) after its first byte was sent",
        "denied, matched no policy",
        "landed at 2 ms",
    ):
        assert expected in text
    assert "Contact" not in text


def test_the_fingerprint_stands_at_the_foot_of_every_printed_page() -> None:
    style = page(samples.record(lines.case("g/a")))
    assert re.search(r'@page\{[^}]*@bottom-left\{content:"[^"]*' + FINGERPRINT, style)


def test_the_oracle_is_shown_where_it_was_asked() -> None:
    case = lines.case("g/a")
    case["oracle"]["lanes"][0] |= {"doubt": "another name", "audited": [{"policy": "foo/p", "rule": 0}]}
    text = Elements(page(samples.record(case))).flat()
    assert "the oracle says" in text
    assert "denied: no ALLOW rule matches" in text
    assert "ALLOW p rule 0 does not match: another port" in text
    assert "audited by p rule 0" in text
    assert "dry run: the ALLOW policies would allow, by p rule 0" in text
    assert "doubt: another name" in text
    unasked = Elements(page(samples.record(lines.case("g/a") | {"oracle": None}))).flat()
    assert "oracle says" not in unasked  # it was not asked, so nothing is said of it


def test_what_the_exposure_watch_saw_is_told() -> None:
    case = lines.case("g/a")
    text = Elements(page(samples.record(case))).flat()
    assert "2 probes of 1 forbidden path in the 6 ms until the next change: none got through" in text
    assert "2 probes of forbidden paths until the next change, none got through" in text
    breach: dict[str, Any] = {
        "from": "sleep.foo",
        "to": "tcp-echo.foo",
        "via": "pod",
        "port": 9001,
        "count": 3,
    }
    breach |= {"offset_ms": 1274.0, "described": "answered 'hello'"}
    case["steps"][0]["exposure"] |= {"breaches": [breach], "lost": "its stream broke"}
    text = Elements(page(samples.record(case))).flat()
    said = "3 connections got through, the first opened 1,274 ms into the case; answered 'hello'"
    assert f"sleep.foo → tcp-echo.foo:9001 by pod IP: {said}" in text
    assert "A part of the watch was lost: its stream broke" in text
    assert "until the next change, 1 got through" in text


def test_a_finding_is_told_once_with_what_to_do() -> None:
    text = Elements(page(samples.record(lines.case("g/a"), lines.case("g/b")))).flat()
    found = finding("RUN-04", severity="medium", seen="")
    assert text.count(found["advice"]) == 1
    assert found["why"] in text
    assert "Findings 1 1 medium" in text
    assert "Cases g/a, g/b" in text


def test_the_exceptions_register_has_who_answers_and_what_must_go() -> None:
    known: dict[str, Any] = {
        "case": "g/a",
        "requirement": "",
        "reason": "ours differs",
        "link": "https://example.com/1",
    }
    known |= {"approver": "Jo", "expires": "2027-01-31", "file": "known.yaml", "line": 4}
    case = lines.case("g/a", "known-deviation", failure="over-blocking") | {"known_deviation": known}
    content = samples.record(case, lines.case("g/b"))
    text = Elements(page(content)).flat()
    for expected in ("What ran holds, but 1 known deviation was excused", "ours differs", "Jo", "2027-01-31"):
        assert expected in text
    assert "known.yaml:4" in text
    content = samples.record(lines.case("g/b"))
    content[-1] |= {"stale_deviations": [known | {"why": "every case of it passes"}], "exit_code": 1}
    assert headline(content) == "failed: Not conformant"
    text = Elements(page(content)).flat()
    assert "1 known deviation must be taken off the list" in text
    assert "every case of it passes" in text


def test_a_control_that_did_not_hold_says_why() -> None:
    case = lines.case("g/a", "inconclusive", reason="in the log of nobody")
    case["controls"]["baseline"] |= {"held": False}
    for kind, said in (
        ("answered", "every path answered, but the servers' logs do not say the same"),
        ("closed", "not every path answered"),
    ):
        case["controls"]["baseline"]["probes"][0]["observed"] |= {"kind": kind}
        text = Elements(page(samples.record(case))).flat()
        assert f"baseline did not hold: {said} (1 path, 1 round)" in text


def test_an_excused_failure_is_no_alarm_in_the_heat_map() -> None:
    for status, look in (("failed", "failed"), ("known-deviation", "known-deviation")):
        case = lines.case("g/a", "failed", failure="over-blocking") | {"status": status}
        case["steps"][0]["probes"][0] |= {"status": "failed"}
        heat = page(samples.record(case)).partition("class=strips>")[2].partition("</a>")[0]
        assert f"<i class={look}>" in heat


def test_a_run_over_its_budget_says_so_first() -> None:
    budgets = {"time_to_enforce_p95": 10.0, "time_to_recover_max": 9.0}
    profile = lines.header()["profile"] | {"budgets": budgets}
    content = samples.record(lines.case("g/a"), profile=profile)
    over = {"budget": "time_to_enforce_p95", "limit_ms": 10.0, "measured_ms": 20.0}
    content[-1] |= {"over_budget": [over], "exit_code": 7}
    assert headline(content) == "skipped: Partial"
    text = Elements(page(content)).flat()
    assert "What ran holds, but 1 time was over budget" in text
    assert "measured 20 ms, the budget is 10 ms" in text
    assert re.search("time to enforce, p95 10 ms 20 ms over", text)
    assert re.search("time to recover, max 9 ms . not measured", text)


def test_how_it_is_known_who_decided_is_told() -> None:
    cases = [lines.case("g/a"), lines.case("g/b") | {"attribution": "counters"}]
    text = Elements(page(samples.record(*cases))).flat()
    assert "1 case by policy and rule, from the mesh's access log; 1 case that RBAC denied" in text
    unknown = lines.case("g/a") | {"attribution": "unavailable"}
    assert "not at all: what denied is not known" in Elements(page(samples.record(unknown))).flat()


def test_generated_policies_and_what_disagrees() -> None:
    policy = {"kind": "AuthorizationPolicy", "metadata": {"name": "drawn"}}
    disagreement: dict[str, Any] = {
        "set": 7,
        "failure": "over-blocking",
        "reason": "the oracle allows it",
        "again": True,
    }
    disagreement |= {"documents": [policy, policy], "shrunk": [policy], "file": "generated/set-7.yaml"}
    generated: dict[str, Any] = {
        "asked": 1000,
        "seed": 42,
        "sets": 990,
        "batches": 4,
        "probes": 12345,
        "late": 2,
    }
    generated |= {"drawn_ms": 5.0, "tried_ms": 61000.0, "again": "python -m conformance run --fuzz=1000"}
    generated |= {
        "disagreements": [disagreement],
        "inconclusive": [{"set": 9, "reason": "a barrier did not come"}],
    }
    case = lines.case("generated/policies", "failed", failure="over-blocking") | {"generated": generated}
    text = Elements(page(samples.record(case))).flat()
    for expected in (
        "990 of 1,000, in 4 batches, 1 min 1 s",
        "12,345, 2 agreed only when probed again",
        "python -m conformance run --fuzz=1000",
        "Set 7 disagrees over-blocking: the oracle allows it",
        "Written as a scenario: generated/set-7.yaml",
        "name: drawn",
        "Set 9 is inconclusive: a barrier did not come",
    ):
        assert expected in text


def test_preflight_is_told_with_its_remedies() -> None:
    checks = [
        {"name": "API group", "ok": True, "said": "v1 is served", "remedy": ""},
        {"name": "rights", "ok": False, "said": "no exec", "remedy": "grant pods/exec"},
    ]
    text = Elements(page(samples.record(lines.case("g/a"), preflight=checks))).flat()
    assert "rights" in text
    assert "What to do: grant pods/exec" in text


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


def test_ten_thousand_cases_still_make_a_page_that_opens() -> None:
    content = samples.many(10_000, 2, rounds=1)
    failed = lines.case("group1/00001-a-case-with-a-name", "failed", failure="over-blocking", reason="why")
    content[2] = failed
    content[-1] = lines.footer(1)
    text = page(content)
    assert len(text) < 16_000_000
    assert "leaves out the probes of 9,999 cases that passed" in text
    assert "applied at 1 ms" in text  # of the failed one, in full
    assert text.count("<details class=case") == 10_000


def test_three_hundred_cases_with_five_thousand_probes_are_three_megabytes_at_most() -> None:
    content = samples.grown(300, 5_000)
    probes = [probe for case in content[1:-1] for step in case["steps"] for probe in step["probes"]]
    assert (len(content) - 2, len(probes)) == (300, 5_000)
    text = page(content)
    print(f"\n{len(text.encode()):,} bytes")
    assert len(text.encode()) <= 2_600_000  # 2,390,000 today: room for what cases have yet to say
    missing = [probe["nonce"] for probe in probes if probe["nonce"] not in text]
    assert missing == []


def test_a_page_in_fewer_bytes_is_the_same_document() -> None:
    given = '<ul class="a b" id="x">\n  <li>1 &lt;p class=&#34;c&#34;&gt;</li>\n<li>it&#39;s</li></ul>'
    assert compact(given) == '<ul class="a b" id=x><li>1 &lt;p class="c"&gt;<li>it\'s</ul>'
    # What a value or a policy says stays as it is.
    for same in (
        '<i title="&#34; y=&#34;z">',
        '<a href="x/"/>',
        '<a title=" on=1" id="">',
        '<pre>\n<b id="p">\n</pre>',
    ):
        assert compact(same) == same
