"""The API server: does it answer, in which version, at what time, and does it know the mesh's kinds."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from conformance.cluster.kube import Kube
from conformance.preflight.checks import Check, Ground

__all__ = ["check_api", "check_clock", "check_crds", "check_mesh_api"]

OLDEST = (1, 27)  # what the suite needs of an API is older; nobody supports older clusters
SKEW = 30.0  # seconds; certificates and tokens are made for now
CREDENTIALS = "renew the credentials, or name another context: --context NAME"


def check_api(ground: Ground) -> Iterator[Check]:
    yield _version("api", ground.kube)


def check_mesh_api(ground: Ground) -> Iterator[Check]:
    if ground.kube.mesh is not ground.kube:
        yield _version("mesh api", ground.kube.mesh)


def _version(name: str, kube: Kube) -> Check:
    host = kube.client.configuration.host
    # A path that tells nothing to the anonymous, as /version does.
    who = kube.request(
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
        body={"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview"}
        | {"spec": {"namespace": "default"}},
    )
    answer = kube.request("GET", "/version")
    if who.code == 401 or answer.code in (401, 403):
        said = f"the Kubernetes API at {host} refuses the credentials in {kube.kubeconfig}{_expired(kube)}"
        return Check(name=name, ok=False, said=said, remedy=CREDENTIALS)
    version = str(answer.body.get("gitVersion", ""))
    match = re.match(r"v(\d+)\.(\d+)", version)
    if not match:
        said = f"{host} does not answer as a Kubernetes API does: {answer.code} {answer.message[:80]}"
        return Check(name=name, ok=False, said=said, remedy="check the server's address in the kubeconfig")
    ok = (int(match[1]), int(match[2])) >= OLDEST
    oldest = ".".join(map(str, OLDEST))
    return Check(name=name, ok=ok, said=f"{version} at {host}", remedy=f"Kubernetes {oldest} or later")


def _expired(kube: Kube) -> str:
    """When its token expired, where it is a JWT that says so and that is past; else nothing."""
    keys = kube.client.configuration.api_key
    token = str(keys.get("BearerToken") or keys.get("authorization") or "").removeprefix("Bearer ")
    try:
        claims = token.split(".")[1]
        until = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["exp"]
        expired = datetime.fromtimestamp(until, UTC)
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, OSError):
        return ""
    return f": its token expired on {expired:%Y-%m-%d %H:%M} UTC" if expired < datetime.now(UTC) else ""


def check_clock(ground: Ground) -> Iterator[Check]:
    date = ground.kube.header("/version", "Date")
    if not date:
        yield Check(name="clock", ok=True, said="the API does not tell its time")
        return
    off = time.time() - parsedate_to_datetime(date).timestamp()
    said = f"this machine's clock is {off:+.0f} s from the API server's"
    yield Check(name="clock", ok=abs(off) <= SKEW, said=said, remedy="set the clocks (NTP)")


def check_crds(ground: Ground) -> Iterator[Check]:
    kinds = ["AuthorizationPolicy"]
    if "peer-authentication" in ground.profile.features:
        kinds.append("PeerAuthentication")
    for kind in kinds:
        served = [
            version
            for version in ("v1", "v1beta1")
            if ground.kube.serves(f"security.istio.io/{version}", kind)
        ]
        said = f"served in {', '.join(served)}" if served else "the API does not serve it"
        remedy = (
            "kubectl apply -f manifests/crds"
            if ground.profile.install_enforcer
            else "install the mesh, or name its API: --mesh-kubeconfig FILE"
        )
        yield Check(name=f"kind {kind}", ok=bool(served), said=said, remedy=remedy)
