"""Cases that are functions: found by their marker, refused where the marker or docstring is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.catalogue import load_catalogue
from conformance.errors import InputError
from conformance.functions import load_functions
from conformance.lint import lint
from conformance.scenario import Level

GOOD = '''
import pytest

@pytest.mark.requirements("LIFE-03", "LIFE-04", features=["mesh-wide"], level="core")
def test_away_and_back(act):
    """Sidecars decide
    as before

    More about it.
    """

def test_of_another_kind(act):
    """No case at all"""
'''


def written(directory: Path, text: str) -> Path:
    (directory / "test_lifecycle.py").write_text(text, encoding="utf-8")
    return directory


def test_a_marked_function_is_a_case_with_its_docstring_as_title(tmp_path: Path) -> None:
    (case,) = load_functions(written(tmp_path, GOOD))
    assert case.id == "lifecycle/away-and-back"
    assert case.title == "Sidecars decide as before"
    assert case.requirements == ("LIFE-03", "LIFE-04")
    assert case.level is Level.CORE
    assert case.mesh_wide
    assert case.line == 5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("mesh-wide", "mesh-wyde", "does not know mesh-wyde"),
        ("level=", "levle=", "does not know levle"),
        ('"core"', '"corel"', "takes plain texts"),
        ('"LIFE-03"', "NAME", "takes plain texts"),
        ("features=", "features=NAME + ", "takes plain texts"),
    ],
)
def test_a_wrong_marker_is_told_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"test_lifecycle\.py:5: .*{message}"):
        load_functions(written(tmp_path, GOOD.replace(old, new)))


def test_a_case_without_a_docstring_has_no_title(tmp_path: Path) -> None:
    text = '@pytest.mark.requirements("LIFE-03")\ndef test_it(act): pass\n'
    with pytest.raises(InputError, match="its title; there is none"):
        load_functions(written(tmp_path, text))


def test_the_lint_counts_functions_as_cover_and_knows_their_mistakes(tmp_path: Path) -> None:
    text = '@pytest.mark.requirements("LIFE-99")\ndef test_it(act):\n    """It should be so"""\n'
    report = lint(functions=written(tmp_path, text))
    said = [problem.message for problem in report.problems]
    assert "unknown requirement LIFE-99" in said
    assert any("'should' does not belong there" in text for text in said)
    assert "LIFE-03" in {item.id for item in report.uncovered}
    assert "LIFE-03" not in {item.id for item in lint().uncovered}


def test_every_function_of_the_suite_cites_what_the_catalogue_has() -> None:
    known = load_catalogue().keys()
    assert {name for case in load_functions() for name in case.requirements} <= known
