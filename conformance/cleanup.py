"""`python -m conformance cleanup`: what dead runs left on others' clusters, and their own kind clusters.

Lists first."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conformance.errors import SetupError

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
    what = "remove what dead runs left: on an existing cluster, and kind clusters"
    command = commands.add_parser("cleanup", help=what)
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
    named = options.kubeconfig or options.context or options.mesh_kubeconfig
    problems: list[str] = []
    try:
        problems += _clean_kind(options)
    except SetupError as error:
        print(f"  {error}", file=sys.stderr)
        if not named:  # who asks for another cluster need not have Docker
            problems.append(f"kind clusters: {error.message}")
    if named or not _has_kind() or _has_kubeconfig():
        problems += _clean_apis(options)
    else:
        print("no kubeconfig: only kind clusters were looked for")
    for problem in problems:
        print(f"not deleted: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _has_kind() -> bool:
    return shutil.which("kind") is not None


def _has_kubeconfig() -> bool:
    from conformance.cluster.existing import from_environment

    return from_environment().is_file()


def _clean_kind(options: argparse.Namespace) -> list[str]:
    """Clusters of runs that are over, by their marks; one that was kept on purpose goes only by its run's id.
    What could not be deleted, in words."""
    from conformance.cluster.kind import remove, stale_clusters

    if not _has_kind():
        return []
    print("kind clusters:")
    now = time.time()
    found = stale_clusters()
    asked = [
        item
        for item in found
        if (
            item.run == options.run
            if options.run
            else not item.kept and now - item.started >= options.older_than
        )
    ]
    for item in asked:
        print(f"  {item.name} (run {item.run or 'unknown'}, {(now - item.started) / 3600:.1f} h old)")
    kept = 0 if options.run else sum(item.kept for item in found)
    if kept:
        print(f"  ({kept} kept by --keep-cluster or --reuse-cluster are left: --run ID)")
    if young := 0 if options.run else len(found) - len(asked) - kept:
        print(f"  ({young} younger ones are left: --older-than, or --run ID)")
    if not asked:
        print("  nothing to delete")
    if not asked or options.dry_run:
        return []
    problems = []
    for item in asked:
        try:
            remove(item)
        except SetupError as error:
            problems.append(f"{item.name}: {error}")
    print(f"  {len(asked) - len(problems)} clusters deleted")
    return problems


def _clean_apis(options: argparse.Namespace) -> list[str]:
    """What could not be deleted, in words."""
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
            namespaces=[part for part in parts if part],
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
            left = delete_owned(kube, asked)
            print(f"  {len(asked)} objects deleted" if not left else "  not everything was deleted")
            problems += left
        kube.close()
    return problems
