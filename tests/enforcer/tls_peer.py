"""The other side of mutual TLS, played by Python: a client, and a server that demands a certificate."""

import socket
import ssl
import tempfile
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from enforcer.certificate import Authority, Certificate, issue_workload, make_authority
from enforcer.xds.tls import ALPN
from tests.enforcer.callers import AUTHORITY

FOREIGN = make_authority("a foreign authority")
SLEEP = "spiffe://cluster.local/ns/foo/sa/sleep"
STRANGER = "spiffe://elsewhere.example/ns/foo/sa/sleep"
GREETING, ANSWER = b"hi\n", b"hello hi\n"


def certificate(kind: str) -> Certificate | None:
    """own: of the mesh; foreign: of an authority of its own; stranger: of another trust domain; none."""
    signers: dict[str, tuple[Authority, str]] = {
        "own": (AUTHORITY, SLEEP),
        "foreign": (FOREIGN, SLEEP),
        "stranger": (AUTHORITY, STRANGER),
    }
    if kind not in signers:
        return None
    authority, uri = signers[kind]
    return issue_workload(authority, uri, now=datetime.now(UTC), lifetime=timedelta(hours=1))


def context(side: int, shown: Certificate | None, *, alpn: str | None = ALPN) -> ssl.SSLContext:
    made = ssl.SSLContext(side)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(cadata=AUTHORITY.pem.decode())
    if alpn:
        made.set_alpn_protocols([alpn])
    if shown is not None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(shown.chain + shown.key)
            file.flush()
            made.load_cert_chain(file.name)
    return made


def client(kind: str, *, alpn: str | None = ALPN) -> ssl.SSLContext:
    return context(ssl.PROTOCOL_TLS_CLIENT, certificate(kind), alpn=alpn)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a peer's certificate says."""

    uri: str
    serial: str
    end: float


def shown_by(link: ssl.SSLSocket) -> Shown:
    found = link.getpeercert() or {}
    names = [str(entry[1]) for entry in found.get("subjectAltName", ())]
    return Shown(
        uri=names[0],
        serial=str(found["serialNumber"]),
        end=ssl.cert_time_to_seconds(str(found["notAfter"])),
    )


def ask(address: tuple[str, int], tls: ssl.SSLContext) -> str:
    """Connects, says something and returns the answer and who gave it; what went wrong otherwise."""
    try:
        with socket.create_connection(address, timeout=30) as raw, tls.wrap_socket(raw) as link:
            return f"{exchange(link)} {shown_by(link).uri}"
    except (ssl.SSLError, ConnectionError) as error:
        return f"failed: {type(error).__name__}"


def exchange(link: socket.socket) -> str:
    link.sendall(GREETING)
    said = b""
    while not said.endswith(b"\n"):
        part = link.recv(100)
        if not part:
            raise ConnectionResetError("closed")
        said += part
    return said.decode().strip()


@dataclass(frozen=True, kw_only=True)
class Held:
    """What was seen while certificates were replaced under open and new connections."""

    serials: int
    connections: int
    failures: list[str]
    outlived: bool
    """The connection held open is older than the certificate that it began with."""


def hold(address: tuple[str, int], *, serials: int) -> Held:
    """Keeps one connection talking and opens new ones, until the certificate that the first was begun with
    has ended and that many were seen."""
    tls = client("own")
    seen: set[str] = set()
    failures: list[str] = []
    count = 0
    pause = threading.Event()
    with socket.create_connection(address, timeout=30) as raw, tls.wrap_socket(raw) as first:
        end = shown_by(first).end
        while len(seen) < serials or datetime.now(UTC).timestamp() <= end:
            exchange(first)
            count += 1
            try:
                with socket.create_connection(address, timeout=30) as other, tls.wrap_socket(other) as link:
                    exchange(link)
                    seen.add(shown_by(link).serial)
            except (ssl.SSLError, OSError) as error:
                failures.append(repr(error))
                break
            pause.wait(0.02)  # a pace: as many connections as it makes
        outlived = exchange(first) == ANSWER.decode().strip() and datetime.now(UTC).timestamp() > end
    return Held(serials=len(seen), connections=count, failures=failures, outlived=outlived)


class Server:
    """Answers like the echo server, to whoever shows a certificate of the mesh; remembers whose."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.seen: list[Shown] = []
        self._tls = context(ssl.PROTOCOL_TLS_SERVER, certificate("own"))
        self._listening = socket.create_server(address, backlog=128)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            raw, _ = self._listening.accept()
            threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        try:
            with self._tls.wrap_socket(raw, server_side=True) as link:
                self.seen.append(shown_by(link))
                while said := link.recv(100):
                    link.sendall(b"hello " + said)
        except OSError as error:
            print(f"server: {error}", flush=True)
