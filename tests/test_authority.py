"""The CA: what it may sign, shown by the clients' own TLS libraries; and who may replace which file when."""

from __future__ import annotations

import datetime
import ipaddress
import multiprocessing
import os
import shutil
import socket
import ssl
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from mitmproxy.certs import CertStore

from certs import authority
from certs.authority import AuthorityError, ensure, inspect, is_constrained

HOST = "api.openai.com"


def leaf(confdir: Path, *names: str) -> Path:
    """A server certificate for these names, made by mitmproxy from the CA that it finds."""
    alternatives: list[x509.GeneralName] = []
    for name in names:
        try:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            alternatives.append(x509.DNSName(name))
    made = CertStore.from_store(confdir, "mitmproxy", 2048).get_cert(names[0], alternatives)
    path = confdir / "server.pem"
    key = made.privatekey.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(key + made.cert.to_pem())
    return path


class Server:
    """A TLS server on a port of its own that answers every request with `served`."""

    def __init__(self, certificate: Path) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            try:
                with self._context.wrap_socket(connection, server_side=True) as tls:
                    tls.recv(65536)
                    tls.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nserved")
            except OSError:
                continue  # the client refused the certificate

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)


@pytest.fixture
def confdir(tmp_path: Path) -> Path:
    ensure(tmp_path)
    return tmp_path


@pytest.fixture
def serve(confdir: Path) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*names: str) -> Server:
        servers.append(Server(leaf(confdir, *names)))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def by_python(confdir: Path, port: int, name: str) -> str:
    context = ssl.create_default_context(cafile=str(confdir / authority.BUNDLE_FILE))
    try:
        with (
            socket.create_connection(("127.0.0.1", port)) as connection,
            context.wrap_socket(connection, server_hostname=name) as tls,
        ):
            tls.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            return "served" if tls.recv(65536).endswith(b"served") else "?"
    except ssl.SSLCertVerificationError as error:
        return error.verify_message


def run(*command: str, **environ: str) -> str:
    clean = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=clean | environ, input="", check=False
    )
    return done.stdout + done.stderr


def by_curl(confdir: Path, port: int, name: str) -> str:
    url = f"https://{f'[{name}]' if ':' in name else name}:{port}/"
    bundle = str(confdir / authority.BUNDLE_FILE)
    return run("curl", "-sSv", "--connect-to", f"::127.0.0.1:{port}", url, CURL_CA_BUNDLE=bundle)


NODE = """
const [port, name] = process.argv.slice(1);
const host = require('net').isIP(name) ? {} : {servername: name};
const request = require('https').get({host: '127.0.0.1', port, agent: false, ...host,
  checkServerIdentity: () => undefined}, answer => answer.on('data', data => console.log(String(data))));
request.on('error', error => console.log(error.code, error.message));
"""


def by_node(confdir: Path, port: int, name: str) -> str:
    certificate = str(confdir / authority.CERTIFICATE_FILE)
    return run("node", "-e", NODE, str(port), name, NODE_EXTRA_CA_CERTS=certificate)


def by_openssl(confdir: Path, port: int, name: str) -> str:
    out = run(
        *("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", name),
        *("-CAfile", str(confdir / authority.CERTIFICATE_FILE), "-verify_return_error"),
    )
    return "served" if "Verify return code: 0 (ok)" in out else out


CLIENTS = {"python": by_python, "curl": by_curl, "node": by_node, "openssl": by_openssl}


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> Callable[[Path, int, str], str]:
    if request.param != "python" and not shutil.which(request.param):
        pytest.skip(f"{request.param} is not installed")
    return CLIENTS[request.param]


class TestWhatClientsAccept:
    def test_api_openai_com(self, client, confdir: Path, serve) -> None:
        assert "served" in client(confdir, serve(HOST).port, HOST)

    @pytest.mark.parametrize(
        "name", ["chatgpt.com", "openai.com", "api.openai.com.example", "xapi.openai.com"]
    )
    def test_no_other_name(self, client, confdir: Path, serve, name: str) -> None:
        answer = client(confdir, serve(name).port, name)
        assert "served" not in answer
        assert "permitted subtree violation" in answer.lower().replace("_", " ")

    @pytest.mark.parametrize("address", ["127.0.0.1", "8.8.8.8", "::1"])
    def test_no_address(self, client, confdir: Path, serve, address: str) -> None:
        answer = client(confdir, serve(address).port, address)
        assert "served" not in answer
        assert "excluded subtree violation" in answer.lower().replace("_", " ")

    def test_no_other_name_beside_the_right_one(self, client, confdir: Path, serve) -> None:
        assert "served" not in client(confdir, serve(HOST, "chatgpt.com").port, HOST)


