"""What the tests do inside a node: coroutines that its control plane runs (see `node_harness`)."""

import asyncio
import signal
from typing import Any

from conformance.cluster.embedded.node.runtime import Runtime, SandboxSpec, ServiceRule
from tests.cluster.embedded.node_harness import ENV, PYTHON, container, outcome

SERVE = (
    "import socket\n"
    "s = socket.create_server(('::', 9000), family=socket.AF_INET6, dualstack_ipv6=True)\n"
    "print('up', flush=True)\n"
    "while True:\n"
    "    c, peer = s.accept()\n"
    "    c.sendall((socket.gethostname() + ' ' + peer[0].removeprefix('::ffff:')).encode())\n"
    "    c.close()\n"
)
ASK = (
    "import socket, sys\n"
    "try:\n"
    "    print(socket.create_connection((sys.argv[1], int(sys.argv[2])), 30).recv(99).decode())\n"
    "except OSError as error:\n"
    "    print(type(error).__name__)\n"
)


async def make_pod(runtime: Runtime, ip: str, ip6: str = "") -> None:
    await runtime.create_sandbox(SandboxSpec(uid=ip, hostname=host_of(ip), ip=ip, ip6=ip6))


async def remove_pod(runtime: Runtime, ip: str) -> None:
    await runtime.remove_sandbox(ip)


async def run(runtime: Runtime, pod: str, argv: list[str], send: str | None = None, **more: Any) -> list[Any]:
    more["capabilities"] = frozenset(more.get("capabilities", ()))
    spec = container(f"{pod}-{argv[0]}", pod, *argv, **more)
    process = await runtime.start(spec, stdin=send is not None)
    return await outcome(process, send=None if send is None else send.encode())


async def send_lines(runtime: Runtime, pod: str, lines: int) -> list[Any]:
    process = await runtime.start(container("count", pod, "wc", "-l"), stdin=True)
    return await outcome(process, send=b"line\n" * lines)


async def start_error_codes(runtime: Runtime, pod: str) -> list[int]:
    codes = []
    for argv in ("nope", "/etc/passwd"):
        try:
            await runtime.start(container("x", pod, argv))
        except Exception as error:  # noqa: BLE001 - looked at below
            codes.append(getattr(error, "exit_code", -1))
    return codes


async def ignore_then_kill(runtime: Runtime, pod: str) -> list[Any]:
    process = await runtime.start(container("s", pod, "sh", "-c", "echo up; while :; do sleep 0.1; done"))
    up = await process.stdout.readline()
    await process.signal(signal.SIGTERM)
    exited = asyncio.ensure_future(process.wait())
    done, _pending = await asyncio.wait([exited], timeout=0.2)
    survived = not done
    await process.signal(signal.SIGKILL)
    code = await process.wait()
    await process.signal(signal.SIGTERM)
    return [up.decode(), survived, code]


async def trap_term(runtime: Runtime, pod: str) -> int:
    program = "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done"
    process = await runtime.start(container("s", pod, "sh", "-c", program))
    await process.stdout.readline()
    await process.signal(signal.SIGTERM)
    return await process.wait()


async def exec_twice(runtime: Runtime, pod: str) -> list[Any]:
    mount = {"source": None, "target": "/data/own", "read_only": False}
    main = container("main", pod, "sh", "-c", "touch /data/own/mine; echo up; exec sleep 60", mounts=(mount,))
    process = await runtime.start(main)
    await process.stdout.readline()
    script = "hostname; ls /data/own; cat /proc/1/comm; grep CapEff /proc/self/status; cat; exit 5"
    inside = await runtime.exec("main", ["sh", "-c", script], env=ENV, cwd="/", stdin=True, tty=False)
    first = await outcome(inside, send=b"typed")
    failures = []
    try:
        await runtime.exec("main", ["nope"], env=ENV, cwd="/", stdin=False, tty=False)
    except Exception as error:  # noqa: BLE001 - looked at below
        failures.append(str(error))
    long = await runtime.exec("main", ["sleep", "60"], env=ENV, cwd="/", stdin=False, tty=False)
    await process.signal(signal.SIGKILL)
    codes = [await process.wait(), await long.wait()]
    try:
        await runtime.exec("main", ["true"], env=ENV, cwd="/", stdin=False, tty=False)
    except Exception as error:  # noqa: BLE001 - looked at below
        failures.append(str(error))
    return [first, failures, codes]


async def terminal(runtime: Runtime, pod: str) -> list[Any]:
    await runtime.start(container("main", pod, "sleep", "60"))
    process = await runtime.exec(
        "main", ["sh", "-c", "read go; tty; stty size"], env=ENV, cwd="/", stdin=True, tty=True
    )
    await process.resize(columns=111, rows=22)
    assert process.stdin is not None
    process.stdin.write(b"\n")
    out = await process.stdout.read()
    return [out.decode().split(), await process.wait()]


async def two_containers(runtime: Runtime, pod: str) -> str:
    other = await runtime.start(container("other", pod, "sleep", "61"))
    listing = (await run(runtime, pod, ["sh", "-c", "cat /proc/[0-9]*/comm"]))[1]
    await other.signal(signal.SIGKILL)
    return str(listing)


async def serve(runtime: Runtime, ip: str) -> None:
    process = await runtime.start(container(f"serve-{ip}", ip, PYTHON, "-I", "-S", "-c", SERVE))
    assert await process.stdout.readline() == b"up\n"


async def ask(runtime: Runtime, pod: str, ip: str, port: int) -> str:
    argv = [PYTHON, "-I", "-S", "-c", ASK, ip, str(port)]
    return str((await run(runtime, pod, argv))[1]).strip()


async def ask_from_node(runtime: Runtime, ip: str, port: int) -> str:
    reader, writer = await asyncio.wait_for(asyncio.open_connection(ip, port), 60)
    answer = await reader.read()
    writer.close()
    return answer.decode()


async def program(runtime: Runtime, rules: list[Any]) -> None:
    await runtime.program_services(
        [
            ServiceRule(cluster_ip=ip, port=port, backends=tuple((b, p) for b, p in backends))
            for ip, port, backends in rules
        ]
    )


def host_of(ip: str) -> str:
    return f"pod-{ip.rpartition('.')[2]}"


async def spread(runtime: Runtime, ip: str, times: int) -> list[str]:
    return sorted({await ask_from_node(runtime, ip, 80) for _ in range(times)})


async def many_services(runtime: Runtime, backend: str, pod: str) -> str:
    rules = [
        ServiceRule(cluster_ip=f"10.97.{n // 200}.{n % 200}", port=80, backends=((backend, 9000),))
        for n in range(1200)
    ]
    await runtime.program_services(rules)
    return await ask(runtime, pod, rules[-1].cluster_ip, 80)


async def make_and_remove(runtime: Runtime, ip: str) -> list[Any]:
    codes = []
    for _ in range(3):
        await make_pod(runtime, ip)
        process = await runtime.start(container(f"c-{ip}", ip, "sleep", "60"))
        await runtime.remove_sandbox(ip)
        codes.append(await process.wait())
    await runtime.remove_sandbox(ip)
    return codes


async def make_twice(runtime: Runtime, ip: str) -> None:
    await runtime.create_sandbox(SandboxSpec(uid="twice", hostname="twice", ip=ip))


async def keep_running(runtime: Runtime, pod: str) -> None:
    await runtime.start(container("keep", pod, "sh", "-c", "sleep 300 & sleep 300"))
