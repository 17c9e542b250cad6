"""The line that runs a case again: every option that changes what the case says is in it, as it was given."""

from __future__ import annotations

import shlex
from types import SimpleNamespace
from typing import Any

from conformance.options import add_options
from conformance.plugin import _rerun

# They select, keep, or say where things go: one case alone is the same without them.
WITHOUT = {"--level", "--report-dir", "--fuzz", "--fuzz-seed", "--keep-cluster", "--reuse-cluster", "--keep"}
CASE = {"id": "g/a[x]"}


class Defaults:
    """Stands in for pytest's parser: the options and their defaults."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.flags: set[str] = set()

    def getgroup(self, _: str) -> Defaults:
        return self

    def addoption(self, name: str, *, default: Any = None, action: str = "", **_: Any) -> None:
        self.values[name] = False if action == "store_true" else default
        self.flags |= {name} if action == "store_true" else set()


def line(case: Any = CASE, **given: Any) -> list[str]:
    options: Any = Defaults()
    add_options(options)
    found = options.values | {f"--{name.replace('_', '-')}": value for name, value in given.items()}
    config: Any = SimpleNamespace(getoption=found.__getitem__)
    return shlex.split(_rerun(config, case))


def test_nothing_was_given() -> None:
    assert line() == ["python", "-m", "conformance", "run", "-k", "g/a[x]"]


def test_every_option_that_matters() -> None:
    options: Any = Defaults()
    add_options(options)
    for name in options.values.keys() - WITHOUT:
        value = True if name in options.flags else "given to it"
        words = [name] if name in options.flags else [name, "given to it"]
        assert line(**{name[2:]: value}) == ["python", "-m", "conformance", "run", *words, "-k", "g/a[x]"]


def test_generated_policies_are_the_same_ones() -> None:
    case = {"id": "generated/policies", "generated": {"asked": 1000, "seed": 7}}
    sets = ["--fuzz", "1000", "--fuzz-seed", "7", "-k", "generated/policies"]
    assert line(case, telemetry=True)[4:] == ["--telemetry", *sets]