class TestTheCertificate:
    def certificate(self, confdir: Path) -> x509.Certificate:
        return x509.load_pem_x509_certificate((confdir / authority.CERTIFICATE_FILE).read_bytes())

    def test_is_a_p256_ca_that_can_make_no_other_ca(self, confdir: Path) -> None:
        certificate = self.certificate(confdir)
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert key.curve.name == "secp256r1"
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert basic.critical
        assert basic.value == x509.BasicConstraints(ca=True, path_length=0)

    def test_its_constraints_are_critical(self, confdir: Path) -> None:
        found = self.certificate(confdir).extensions.get_extension_for_class(x509.NameConstraints)
        assert found.critical
        assert found.value.permitted_subtrees == [x509.DNSName(HOST)]
        assert {str(name.value) for name in found.value.excluded_subtrees or ()} == {"0.0.0.0/0", "::/0"}

    def test_lives_825_days(self, confdir: Path) -> None:
        certificate = self.certificate(confdir)
        assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 825
        found = inspect(confdir)
        assert found is not None
        assert found.expires_at == certificate.not_valid_after_utc.timestamp()

    def test_can_be_read_by_mitmproxy(self, confdir: Path) -> None:
        store = CertStore.from_store(confdir, "mitmproxy", 2048)
        signed = store.get_cert(HOST, [x509.DNSName(HOST)])
        assert signed.cert.issuer == [
            ("CN", "openai-auth-proxy (api.openai.com only)"),
            ("O", "openai-auth-proxy"),
        ]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestFiles:
    def test_secret_ones_are_for_the_owner_only(self, tmp_path: Path) -> None:
        confdir = tmp_path / "new" / "folder"
        before = os.umask(0)
        try:
            ensure(confdir)
        finally:
            os.umask(before)
        assert mode(confdir) == 0o700
        secret = {path.name for path in confdir.iterdir() if mode(path) == 0o600}
        assert {"mitmproxy-ca.pem", "mitmproxy-ca.p12"} <= secret
        public = {path for path in confdir.iterdir() if mode(path) != 0o600}
        assert not any(b"PRIVATE KEY" in path.read_bytes() for path in public)
        assert {path.name for path in public} == {
            "mitmproxy-ca-cert.pem",
            "mitmproxy-ca-cert.cer",
            "mitmproxy-ca-cert.p12",
            "openai-auth-bundle.pem",
        }

    def test_nothing_is_left_over(self, confdir: Path) -> None:
        assert [path.name for path in confdir.iterdir() if path.name.startswith(".")] == [".openai-auth.lock"]

    def test_a_second_call_changes_nothing(self, confdir: Path) -> None:
        before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in confdir.iterdir()}
        again = ensure(confdir)
        assert not again.created
        assert again.constrained
        assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in confdir.iterdir()} == before

    def test_the_bundle_holds_the_public_roots_and_ours(self, confdir: Path) -> None:
        bundle = (confdir / authority.BUNDLE_FILE).read_bytes()
        assert bundle.startswith(Path(certifi.where()).read_bytes().rstrip())
        assert bundle.endswith((confdir / authority.CERTIFICATE_FILE).read_bytes())
        assert bundle.count(b"BEGIN CERTIFICATE") > 50

    def test_the_bundle_follows_new_public_roots(
        self, confdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        roots = tmp_path / "roots.pem"
        roots.write_text("# fewer roots\n")
        monkeypatch.setattr(certifi, "where", lambda: str(roots))
        ensure(confdir)
        assert (confdir / authority.BUNDLE_FILE).read_bytes().startswith(b"# fewer roots")

    def test_lost_files_come_back(self, confdir: Path) -> None:
        before = (confdir / authority.CERTIFICATE_FILE).read_bytes()
        (confdir / authority.CERTIFICATE_FILE).unlink()
        (confdir / authority.BUNDLE_FILE).write_text("other")
        ensure(confdir)
        assert (confdir / authority.CERTIFICATE_FILE).read_bytes() == before
        assert before in (confdir / authority.BUNDLE_FILE).read_bytes()


class TestACaThatWasThere:
    """mitmproxy's own, made by mitmproxy itself."""

    @pytest.fixture
    def theirs(self, tmp_path: Path) -> Path:
        CertStore.create_store(tmp_path, "mitmproxy", 2048)
        return tmp_path

    def made_at(self, confdir: Path, moment: float) -> None:
        os.utime(confdir / authority.CA_FILE, (moment, moment))

    def test_is_kept_and_said_to_be_unconstrained(self, theirs: Path) -> None:
        before = (theirs / authority.CA_FILE).read_bytes()
        found = ensure(theirs)
        assert (found.constrained, found.created) == (False, False)
        assert (theirs / authority.CA_FILE).read_bytes() == before

    def test_is_kept_when_it_is_older_than_this_process(self, theirs: Path) -> None:
        self.made_at(theirs, 999.0)
        before = (theirs / authority.CA_FILE).read_bytes()
        assert not ensure(theirs, replace_newer_than=1000.0).created
        assert (theirs / authority.CA_FILE).read_bytes() == before

    def test_is_replaced_in_every_form_when_this_process_just_made_it(self, theirs: Path) -> None:
        self.made_at(theirs, 1000.0)
        before = {path.name: path.read_bytes() for path in theirs.iterdir()}
        found = ensure(theirs, replace_newer_than=1000.0)
        assert (found.constrained, found.created) == (True, True)
        same = {name for name, content in before.items() if (theirs / name).read_bytes() == content}
        assert same == {"mitmproxy-dhparam.pem"}  # public numbers, no secret
        assert mode(theirs / authority.CA_FILE) == 0o600

    def test_ours_is_never_replaced(self, confdir: Path) -> None:
        before = (confdir / authority.CA_FILE).read_bytes()
        assert not ensure(confdir, replace_newer_than=0.0).created
        assert (confdir / authority.CA_FILE).read_bytes() == before

    def test_gets_a_bundle_too(self, theirs: Path) -> None:
        ensure(theirs)
        certificate = (theirs / authority.CERTIFICATE_FILE).read_bytes()
        assert certificate in (theirs / authority.BUNDLE_FILE).read_bytes()

    def test_may_have_a_key_with_a_passphrase(self, theirs: Path) -> None:
        pem = (theirs / authority.CA_FILE).read_bytes()
        key = serialization.load_pem_private_key(pem, None)
        locked = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
        certificate = pem[pem.index(b"-----BEGIN CERTIFICATE") :]
        (theirs / authority.CA_FILE).write_bytes(locked + certificate)
        assert not ensure(theirs).constrained

    def test_without_a_certificate_in_it_is_an_error_that_says_what_to_do(self, tmp_path: Path) -> None:
        (tmp_path / authority.CA_FILE).write_text("nonsense")
        with pytest.raises(AuthorityError, match=r"mitmproxy-ca\.pem holds no certificate; move it away"):
            ensure(tmp_path)
        assert (tmp_path / authority.CA_FILE).read_text() == "nonsense"


class TestInspect:
    def test_no_ca_yet(self, tmp_path: Path) -> None:
        assert inspect(tmp_path) is None
        assert list(tmp_path.iterdir()) == []

    def test_finds_what_ensure_made(self, tmp_path: Path) -> None:
        made = ensure(tmp_path)
        assert made.created
        found = inspect(tmp_path)
        assert found is not None
        assert (found.path, found.constrained, found.created) == (made.path, True, False)

    def test_constraints_that_are_not_critical_do_not_count(self, confdir: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now)
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(authority.CONSTRAINTS, critical=False)
            .sign(key, hashes.SHA256())
        )
        assert not is_constrained(certificate)


def _start_together(confdir: Path, barrier: object, results: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    made = ensure(confdir, replace_newer_than=0.0)
    results.put((made.created, made.certificate.read_bytes()))  # type: ignore[attr-defined]


@pytest.mark.parametrize("before", ["nothing", "mitmproxy's own"])
def test_processes_that_start_together_agree_on_one_ca(tmp_path: Path, before: str) -> None:
    if before != "nothing":
        CertStore.create_store(tmp_path, "mitmproxy", 2048)
    fork = multiprocessing.get_context("spawn")
    barrier, results = fork.Barrier(4), fork.Queue()
    processes = [fork.Process(target=_start_together, args=(tmp_path, barrier, results)) for _ in range(4)]
    for process in processes:
        process.start()
    seen = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert [created for created, _ in seen].count(True) == 1
    assert {certificate for _, certificate in seen} == {(tmp_path / authority.CERTIFICATE_FILE).read_bytes()}
