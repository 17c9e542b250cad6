"""index.html as a reader's browser shows it, from disk and without a network."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from conformance.report.compare import compare, compare_html
from conformance.report.page import index_html
from tests import lines
from tests.browser.conftest import Opener
from tests.report import samples

FINGERPRINT = "ab" * 32
CLIENTS = ("foo", "bar", "legacy")
FAILED = "group1/00001-a-case-with-a-name"


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 cases with 5,400 probes, one of them a breach."""
    content = samples.many(300, 6)
    case = lines.case(FAILED, "failed", failure="allowed but forbidden", reason="it got through")
    content[2] = case
    content[-1] = lines.footer(1)
    file = tmp_path_factory.mktemp("big") / "index.html"
    file.write_text(index_html(content, fingerprint=FINGERPRINT), encoding="utf-8")
    return file


def write(folder: Path, content: list[samples.Line]) -> Path:
    file = folder / "index.html"
    file.write_text(index_html(content, fingerprint=FINGERPRINT), encoding="utf-8")
    return file


def test_it_opens_from_disk_asks_for_nothing_and_does_not_complain(big: Path, view: Opener) -> None:
    opened = view(big)
    assert opened.page.locator("h1").inner_text().endswith("Not conformant")
    assert opened.requests == [big.as_uri()]
    assert opened.complaints == []
    paint = opened.page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    print(f"\n{big.stat().st_size / 1e6:.2f} MB, first paint after {paint:.0f} ms")
    opened.shoot("page-light")
    opened.page.locator("#truth").scroll_into_view_if_needed()
    opened.shoot("page-truth-tables")


def test_filter_and_search_narrow_cases_and_requirements(big: Path, view: Opener) -> None:
    page = view(big).page
    shown = page.locator("details.case:not(.out)")
    assert shown.count() == 300
    page.locator("select[name=status]").select_option("failed")
    assert shown.count() == 1
    assert page.locator("output").inner_text().startswith("1 of 300 cases")
    page.locator("button[type=reset]").click()
    page.wait_for_function("document.querySelectorAll('details.case.out').length === 0")
    took = page.evaluate(
        """() => { const box = document.querySelector("input[type=search]"); const times = [];
        for (const text of ["group1/00001", "n00007", "closed", ""]) { box.value = text;
          const start = performance.now(); box.dispatchEvent(new Event("input", {bubbles: true}));
          document.body.offsetHeight; times.push(Math.round(performance.now() - start)); }
        return times; }"""
    )
    print(f"\nfilter answered after {took} ms (the first one reads all texts)")
    page.locator("input[type=search]").fill("00001-a-case breach")
    assert shown.count() == 0
    assert page.locator("#none").is_visible()
    page.locator("input[type=search]").fill("00001-a-case forbidden")
    assert shown.count() == 1


def test_a_cell_tells_its_probe_to_mouse_and_keyboard(big: Path, view: Opener) -> None:
    opened = view(big)
    page = opened.page
    tip = page.locator("#tip")
    cell = page.locator("td.failed button").first
    cell.hover()
    assert "closed (FIN) after its first byte was sent" in tip.inner_text()
    opened.shoot("page-case")
    page.keyboard.press("Escape")
    assert tip.is_hidden()
    cell.focus()
    assert tip.is_visible()
    # A cell of the heat map tells the same as its case's table, and the paths of one case are told apart.
    page.keyboard.press("Escape")
    strip = page.locator(".strips a[href='#case-group2-00002-a-case-with-a-name'] i")
    told = []
    for number in range(strip.count()):
        strip.nth(number).hover()
        told.append(tip.locator("dd").first.inner_text())
    assert told == [f"sleep.{name} → tcp-echo.foo:{9000 + port}" for name in CLIENTS for port in (0, 1)]


def test_a_link_opens_the_case_it_leads_to(big: Path, view: Opener) -> None:
    page = view(big).page
    case = page.locator("details.case").nth(200)
    assert case.get_attribute("open") is None
    page.locator(f".strips a[href='#{case.get_attribute('id')}']").click()
    page.wait_for_function("id => document.getElementById(id).open", arg=case.get_attribute("id"))


