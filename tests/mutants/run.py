"""`python3 -m tests.mutants.run NAME ...`: a part of the mesh with one fault.

`NAME workload ...` is the tcp-echo; `NAME cluster run ...` and `NAME prober run ...` are the suite with a
fault in its embedded cluster or its prober; everything else is the enforcer. Patches are made in this process
alone, or in the one that it starts; the product has no switch for any of them.
"""

from __future__ import annotations

import importlib
import pkgutil
import runpy
import sys
from collections.abc import Sequence
from functools import partial
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
    if arguments[0] in ("cluster", "prober"):
        return suite(name, arguments[0], arguments[1:])
    if name in enforcers():
        runpy.run_module(f"{ENFORCERS}.{name}", run_name="__main__")
        return 0
    from enforcer.__main__ import main as enforcer
    from tests.mutants import seams

    for module in ("policies", "trial", "scope", "life", "peers", "families", "admission", "custom"):
        importlib.import_module(f"tests.mutants.{module}")
    seams.MUTANTS[name]()
    return enforcer(arguments)


def suite(name: str, part: str, arguments: Sequence[str]) -> int:
    """The suite with a fault in what it starts itself. Its rooms are imported last: they take names from each
    other."""
    from tests.mutants import seams

    if part == "prober":
        importlib.import_module("tests.mutants.prober")
        seams.MUTANTS[name]()
    else:
        from conformance.cluster.embedded import cluster
        from conformance.cluster.embedded.node.launcher import start_node

        broken = partial(start_node, entry="tests.mutants.cluster:main", options={"mutant": name})
        seams.instead(cluster, "start_node", broken)
    from conformance.__main__ import main as conformance

    return conformance(arguments)


def enforcers() -> set[str]:
    """The mutants that are modules of their own."""
    return {found.name for found in pkgutil.iter_modules([str(Path(__file__).parent / "enforcers")])}


if __name__ == "__main__":
    sys.exit(main())
