"""A whole embedded cluster for tests, in a process of its own, and the two yardsticks pointed at it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import kubernetes
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import stream

from conformance.cluster.embedded.node.images import PROJECT
from tests.cluster.embedded import live_starter

Object = dict[str, Any]
Found = TypeVar("Found")

IMAGE = "authz-conformance:dev"
KUBECTL = os.environ.get("KUBECTL") or shutil.which("kubectl", path=str(Path(sys.executable).parent))
DEADLINE = 60.0  # for what happens at once where the machine is idle; nothing is told by how long it takes
# As the first process of its namespace it hears SIGTERM only because it asks to.
STAY = "trap 'exit 0' TERM; sleep 600 & wait"
# The interpreter that an ordinary user can run, too.
SYSTEM_PYTHON = "/usr/bin/python3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A running cluster. `pid` is its launcher's, a child of `starter`."""

    starter: subprocess.Popen[str]
    pid: int
    no_ipv6: str
    """Why its pods have no IPv6 address; empty: they have."""
    kubeconfig: Path
    api: Any

    @property
    def core(self) -> Any:
        return kubernetes.client.CoreV1Api(self.api)

    def kubectl(
        self, *words: str, stdin: Any = None, code: int = 0, token: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """kubectl's whole answer; its exit code must be `code`."""
        assert KUBECTL is not None
        text = stdin if isinstance(stdin, str) or stdin is None else json.dumps(stdin)
        done = subprocess.run(
            [KUBECTL, *words, *([f"--token={token}"] if token else [])],
            input=text,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=2 * DEADLINE,
            check=False,
        )
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done

    @property
    def environment(self) -> Mapping[str, str]:
        return os.environ | {"KUBECONFIG": str(self.kubeconfig), "KUBECACHEDIR": "/dev/null"}

    def stop(self) -> None:
        self.api.close()
        self.starter.communicate(timeout=DEADLINE)


def start_live(*, user: int | None = None, environment: Mapping[str, str] | None = None) -> Live:
    """A cluster whose starter runs as that user."""
    more = dict(environment or {})
    if user is not None:
        more["PYTHONPATH"] = str(live_starter.SITE_PACKAGES)
    starter = subprocess.Popen(
        [SYSTEM_PYTHON if user is not None else sys.executable, "-m", live_starter.__name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
        user=user,
        group=user,
        extra_groups=[] if user is not None else None,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **more},
    )
    assert starter.stdout is not None
    line = starter.stdout.readline()
    assert line, "the cluster did not start"
    pid, kubeconfig, no_ipv6 = json.loads(line)
    api = kubernetes.config.new_client_from_config(kubeconfig)
    return Live(starter=starter, pid=pid, no_ipv6=no_ipv6, kubeconfig=Path(kubeconfig), api=api)


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """One test's namespace."""

    live: Live
    name: str

    @property
    def core(self) -> Any:
        return self.live.core

    def kubectl(self, *words: str, stdin: Any = None) -> str:
        """What kubectl prints in this namespace."""
        return self.live.kubectl("-n", self.name, *words, stdin=stdin).stdout.strip()

    def error(self, *words: str, stdin: Any = None, code: int = 1) -> str:
        """What kubectl complains of in this namespace."""
        return self.live.kubectl("-n", self.name, *words, stdin=stdin, code=code).stderr.strip()

    def request(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """The API's JSON answer for a path below this namespace, through the official client.

        Raises ApiException.
        """
        base = "/apis/apps/v1" if path.startswith("deployments") else "/api/v1"
        return request(self.live.api, method, f"{base}/namespaces/{self.name}/{path}", body, **query)

    def create(self, kind: str, obj: Object) -> Object:
        """`kind` is a plural: "pods"."""
        made: Object = self.request("POST", kind, obj)
        return made

    def get(self, path: str) -> Object:
        found: Object = self.request("GET", path)
        return found

    def pods(self, selector: str = "") -> list[Object]:
        items: list[Object] = self.request("GET", "pods", labelSelector=selector)["items"]
        return items

    def run(self, name: str, script: str, **more: Any) -> Object:
        """Create a pod of one container, `app`, that runs the script."""
        return self.create("pods", pod(name, script, **more))

    def ready(self, name: str) -> Object:
        """The pod once it is ready."""
        return self.until(lambda: found if is_ready(found := self.get(f"pods/{name}")) else None)

    def state(self, name: str, container: str = "app") -> Object:
        """The container's status; empty where it has none yet."""
        status = self.get(f"pods/{name}").get("status") or {}
        every = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
        return next((one for one in every if one["name"] == container), {})

    def until(self, condition: Callable[[], Found | None], seconds: float = DEADLINE) -> Found:
        """The first true answer."""
        return until(condition, seconds)

    def logs(self, name: str, **options: Any) -> str:
        text: str = self.core.read_namespaced_pod_log(name, self.name, **options)
        return text

    def exec(self, name: str, *command: str, container: str = "app") -> str:
        """What the command prints, through the official client."""
        with self.session(name, *command, container=container) as session:
            session.run_forever(timeout=DEADLINE)
            text: str = session.read_all()
            return text

    @contextmanager
    def session(self, name: str, *command: str, container: str = "app", stdin: bool = False) -> Iterator[Any]:
        """An open exec session of the official client."""
        # One of its own: while it opens a stream, a client can do nothing else.
        api = kubernetes.client.ApiClient(self.live.api.configuration)
        opened = stream(
            kubernetes.client.CoreV1Api(api).connect_get_namespaced_pod_exec,
            name,
            self.name,
            container=container,
            command=list(command),
            stdin=stdin,
            stdout=True,
            stderr=True,
            tty=False,
            _preload_content=False,
        )
        try:
            yield opened
        finally:
            # Its own close() leaves the socket open where the server said goodbye first.
            opened.sock.shutdown()
            api.close()

    def gone(self, path: str) -> bool:
        return bool(self.refusal("GET", path)["code"] == 404)

    def refusal(self, method: str, path: str, body: Any = None, **query: str) -> Object:
        """The Status that the request is refused with; its code is the answer's. {"code": 0}: accepted."""
        return refusal(lambda: self.request(method, path, body, **query))


def make_space(live: Live, name: str) -> Space:
    """A new namespace, once it has the service account without which no pod can be made."""
    live.core.create_namespace({"metadata": {"name": name}})
    space = Space(live=live, name=name)
    space.until(lambda: not space.gone("serviceaccounts/default"))
    return space


def refusal(ask: Callable[[], object]) -> Object:
    """The Status that the official client's call is refused with; its code is the answer's."""
    try:
        ask()
    except ApiException as refused:
        status: Object = json.loads(refused.body)
        return {**status, "code": refused.status if refused.status == status["code"] else -1}
    return {"code": 0}


def request(api: Any, method: str, path: str, body: Any = None, **query: str) -> Any:
    """The JSON answer for any path, through the official client. Raises ApiException."""
    patch = "application/merge-patch+json" if method == "PATCH" else "application/json"
    serialized = api.param_serialize(
        method,
        path,
        query_params=[(name, value) for name, value in query.items() if value],
        header_params={"Accept": "application/json", "Content-Type": patch},
        body=body,
        auth_settings=["BearerToken"],
    )
    response = api.call_api(*serialized)
    text = response.read().decode()
    if response.status >= 400:
        raise ApiException(status=response.status, reason=response.reason, body=text)
    return json.loads(text)


def until(condition: Callable[[], Found | None], seconds: float = DEADLINE) -> Found:
    """The first true answer within so many seconds."""
    deadline = time.monotonic() + seconds
    pause = 0.01
    while not (answer := condition()):
        assert time.monotonic() < deadline, "the deadline has passed"
        time.sleep(pause)
        pause = min(0.1, pause * 1.3)
    return answer


def processes(space: Space, name: str) -> list[str]:
    """The names of a pod's processes in the order of their numbers; the last is the shell that asks."""
    return space.exec(name, "sh", "-c", "cat /proc/[0-9]*/comm").split()


def is_ready(obj: Object) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any((one["type"], one["status"]) == ("Ready", "True") for one in conditions)


def container(name: str, script: str, **more: Any) -> Object:
    return {"name": name, "image": IMAGE, "command": ["sh", "-c", script], **more}


def pod(name: str, script: str, *, labels: Mapping[str, str] | None = None, **more: Any) -> Object:
    """Fields of the container by their names, those of the pod as `spec`."""
    spec: Object = {"terminationGracePeriodSeconds": 1, **more.pop("spec", {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": dict(labels or {"app": name})},
        "spec": {"containers": [container("app", script, **more)], **spec},
    }


def deployment(name: str, script: str, *, replicas: int = 1, **more: Any) -> Object:
    """Fields of the container by their names, those of the Deployment as `spec`."""
    spec: Object = more.pop("spec", {})
    template = pod(name, script, **more)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": template["spec"]},
            **spec,
        },
    }


def service(name: str, *, selector: str, ports: Sequence[tuple[int, int | str]], **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {
            "selector": {"app": selector},
            "ports": [{"name": f"p{port}", "port": port, "targetPort": target} for port, target in ports],
            **spec,
        },
    }
