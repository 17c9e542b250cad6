"""The cluster's certificate authority, the API server's certificate, and kubeconfigs."""

from __future__ import annotations

import base64
import ipaddress
import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

API_ADDRESSES: Final = ("127.0.0.1", "10.96.0.1", "169.254.1.1")
API_NAMES: Final = (
    *("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"),
    "kubernetes.default.svc.cluster.local",
)
_LIFETIME: Final = timedelta(days=365)
_CLOCK_SKEW: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """PEM texts. `key` is unencrypted PKCS#8 and lives in memory, or in the node's own tmpfs."""

    certificate: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A certificate authority of one cluster's life; elliptic curve keys are made in no time."""

    certificate: str  # PEM: the CA bundle
    _key: ec.EllipticCurvePrivateKey
    _subject: x509.Name

    @classmethod
    def create(cls, name: str = "authz-conformance-ca") -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        certificate = (
            _builder(subject, subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, SHA256())
        )
        return cls(certificate=_pem(certificate), _key=key, _subject=subject)

    def issue_server(
        self,
        name: str = "kube-apiserver",
        *,
        names: Sequence[str] = API_NAMES,
        addresses: Sequence[str] = API_ADDRESSES,
    ) -> Certificate:
        """A serving certificate; by default the API server's."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives: list[x509.GeneralName] = [x509.DNSName(entry) for entry in names]
        alternatives += [x509.IPAddress(ipaddress.ip_address(entry)) for entry in addresses]
        certificate = (
            _builder(_name(name), self._subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Certificate(certificate=_pem(certificate), key=private.decode())


def server_context(certificate: Certificate, directory: Path) -> ssl.SSLContext:
    """A server's TLS context. `ssl` loads keys from files only: they are put into `directory` as
    `apiserver.crt` and `apiserver.key` (mode 0600)."""
    crt, key = directory / "apiserver.crt", directory / "apiserver.key"
    crt.write_text(certificate.certificate)
    key.touch(mode=0o600)
    key.write_text(certificate.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(crt, key)
    return context


def kubeconfig(
    *, server: str, ca: str, token: str, name: str = "embedded", namespace: str = "default"
) -> str:
    """The text of a kubeconfig with one context (JSON, which every reader of YAML reads). `ca` is PEM."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": name,
                "cluster": {
                    "server": server,
                    "certificate-authority-data": base64.b64encode(ca.encode()).decode(),
                },
            }
        ],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": namespace}}],
        "current-context": name,
    }
    return json.dumps(document, indent=2) + "\n"


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _LIFETIME)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
