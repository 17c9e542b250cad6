"""Certificates: authorities made here, and what they sign. Private keys are never written to a file system.

Python's TLS reads certificates from files only; `server_context` gives it one that lives in memory.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID_DAYS = 365
AUTHORITY_DAYS = 3650
CLOCK_SKEW = timedelta(hours=1)
"""A peer's clock may be behind by that much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """PEM texts. `authority` is what a peer must trust."""

    authority: bytes
    chain: bytes
    key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """Signs certificates. `key` never leaves the process but into the Secret that `identity` keeps."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def make_authority(name: str, *, now: datetime | None = None, days: int = AUTHORITY_DAYS) -> Authority:
    """A self-signed authority."""
    start = (now or datetime.now(UTC)) - CLOCK_SKEW
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _builder(subject, subject, key, start, start + timedelta(days=days))
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate=certificate, key=key)


def issue_server(authority: Authority, names: Sequence[str], *, now: datetime | None = None) -> Certificate:
    """A server's certificate for these DNS names or IP addresses."""
    start = now or datetime.now(UTC)
    return _issue(
        authority,
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])]),
        x509.SubjectAlternativeName([_general_name(name) for name in names]),
        [ExtendedKeyUsageOID.SERVER_AUTH],
        start,
        start + timedelta(days=VALID_DAYS),
    )


def issue_workload(authority: Authority, uri: str, *, now: datetime, lifetime: timedelta) -> Certificate:
    """A workload's certificate: its identity is the URI, its only name. For both ends of a connection."""
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
    return _issue(authority, x509.Name([]), names, usages, now, now + lifetime)


def make_certificate(names: Sequence[str], *, now: datetime | None = None) -> Certificate:
    """A server's certificate for these names, signed by an authority made for it alone."""
    return issue_server(make_authority("enforcer webhook authority", now=now), names, now=now)


def _issue(
    authority: Authority,
    subject: x509.Name,
    names: x509.SubjectAlternativeName,
    usages: list[x509.ObjectIdentifier],
    start: datetime,
    end: datetime,
) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    signed = (
        _builder(subject, authority.certificate.subject, key, start - CLOCK_SKEW, end)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        # A certificate without a subject is known by its names alone, so they must not be overlooked.
        .add_extension(names, critical=not subject.rdns)
        .sign(authority.key, hashes.SHA256())
    )
    return Certificate(
        authority=authority.pem,
        chain=signed.public_bytes(serialization.Encoding.PEM),
        key=key_pem(key),
    )


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def server_context(certificate: Certificate) -> ssl.SSLContext:
    """A TLS server context. Python reads certificates from files only: memory-backed here, gone at return."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    descriptor = os.memfd_create("webhook-certificate") if hasattr(os, "memfd_create") else -1
    if descriptor < 0:
        with tempfile.NamedTemporaryFile() as file:
            file.write(certificate.chain + certificate.key)
            file.flush()
            context.load_cert_chain(file.name)
        return context
    try:
        os.write(descriptor, certificate.chain + certificate.key)
        context.load_cert_chain(Path(f"/proc/self/fd/{descriptor}"))
    finally:
        os.close(descriptor)
    return context
