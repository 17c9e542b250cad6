"""Deployments, Services and namespaces on the whole cluster."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.embedded.live import STAY, Object, Space, deployment, refusal, request, service

ECHO = "exec tcp-echo"


def ready_names(space: Space, app: str = "echo") -> set[str]:
    return {
        pod["metadata"]["name"]
        for pod in space.pods(f"app={app}")
        if any((c["type"], c["status"]) == ("Ready", "True") for c in pod["status"].get("conditions", ()))
        and "deletionTimestamp" not in pod["metadata"]
    }


def echo(space: Space, replicas: int = 1, **more: Any) -> Object:
    return space.create("deployments", deployment("echo", STAY, replicas=replicas, **more))


def test_scale_up_down_and_to_nothing(space: Space) -> None:
    echo(space)
    space.kubectl("scale", "deployment", "echo", "--replicas=3")
    space.until(lambda: len(ready_names(space)) == 3)
    first = ready_names(space)
    space.request("PATCH", "deployments/echo/scale", {"spec": {"replicas": 1}})
    space.until(lambda: len(ready_names(space)) == 1)
    assert ready_names(space) < first
    space.kubectl("scale", "deployment", "echo", "--replicas=0")
    space.until(lambda: not space.pods("app=echo"))
    assert "replicas" not in space.get("deployments/echo")["status"]


def test_a_lost_pod_is_replaced(space: Space) -> None:
    echo(space)
    (lost,) = space.until(lambda: ready_names(space))
    space.core.delete_namespaced_pod(lost, space.name, grace_period_seconds=0)
    space.until(lambda: ready_names(space) - {lost})


def test_a_rolling_update_never_has_less_than_it_promises(space: Space) -> None:
    strategy = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    echo(space, replicas=2, spec={"strategy": strategy})
    space.until(lambda: len(ready_names(space)) == 2)
    before = ready_names(space)
    fewest, most = 2, 2

    def rolled() -> bool:
        nonlocal fewest, most
        names = ready_names(space)
        fewest, most = min(fewest, len(names)), max(most, len(names))
        return not names & before and len(names) == 2

    space.kubectl("set", "env", "deployment/echo", "VERSION=2")
    space.until(rolled)
    assert fewest == 2
    assert most <= 3
    said = space.kubectl("rollout", "status", "deployment/echo", "--timeout=60s")
    assert said.endswith('deployment "echo" successfully rolled out')


def test_a_rollout_that_stands_still_is_told(space: Space) -> None:
    echo(space, spec={"progressDeadlineSeconds": 1}, readinessProbe={"exec": {"command": ["false"]}})
    told = space.error("rollout", "status", "deployment/echo", "--timeout=60s")
    assert told == 'error: deployment "echo" exceeded its progress deadline'
    conditions = {c["type"]: c for c in space.get("deployments/echo")["status"]["conditions"]}
    assert conditions["Progressing"]["reason"] == "ProgressDeadlineExceeded"


def test_a_service_maps_its_port_and_has_a_name(space: Space) -> None:
    ports = [{"name": "tcp", "containerPort": 9000}]
    probe = {"tcpSocket": {"port": "tcp"}, "periodSeconds": 1}
    space.create("services", service("echo", selector="echo", ports=[(80, "tcp"), (9000, 9000)]))
    space.create("services", service("bare", selector="echo", ports=[(9000, 9000)], clusterIP="None"))
    space.create("deployments", deployment("echo", ECHO, replicas=2, ports=ports, readinessProbe=probe))
    space.run("client", STAY)
    space.ready("client")
    space.until(lambda: len(ready_names(space)) == 2)
    ips = {pod["status"]["podIP"] for pod in space.pods("app=echo")}
    names = ("echo", f"echo.{space.name}", f"echo.{space.name}.svc.cluster.local", *ips)

    def ask(name: str, port: int) -> str:
        return space.exec("client", "sh", "-c", f"echo {port} | nc -w 30 {name} {port} 2>&1; echo $?")

    space.until(lambda: ask("echo", 80) == "hello 80\n0\n")
    assert [ask(name, 9000) for name in names] == ["hello 9000\n0\n"] * len(names)
    assert not ask("echo", 9001).endswith("\n0\n")
    address = space.get("services/echo")["spec"]["clusterIP"]
    wanted = {
        f"{address}\techo.{space.name}.svc.cluster.local",
        *(f"{ip}\tbare.{space.name}.svc.cluster.local" for ip in ips),
    }

    def named() -> bool:
        hosts = space.exec("client", "cat", "/etc/hosts")
        return all(line in hosts for line in wanted)

    space.until(named)

    def endpoints() -> set[str]:
        subsets = space.get("endpoints/echo")["subsets"]
        return {one["ip"] for subset in subsets for one in subset["addresses"]}

    space.until(lambda: endpoints() == ips)
    space.kubectl("scale", "deployment", "echo", "--replicas=0")
    space.until(lambda: not space.pods("app=echo"))
    space.until(lambda: not ask("echo", 80).endswith("\n0\n"))


def test_the_other_side_sees_the_clients_own_address(space: Space) -> None:
    server = (
        "exec python3 -I -S -c 'import socket\n"
        's = socket.create_server(("", 9000))\n'
        "while True:\n"
        "    c, peer = s.accept()\n"
        "    c.sendall(peer[0].encode())\n"
        "    c.close()'"
    )
    probe = {"tcpSocket": {"port": 9000}, "periodSeconds": 1}
    space.run("server", server, readinessProbe=probe)
    space.create("services", service("server", selector="server", ports=[(80, 9000)]))
    space.run("client", STAY)
    ip = space.ready("client")["status"]["podIP"]
    space.ready("server")
    space.until(lambda: space.exec("client", "nc", "-w", "2", "server", "80") == ip)


def test_a_service_of_two_families_leads_to_its_pod_in_each(space: Space) -> None:
    if space.live.no_ipv6:
        pytest.skip(f"no IPv6 here: {space.live.no_ipv6}")
    server = (
        "exec python3 -I -S -c 'import socket\n"
        's = socket.create_server(("", 9000), family=socket.AF_INET6, dualstack_ipv6=True)\n'
        "while True:\n"
        "    c, peer = s.accept()\n"
        "    c.sendall(peer[0].encode())\n"
        "    c.close()'"
    )
    probe = {"tcpSocket": {"port": 9000}, "periodSeconds": 1}
    space.run("server", server, readinessProbe=probe)
    dual = service("dual", selector="server", ports=[(80, 9000)], ipFamilyPolicy="PreferDualStack")
    six = service("six", selector="server", ports=[(80, 9000)], ipFamilies=["IPv6"])
    for each in (dual, six):
        space.create("services", each)
    env = {"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}}
    space.run("client", STAY, env=[env])
    first, second = (entry["ip"] for entry in space.ready("client")["status"]["podIPs"])
    assert space.exec("client", "sh", "-c", "echo $IPS") == f"{first},{second}\n"
    space.ready("server")
    addresses = space.get("services/dual")["spec"]["clusterIPs"]
    assert [":" in address for address in addresses] == [False, True]

    def ask(name: str) -> str:
        return space.exec("client", "nc", "-w", "2", name, "80")

    space.until(lambda: ask(addresses[0]) == f"::ffff:{first}")
    space.until(lambda: ask(addresses[1]) == second)
    space.until(lambda: ask("six") == second)
    space.kubectl("patch", "service", "dual", "-p", '{"spec": {"ipFamilyPolicy": "SingleStack"}}')
    assert space.get("services/dual")["spec"]["clusterIPs"] == addresses[:1]
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{space.name}/endpointslices"
    space.until(
        lambda: (
            {i["metadata"]["name"] for i in request(space.live.api, "GET", slices)["items"]}
            == {"dual", "six.ipv6"}
        )
    )


def test_a_deleted_namespace_takes_everything_along(space: Space) -> None:
    echo(space, replicas=2)
    space.create("services", service("echo", selector="echo", ports=[(80, 9000)]))
    space.create("configmaps", {"metadata": {"name": "held", "finalizers": ["example.com/hold"]}})
    space.until(lambda: len(ready_names(space)) == 2)
    space.kubectl("delete", "namespace", space.name, "--wait=false")
    late = space.refusal("POST", "configmaps", {"metadata": {"name": "late"}})
    assert (late["code"], late["reason"]) == (403, "Forbidden")
    assert "because it is being terminated" in late["message"]
    space.until(lambda: not space.pods())
    path = f"/api/v1/namespaces/{space.name}"
    assert request(space.live.api, "GET", path)["status"]["phase"] == "Terminating"
    space.request("PATCH", "configmaps/held", {"metadata": {"finalizers": None}})
    space.until(lambda: refusal(lambda: request(space.live.api, "GET", path))["code"] == 404)
    api = space.live.api
    for kinds in ("/api/v1/pods", "/api/v1/services", "/apis/apps/v1/deployments", "/api/v1/endpoints"):
        left = [item["metadata"]["namespace"] for item in request(api, "GET", kinds)["items"]]
        assert space.name not in left
    # The fixture deletes it, too.
    space.core.create_namespace({"metadata": {"name": space.name}})
    assert space.get("pods")["items"] == []
