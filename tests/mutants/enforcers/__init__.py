"""Enforcers with one fault each. Run as `python3 -m tests.mutants.enforcers.NAME COMMAND`, like the real one.

Each patches the real enforcer at one seam in its own process; the product has no switch for any of them.
"""

import sys
from collections.abc import Callable, Sequence

from enforcer import rbac
from enforcer.__main__ import main
from enforcer.policy import Policy

Policies = Sequence[Policy]


def run() -> None:
    """Be the enforcer, as patched so far."""
    sys.exit(main(sys.argv[1:]))


def compile_as(change: Callable[[Policies], Policies]) -> None:
    """Compile other policies for each workload than the ones that govern it."""
    compiled = rbac.network_filters
    rbac.network_filters = lambda policies, **more: compiled(change(policies), **more)