def test_dark_mode_is_dark(big: Path, view: Opener) -> None:
    opened = view(big, color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    assert _brightness(opened.page.evaluate(background)) < 60
    opened.shoot("page-dark")
    opened.page.locator("#theme").click()
    assert _brightness(opened.page.evaluate(background)) > 240


def _brightness(colour: str) -> float:
    return sum(map(float, re.findall(r"[\d.]+", colour)[:3])) / 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_that_wcag_asks_for(tmp_path: Path, view: Opener, scheme: str) -> None:
    """4.5:1, for the words of every status, measured on what the browser computes."""
    names = ("passed", "failed", "inconclusive", "skipped", "unsupported")
    cases = [lines.case(f"g/{name}") | {"status": name} for name in names]
    page = view(write(tmp_path, samples.record(*cases)), color_scheme=scheme).page
    found = page.evaluate(
        """() => { const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(v => { v /= 255;
            return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
            return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
        const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
            if (!/, 0\\)$/.test(c) && c !== "transparent") return c; } return "rgb(255,255,255)"; };
        const chosen = "h1, .headline, .badge, .dim, small, td button, a, dt, .reason, .count b, .strips i";
        return [...document.querySelectorAll(chosen)].filter(e => e.checkVisibility()).map(e => {
            const a = light(getComputedStyle(e).color), b = light(behind(e));
            return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.outerHTML.slice(0, 80)]; }); }"""
    )
    assert len(found) > 40
    assert [item for item in found if item[0] < 4.5] == []


def test_it_is_readable_on_a_phone(big: Path, view: Opener) -> None:
    opened = view(big, viewport={"width": 400, "height": 860})
    widest = "document.scrollingElement.scrollWidth"
    assert opened.page.evaluate(widest) <= 400
    opened.shoot("page-phone")
    opened.page.locator("details.case").first.evaluate("item => { item.open = true; item.scrollIntoView(); }")
    assert opened.page.evaluate(widest) <= 400
    opened.shoot("page-phone-case")


def test_paper_shows_what_is_closed_and_what_is_filtered_away(tmp_path: Path, view: Opener) -> None:
    content = samples.record(lines.case("g/a"), lines.case("g/b", "failed", failure="over-blocking"))
    page = view(write(tmp_path, content)).page
    page.locator("select[name=status]").select_option("failed")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    cases = page.locator("details.case pre")
    assert [cases.nth(number).is_visible() for number in range(cases.count())] == [True, True]
    assert page.locator("nav").is_hidden()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("#case-g-a").get_attribute("open") is None
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")


def test_hostile_records_run_nothing(tmp_path: Path, view: Opener) -> None:
    opened = view(write(tmp_path, samples.hostile()))
    opened.page.locator("#open-all").click()
    opened.page.locator("td button").first.hover()
    opened.page.locator("input[type=search]").fill("<script>alert(1)</script>")
    assert opened.page.locator("#tip").locator("script, img").count() == 0
    assert len(opened.requests) == 1
    assert opened.complaints == []


def test_headings_tables_and_controls_have_names(big: Path, view: Opener) -> None:
    page = view(big).page
    assert page.locator("h1").count() == 1
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4,h5')].map(e => +e.tagName[1])")
    jumps = [pair for pair in pairwise(levels) if pair[1] > pair[0] + 1]
    assert jumps == []
    # In a table's head a header without a scope is its column's; everywhere else it must say.
    unnamed = (
        "[...document.querySelectorAll(':not(thead) > tr > th:not([scope]), table:not(:has(th))')].length"
    )
    assert page.evaluate(unnamed) == 0
    assert (
        page.evaluate("[...document.querySelectorAll('table')].filter(table => !table.caption).length") == 0
    )
    for role in ("searchbox", "combobox", "button"):
        found = page.get_by_role(role)
        assert found.count() > 0
    nameless = """[...document.querySelectorAll('button, select, input')]
        .filter(e => !e.textContent.trim() && !e.ariaLabel && !e.closest('label')).length"""
    assert page.evaluate(nameless) == 0


def test_a_run_of_300_cases_and_5000_probes_is_there_at_once(tmp_path: Path, view: Opener) -> None:
    """1 s to the first paint, 100 ms for the filter: reported, not asserted, for machines differ."""
    page = view(write(tmp_path, samples.grown(300, 5_000))).page
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    took = page.evaluate(
        """() => { const box = document.querySelector("input[type=search]"); const times = {};
        for (const text of ["tcp-echo", "allow", "doc/", "selector", "no case", ""]) { box.value = text;
          const start = performance.now(); box.dispatchEvent(new Event("input", {bubbles: true}));
          document.body.offsetHeight; times[text] = Math.round(performance.now() - start); }
        return times; }"""
    )
    size = (tmp_path / "index.html").stat().st_size / 1e6
    print(f"\n{size:.2f} MB, first paint after {paint:.0f} ms, filter answered after {took} ms")
    assert page.locator("details.case:not(.out)").count() == 300


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 400)])
def test_axe_finds_no_violation(tmp_path: Path, view: Opener, axe: str, scheme: str, width: int) -> None:
    names = ("passed", "failed", "inconclusive", "skipped", "unsupported", "known-deviation")
    cases = [lines.case(f"g/{name}") | {"status": name} for name in names]
    file = write(tmp_path, samples.record(*cases))
    size = {"width": width, "height": 900}
    page = view(file, color_scheme=scheme, viewport=size, bypass_csp=True).page
    page.locator("#open-all").click()
    # What is not drawn yet has no place, and axe would measure it against what lies there.
    page.add_style_tag(content="*{content-visibility:visible!important}")
    page.evaluate(axe)
    found = page.evaluate("async () => (await axe.run()).violations")
    told = [(rule["id"], rule["help"], node["html"][:160]) for rule in found for node in rule["nodes"]]
    assert told == []


def test_the_comparison_opens_without_complaint(tmp_path: Path, view: Opener) -> None:
    old = samples.record(lines.case("g/a"), lines.case("g/b"))
    new = samples.record(
        lines.case("g/a", "failed", reason=samples.HOSTILE, failure="over-blocking"), lines.case("g/b")
    )
    file = tmp_path / "compare.html"
    file.write_text(compare_html(compare(old, new)), encoding="utf-8")
    opened = view(file)
    assert opened.page.locator("h1").inner_text().endswith("1 no longer passing")
    assert (opened.requests, opened.complaints) == ([file.as_uri()], [])
    opened.shoot("compare")
