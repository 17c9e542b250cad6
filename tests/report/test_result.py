"""The command that asks the same again: it has everything that was given and changes the answer."""

from __future__ import annotations

import shlex

from conformance.report.junit import junit_xml
from conformance.report.result import reproduce, rerun
from tests import lines

GIVEN = {
    "profile": "mine.yaml",
    "known": "my deviations.yaml",
    "manifests": "other",
    "allow_mesh_wide": True,
    "telemetry": True,
    "namespaces": {"foo": "team-a", "bar": "team-b"},
}
WORDS = [
    *("--profile", "mine.yaml", "--known", "my deviations.yaml", "--manifests", "other", "--allow-mesh-wide"),
    *("--telemetry", "--namespaces", "foo=team-a,bar=team-b"),
]
RUN = ["python", "-m", "conformance", "run", "--cluster", "embedded"]


def test_nothing_was_given() -> None:
    assert shlex.split(rerun(lines.header(), lines.case("g/a[x]"))) == [*RUN, "-k", "g/a[x]"]
    assert shlex.split(reproduce(lines.header())) == [*RUN, "--level", "core"]


def test_everything_that_was_given() -> None:
    header = lines.header(options=GIVEN, selection="-k g")
    assert shlex.split(rerun(header, lines.case("g/a"))) == [*RUN, *WORDS, "-k", "g/a"]
    assert shlex.split(reproduce(header)) == [*RUN, *WORDS, "--level", "core", "-k", "g"]


def test_a_case_says_it_in_the_reports() -> None:
    header = lines.header("g/a", options=GIVEN)
    case = lines.case("g/a", "failed", failure="over-blocking")
    assert f"again: {rerun(header, case)}" in junit_xml([header, case, lines.footer(1)], {})
