"""The command line: `python -m conformance`. Each command is a small function; heavy imports are theirs."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from conformance import interrupts
from conformance.errors import ConformanceError

if TYPE_CHECKING:
    import pytest

INTERRUPTED = 2
BAD_INPUT = 4
WHAT = "Proves that a mesh enforces AuthorizationPolicy on TCP as documented. README.md has the exit codes."


class Parser(argparse.ArgumentParser):
    """argparse ends with 2 where it does not understand; here 2 is an interrupted run, and bad input is 4."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(BAD_INPUT, f"error: {message}\n")


def port(text: str) -> int:
    """A TCP port, or 0 for a free one."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to 65535)")
    return int(text)


def parser() -> argparse.ArgumentParser:
    from conformance.cleanup import add_command as add_cleanup
    from conformance.image_commands import add_images
    from conformance.report.commands import add_commands

    top = Parser(prog="python -m conformance", description=WHAT)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run the scenarios (pytest's options work, too)", add_help=False)
    run.set_defaults(call=None)
    check = commands.add_parser("lint", help="check scenarios and catalogue")
    check.add_argument("scenarios", metavar="DIR", nargs="?", type=Path, help="(default: the suite's own)")
    check.set_defaults(call=lint)
    listing = commands.add_parser("list", help="the plan")
    listing.add_argument("--by", choices=["requirement", "scenario"], default="scenario")
    listing.add_argument("--format", choices=["table", "json"], default="table")
    listing.set_defaults(call=list_plan)
    show = commands.add_parser("show", help="one scenario or requirement")
    show.add_argument("id", metavar="ID")
    show.set_defaults(call=show_one)
    why = commands.add_parser("explain", help="what a file of policies says about a connection, and why")
    why.add_argument("file", metavar="POLICY.yaml", type=Path)
    why.add_argument("--from", dest="source", required=True, metavar="WORKLOAD", help="sleep.foo")
    why.add_argument("--to", dest="target", required=True, metavar="SERVICE", help="tcp-echo.foo")
    why.add_argument("--port", required=True, type=int)
    why.add_argument("--via", choices=["service", "pod", "pod6"], default="service")
    why.add_argument("--root-namespace", default="istio-system", metavar="NAME")
    why.add_argument("--trust-domain", default="cluster.local", metavar="NAME")
    why.add_argument("--format", choices=["text", "json"], default="text")
    why.set_defaults(call=explain_connection)
    add_commands(commands)
    add_cleanup(commands)
    add_images(commands)
    known = commands.add_parser("known", help="a first list of known deviations, to be filled in")
    known.add_argument(
        "--from-record", required=True, metavar="RUN", type=Path, help="the failed cases of it"
    )
    known.set_defaults(call=known_deviations)
    doctor = commands.add_parser("doctor", help="what this machine can run, and why not")
    doctor.add_argument("--kubeconfig", type=Path)
    doctor.add_argument("--format", choices=["table", "json"], default="table")
    doctor.set_defaults(call=diagnose)
    cluster = commands.add_parser("cluster", help="the embedded cluster on its own")
    actions = cluster.add_subparsers(dest="action", required=True, metavar="ACTION")
    up = actions.add_parser("up", help="start it with the enforcer, and stay until Ctrl-C")
    up.add_argument("--port", type=port, default=0, metavar="PORT", help="of the API (default: a free one)")
    up.set_defaults(call=cluster_up)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    interrupts.install()
    try:
        if given[:1] == ["run"]:
            return run_suite(given[1:])
        options = parser().parse_args(given)
        code = int(options.call(options))
        sys.stdout.flush()
    except ConformanceError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:
        # The reader (head, less) had enough. What is still buffered goes nowhere at exit, either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        # Before or after the session, or in a command that starts nothing: what it had started ended with it.
        print("\ninterrupted, nothing is left running", file=sys.stderr)
        return INTERRUPTED
    return code


def run_suite(arguments: Sequence[str]) -> int:
    """pytest on the scenarios; everything after `run` is pytest's."""
    import pytest

    here = Path(__file__).parent
    wiring = ["-c", str(here.parent / "pyproject.toml"), "--rootdir", str(here.parent)]
    return int(pytest.main([*wiring, str(here), "-v", "--tb=short", *arguments], plugins=[Named()]))


class Named:
    """A plugin: usage and errors name the command that was typed, where pytest would say `pytest.main()`."""

    def pytest_addoption(self, parser: pytest.Parser) -> None:
        parser.prog = "python -m conformance run"


def lint(options: argparse.Namespace) -> int:
    from conformance import lint as rules

    if options.scenarios is not None:
        return lint_others(options.scenarios)
    report = rules.lint()
    for problem in report.problems:
        print(problem)
    for item in report.uncovered:
        print(f"not covered: {item.id} ({item.level}): {item.statement}")
    counts = f"{report.scenarios} scenarios, {report.functions} functions"
    print(f"{counts}, {len(report.problems)} problems, {len(report.uncovered)} uncovered")
    return 1 if report.problems or report.uncovered else 0


