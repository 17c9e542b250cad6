"""`python3 -m tests.mutants.run NAME ...`: a part of the mesh with one fault.

`NAME workload ...` is the tcp-echo, everything else the enforcer. Patches are made in this process alone; the
product has no switch for any of them.
"""

from __future__ import annotations

import importlib
import pkgutil
import runpy
import sys
from pathlib import Path

ENFORCERS = "tests.mutants.enforcers"


def main() -> int:
    name, *arguments = sys.argv[1:]
    sys.argv[1:] = arguments
    if arguments[0] == "workload":
        from conformance.workloads import tcp_echo
        from tests.mutants import seams

        importlib.import_module("tests.mutants.workloads")
        seams.MUTANTS[name]()
        return tcp_echo.main(arguments[1:])
    if name in enforcers():
        runpy.run_module(f"{ENFORCERS}.{name}", run_name="__main__")
        return 0
    from enforcer.__main__ import main as enforcer
    from tests.mutants import seams

    for module in ("policies", "trial", "scope", "life", "peers", "admission", "custom"):
        importlib.import_module(f"tests.mutants.{module}")
    seams.MUTANTS[name]()
    return enforcer(arguments)


def enforcers() -> set[str]:
    """The mutants that are modules of their own."""
    return {found.name for found in pkgutil.iter_modules([str(Path(__file__).parent / "enforcers")])}


if __name__ == "__main__":
    sys.exit(main())
