"""The certificate authority that may sign api.openai.com and nothing else.

The one idea: clients are asked to trust a CA whose key lies on a disk, so the CA itself says what it is good
for: critical X.509 name constraints (permitted DNS:api.openai.com, excluded every IP address) and path length
0. Who steals the key can impersonate that one name. The rule: a CA that was there before is never touched.

mitmproxy reads key and certificate from `mitmproxy-ca.pem` in its confdir and hands the other files out.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if sys.platform != "win32":
    import fcntl

HOST = "api.openai.com"
LIFETIME = datetime.timedelta(days=825)
CLOCK_SKEW = datetime.timedelta(days=1)
"""The certificate begins this long before it is made, for clients whose clock is behind."""

CA_FILE = "mitmproxy-ca.pem"
CERTIFICATE_FILE = "mitmproxy-ca-cert.pem"
BUNDLE_FILE = "openai-auth-bundle.pem"
NAME = "openai-auth-proxy"

CONSTRAINTS = x509.NameConstraints(
    permitted_subtrees=[x509.DNSName(HOST)],
    excluded_subtrees=[
        x509.IPAddress(ipaddress.ip_network("0.0.0.0/0")),
        x509.IPAddress(ipaddress.ip_network("::/0")),
    ],
)


class AuthorityError(Exception):
    """The CA cannot be read or written; the message says which file, and what to do."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA as it lies in mitmproxy's confdir."""

    path: Path
    """Key and certificate, for mitmproxy."""
    certificate: Path
    """The certificate alone, for clients that add it to what they trust."""
    bundle: Path
    """Public roots and the certificate, for variables that replace what a client trusts."""
    constrained: bool
    """Whether it can sign api.openai.com only."""
    created: bool
    """Whether this call made it."""
    expires_at: float
    """Epoch seconds."""


def ensure(confdir: Path, *, replace_newer_than: float | None = None) -> Authority:
    """Makes the CA if there is none, and brings certificate file and bundle up to date.

    `replace_newer_than` (epoch seconds) is when this mitmproxy process began: an unconstrained CA that is not
    older was made by mitmproxy itself a moment ago, no client trusts it yet, and ours takes its place. Safe
    with several processes at once. Raises AuthorityError."""
    try:
        confdir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(confdir):
            return _ensure(confdir, replace_newer_than)
    except OSError as error:
        raise AuthorityError(
            f"{error.filename or confdir}: {error.strerror}; make it readable and writable for this user"
        ) from error


def inspect(confdir: Path) -> Authority | None:
    """The CA that is there, without writing anything. Raises AuthorityError if it cannot be read."""
    try:
        certificate = _read(confdir / CA_FILE)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AuthorityError(f"{confdir / CA_FILE}: {error.strerror}") from error
    return _authority(confdir, certificate, created=False)


def is_constrained(certificate: x509.Certificate) -> bool:
    """Whether it carries exactly our constraints, critical, so that clients must enforce or refuse it."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.NameConstraints)
    except x509.ExtensionNotFound:
        return False
    return found.critical and found.value == CONSTRAINTS


def _ensure(confdir: Path, replace_newer_than: float | None) -> Authority:
    path = confdir / CA_FILE
    created = False
    if path.exists() and replace_newer_than is not None:
        young = path.stat().st_mtime >= replace_newer_than
        if young and not is_constrained(_read(path)):
            _make(confdir, replace=True)
            created = True
    elif not path.exists():
        created = _make(confdir, replace=False)
    certificate = _read(path)
    _keep(confdir / CERTIFICATE_FILE, certificate.public_bytes(serialization.Encoding.PEM))
    _keep(confdir / BUNDLE_FILE, _bundle(certificate))
    return _authority(confdir, certificate, created=created)


def _authority(confdir: Path, certificate: x509.Certificate, *, created: bool) -> Authority:
    return Authority(
        path=confdir / CA_FILE,
        certificate=confdir / CERTIFICATE_FILE,
        bundle=confdir / BUNDLE_FILE,
        constrained=is_constrained(certificate),
        created=created,
        expires_at=certificate.not_valid_after_utc.timestamp(),
    )


def _make(confdir: Path, *, replace: bool) -> bool:
    """Writes a new CA in the forms that mitmproxy's own has. False if one appeared meanwhile."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _sign(key)
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    if not _write(confdir / CA_FILE, secret + pem, mode=0o600, replace=replace):
        return False
    plain, name = serialization.NoEncryption(), NAME.encode()
    both = pkcs12.serialize_key_and_certificates(name, key, certificate, None, plain)
    alone = pkcs12.serialize_key_and_certificates(name, None, certificate, None, plain)
    _write(confdir / "mitmproxy-ca.p12", both, mode=0o600, replace=True)
    _write(confdir / "mitmproxy-ca-cert.p12", alone, mode=0o644, replace=True)
    _write(confdir / "mitmproxy-ca-cert.cer", pem, mode=0o644, replace=True)
    _write(confdir / CERTIFICATE_FILE, pem, mode=0o644, replace=True)
    return True


def _sign(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"{NAME} ({HOST} only)"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, NAME),
        ]
    )
    begin = datetime.datetime.now(datetime.UTC) - CLOCK_SKEW
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .not_valid_before(begin)
        .not_valid_after(begin + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(CONSTRAINTS, critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _read(path: Path) -> x509.Certificate:
    """The CA certificate in a PEM file, whatever else the file holds (the key may have a passphrase)."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())[0]
    except ValueError as error:
        raise AuthorityError(
            f"{path} holds no certificate; move it away and start the proxy to have a new one made"
        ) from error


def _bundle(certificate: x509.Certificate) -> bytes:
    roots = Path(certifi.where()).read_bytes().rstrip(b"\n")
    return roots + b"\n\n" + certificate.public_bytes(serialization.Encoding.PEM)


def _keep(path: Path, content: bytes) -> None:
    """Writes a file only if it has other content: clients may be reading it."""
    try:
        same = path.read_bytes() == content
    except FileNotFoundError:
        same = False
    if not same:
        _write(path, content, mode=0o644, replace=True)


def _write(path: Path, content: bytes, *, mode: int, replace: bool) -> bool:
    """Makes a file appear whole and with its mode. False if it must not be replaced and is there."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600 from the start
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        if replace:
            temporary.replace(path)
            return True
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return False
        return True
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(confdir: Path) -> Iterator[None]:
    """One process at a time (two that replace mitmproxy's CA at once would each trust their own)."""
    if sys.platform == "win32":
        yield
        return
    handle = os.open(confdir / ".openai-auth.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