def lint_others(root: Path) -> int:
    """Scenarios that are not the suite's own, which have not to cover anything."""
    from conformance import lint as rules
    from conformance.errors import InputError

    report = rules.lint(root)
    for problem in report.problems:
        print(problem)
    if not report.scenarios and not report.problems:
        raise InputError(f"there is no scenario in {root}", hint="a directory with <group>/<name>.yaml")
    print(f"{report.scenarios} scenarios, {len(report.problems)} problems")
    return 1 if report.problems else 0


def list_plan(options: argparse.Namespace) -> int:
    from conformance.catalogue import load_catalogue
    from conformance.functions import load_functions
    from conformance.scenario_reader import load_scenarios

    scenarios = load_scenarios() + load_functions()
    if options.by == "scenario":
        rows = [
            {"id": item.id, "level": item.level.value, "requirements": list(item.requirements)}
            | {"features": list(item.features), "title": item.title}
            for item in scenarios
        ]
    else:
        rows = [
            {"id": item.id, "level": item.level, "basis": item.basis}
            | {"statement": item.statement}
            | {"scenarios": [case.id for case in scenarios if item.id in case.requirements]}
            for item in load_catalogue().values()
        ]
    if options.format == "json":
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        print(table([[cell(value) for value in row.values()] for row in rows]))
    return 0


def cell(value: object) -> str:
    return ", ".join(map(str, value)) or "-" if isinstance(value, list) else str(value)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need; the last one is not padded."""
    if not rows:
        return ""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return "\n".join(
        "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    )


def show_one(options: argparse.Namespace) -> int:
    from conformance.catalogue import load_catalogue
    from conformance.errors import InputError
    from conformance.functions import load_functions
    from conformance.scenario_reader import load_scenarios

    catalogue = load_catalogue()
    scenarios = {item.id: item for item in load_scenarios() + load_functions()}
    if options.id in catalogue:
        item = catalogue[options.id]
        print(f"{item.id} ({item.level}, {item.basis})\n{item.statement}\n{item.source}")
        if item.quotation:
            print(f"“{item.quotation}”")
        for case in scenarios.values():
            if item.id in case.requirements:
                print(f"  {case.id}: {case.title}")
        return 0
    if options.id not in scenarios:
        raise InputError(f"there is no scenario or requirement {options.id!r}", hint="see `list`")
    case = scenarios[options.id]
    print(f"{case.title}\n{case.file}")
    for name in case.requirements:
        print(f"  {name}: {catalogue[name].sentence() if name in catalogue else 'unknown'}")
    print(f"\n{case.file.read_text(encoding='utf-8')}", end="")
    return 0


def explain_connection(options: argparse.Namespace) -> int:
    from conformance import explain
    from conformance.errors import InputError
    from conformance.oracle import Mesh
    from conformance.topology import Ref

    try:
        source, target = Ref.parse(options.source), Ref.parse(options.target)
    except ValueError as error:
        raise InputError(str(error)) from None
    question = explain.Question(source=source, target=target, port=options.port, via=options.via)
    mesh = Mesh(root_namespace=options.root_namespace, trust_domain=options.trust_domain)
    found = explain.explain(options.file, question, mesh)
    if options.format == "json":
        print(json.dumps(explain.as_json(found), indent=2, ensure_ascii=False, default=str))
    else:
        print(explain.as_text(found))
    return 0


def known_deviations(options: argparse.Namespace) -> int:
    from conformance.deviations import first_version
    from conformance.record import read_record

    print(first_version(read_record(options.from_record)))
    return 0


def diagnose(options: argparse.Namespace) -> int:
    from conformance import doctor

    diagnoses = doctor.diagnose(options.kubeconfig)
    print(doctor.as_json(diagnoses) if options.format == "json" else doctor.as_text(diagnoses))
    return 0 if any(diagnosis.usable for diagnosis in diagnoses) else 1


def cluster_up(options: argparse.Namespace) -> int:
    from conformance.cluster.kube import Kube
    from conformance.profile import find_profile, load_profile
    from conformance.stage import prepare, start_here

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    profile = load_profile(find_profile("bundled"))
    cluster = start_here(say, port=options.port)
    try:
        prepare(Kube(cluster.kubeconfig), profile, say)
        print(f"export KUBECONFIG={cluster.kubeconfig}", flush=True)
        say("the cluster stays up until Ctrl-C")
        try:
            signal.pause()
        except KeyboardInterrupt:
            interrupts.let_finish()
    finally:
        cluster.stop()
    say("\ncluster stopped, nothing is left running")
    return 0


if __name__ == "__main__":
    sys.exit(main())
