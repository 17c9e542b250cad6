"""`python -m conformance cleanup`: what dead runs left on a cluster that is not ours. Lists first."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["add_command", "clean_up"]

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
DEFAULT_AGE = "2h"  # no run takes that long


def seconds(text: str) -> float:
    """`90s`, `30m`, `2h`, `1d`."""
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no age: a number with s, m, h or d, as in 2h")
    return float(int(match[1]) * UNITS[match[2]])


def add_command(commands: Any) -> None:
    command = commands.add_parser("cleanup", help="remove what dead runs left on an existing cluster")
    which = command.add_mutually_exclusive_group()
    which.add_argument("--run", default="", metavar="ID", help="what this run left, however young")
    age = f"what is at least that old (default: {DEFAULT_AGE})"
    which.add_argument("--older-than", type=seconds, default=seconds(DEFAULT_AGE), metavar="AGE", help=age)
    command.add_argument("--dry-run", action="store_true", help="only list")
    command.add_argument("--kubeconfig", type=Path, metavar="FILE")
    command.add_argument("--context", metavar="NAME")
    command.add_argument("--mesh-kubeconfig", type=Path, metavar="FILE")
    command.add_argument("--mesh-context", metavar="NAME")
    lent = "also look into these namespaces, where the credentials cannot list all"
    command.add_argument("--namespaces", default="", metavar="A,B,C", help=lent)
    command.set_defaults(call=clean_up)


def clean_up(options: argparse.Namespace) -> int:
    """0 where nothing of what was asked for is left, 1 where something could not be deleted."""
    from conformance.cluster.existing import connect
    from conformance.cluster.kube import Kube
    from conformance.cluster.ownership import Owned, delete_owned, find_owned

    # foo=team-a is taken as well, as `run` has it.
    parts = [part.strip().rpartition("=")[2] for part in options.namespaces.split(",")]
    apis = [(options.kubeconfig, options.context)]
    if options.mesh_kubeconfig:
        apis.append((options.mesh_kubeconfig, options.mesh_context))
    problems: list[str] = []
    for kubeconfig, context in apis:
        cluster = connect(kubeconfig, context)
        kube = Kube(cluster.kubeconfig, context)
        print(f"{cluster.description}:")
        found: Sequence[Owned] = find_owned(
            kube,
            run=options.run,
            namespaces=filter(None, parts),
            say=lambda text: print(text, file=sys.stderr),
        )
        asked = [item for item in found if options.run or item.age >= options.older_than]
        for item in asked:
            print(f"  {item}")
        if young := len(found) - len(asked):
            print(f"  ({young} younger objects are left: --older-than, or --run ID)")
        if not asked:
            print("  nothing to delete")
        elif not options.dry_run:
            problems += delete_owned(kube, asked)
            print(f"  {len(asked)} objects deleted" if not problems else "  not everything was deleted")
        kube.close()
    for problem in problems:
        print(f"not deleted: {problem}", file=sys.stderr)
    return 1 if problems else 0
