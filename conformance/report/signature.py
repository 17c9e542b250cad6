"""Fingerprint and signature of a record.

The fingerprint (SHA-256, written beside the record when its run ends) shows damage: a lost line, a flipped
byte. Whoever can change the record can change the fingerprint, too; only a signature shows tampering.
Signatures are OpenSSH's (`ssh-keygen -Y`), so any SSH key signs and no new tool is needed.
"""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from conformance.errors import InputError

__all__ = ["NAMESPACE", "check_fingerprint", "fingerprint", "sign", "verify", "write_fingerprint"]

NAMESPACE = "authz-conformance"  # what the signature is for; another program's signature does not count


def _beside(record: Path, suffix: str) -> Path:
    return record.with_name(record.name + suffix)


def fingerprint(record: Path) -> str:
    """SHA-256 of the file's bytes, in hexadecimal. Raises InputError."""
    try:
        return hashlib.sha256(record.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{record} cannot be read: {error.strerror}") from None


def write_fingerprint(record: Path) -> None:
    """Beside the record, as `sha256sum --check` reads it."""
    text = f"{fingerprint(record)}  {record.name}\n"
    _beside(record, ".sha256").write_text(text, encoding="utf-8")


def check_fingerprint(record: Path) -> bool:
    """Whether there is one. Raises InputError where the record is not the one it was made of."""
    file = _beside(record, ".sha256")
    try:
        said = file.read_text(encoding="utf-8", errors="replace").split()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None
    found = fingerprint(record)
    if not said or said[0] != found:
        raise InputError(
            f"{record} is not what its run wrote: its SHA-256 is {found}, {file.name} says "
            f"{said[0] if said else 'nothing'}",
            hint="take the record from where the run left it",
        )
    return True


def _ssh_keygen(*arguments: str, record: Path) -> subprocess.CompletedProcess[str]:
    try:
        with record.open("rb") as file:
            return subprocess.run(
                ["ssh-keygen", "-Y", *arguments], stdin=file, capture_output=True, text=True, check=False
            )
    except FileNotFoundError:
        raise InputError(
            "ssh-keygen is not installed", hint="Debian: apt-get install openssh-client"
        ) from None
    except OSError as error:
        raise InputError(f"{record} cannot be signed or checked: {error.strerror}") from None


def _said(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stderr or done.stdout).strip().splitlines()
    return lines[0] if lines else f"ssh-keygen ended with {done.returncode}"


def sign(record: Path, key: Path) -> Path:
    """Writes the detached signature beside the record, over an older one. Raises InputError."""
    if not key.is_file():
        raise InputError(f"there is no key {key}", hint="ssh-keygen -t ed25519 -f KEY makes one")
    done = _ssh_keygen("sign", "-q", "-f", str(key), "-n", NAMESPACE, record=record)
    if done.returncode or "BEGIN SSH SIGNATURE" not in done.stdout:
        raise InputError(f"{record} was not signed: {_said(done)}")
    file = _beside(record, ".sig")
    try:
        file.write_text(done.stdout, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}") from None
    return file


def verify(record: Path, signers: Path | None) -> list[str]:
    """What was checked and what it proves, in sentences. `signers`: OpenSSH's allowed_signers file.

    Raises InputError where anything does not fit."""
    told = []
    if check_fingerprint(record):
        told.append(f"SHA-256 {fingerprint(record)} is the one written at the end of the run")
    else:
        told.append(f"SHA-256 {fingerprint(record)}; there is no {record.name}.sha256 to compare it to")
    file = _beside(record, ".sig")
    if not file.is_file():
        if signers is not None:
            raise InputError(f"there is no signature {file}", hint="report --sign KEY writes one")
        told.append("there is no signature: a bare hash shows damage, not tampering")
        return told
    if signers is None:
        done = _ssh_keygen("check-novalidate", "-n", NAMESPACE, "-s", str(file), record=record)
        if done.returncode:
            raise InputError(f"{file} is not a signature of {record}: {_said(done)}")
        told.append(f"{done.stdout.strip()}")
        told.append("whose key that is was not checked: name the keys that you trust with --signers FILE")
        return told
    if not signers.is_file():
        raise InputError(f"there is no file {signers}", hint="one line per key: NAME KEYTYPE KEY")
    who = _ssh_keygen("find-principals", "-s", str(file), "-f", str(signers), record=record)
    names = who.stdout.split()
    if who.returncode or not names:
        raise InputError(f"{file} is by no key in {signers}: {_said(who)}")
    done = _ssh_keygen(
        "verify", "-n", NAMESPACE, "-s", str(file), "-f", str(signers), "-I", names[0], record=record
    )
    if done.returncode:
        raise InputError(f"{file} is not a signature of {record}: {_said(done)}")
    told.append(f"signed by {names[0]}: {done.stdout.strip()}")
    return told
