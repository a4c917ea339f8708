"""`openai-auth env` and `run`: a client gets proxy and CA, its exit code is ours, and what is missing is said."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from accounts.cli import program
from accounts.paths import PREFIXES
from certs import authority

INSTALLED = Path(sys.executable).with_name("openai-auth")


@pytest.fixture(autouse=True)
def confdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    dirty = {"OPENAI_BASE_URL", "OPENAI_API_KEY", "CODEX_API_KEY", "NO_PROXY", "no_proxy"}
    for name in list(os.environ):
        if name.startswith(PREFIXES) or name in dirty:
            monkeypatch.delenv(name)
    monkeypatch.setenv("OPENAI_AUTH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OPENAI_AUTH_CONFDIR", str(tmp_path / "confdir"))
    return tmp_path / "confdir"


@pytest.fixture
def proxy() -> Iterator[str]:
    """Something that listens where the proxy should."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def env(*arguments: str) -> Result:
    return CliRunner().invoke(program(), ["env", *arguments])


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(INSTALLED), "run", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environ,
        check=False,
    )


class TestEnv:
    def test_a_shell_that_evaluates_it_has_proxy_and_ca(self, confdir: Path) -> None:
        script = f'eval "$({INSTALLED} env --shell sh)" && env'
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=120, check=True)
        found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        assert found["HTTPS_PROXY"] == "http://127.0.0.1:8080"
        assert Path(found["SSL_CERT_FILE"]) == confdir / "openai-auth-bundle.pem"
        assert Path(found["NODE_EXTRA_CA_CERTS"]) == confdir / "mitmproxy-ca-cert.pem"
        assert Path(found["SSL_CERT_FILE"]).exists()

    def test_makes_the_ca_if_there_is_none_and_keeps_one_that_is(self, confdir: Path) -> None:
        assert env().exit_code == 0
        made = authority.inspect(confdir)
        assert made is not None
        assert made.constrained
        before = made.path.read_bytes()
        assert env().exit_code == 0
        assert made.path.read_bytes() == before

    def test_another_confdir_and_port(self, tmp_path: Path) -> None:
        output = env("--shell", "sh", "--confdir", str(tmp_path / "other"), "--proxy", "8081").stdout
        assert "export HTTPS_PROXY=http://127.0.0.1:8081\n" in output
        assert str(tmp_path / "other") in output

    @pytest.mark.parametrize(
        ("shell", "line"),
        [
            ("fish", "set -gx HTTPS_PROXY 'http://127.0.0.1:8080'"),
            ("powershell", "$env:HTTPS_PROXY = 'http://127.0.0.1:8080'"),
            ("cmd", 'set "HTTPS_PROXY=http://127.0.0.1:8080"'),
        ],
    )
    def test_shells(self, shell: str, line: str) -> None:
        assert line in env("--shell", shell).stdout.splitlines()

    def test_a_key_that_is_set_is_not_printed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-real")
        output = env("--shell", "sh").stdout
        assert "OPENAI_API_KEY" not in output
        assert "sk-real" not in output

    def test_what_would_lead_clients_past_the_proxy_is_a_warning(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_BASE_URL", "https://other.example/v1")
        result = env()
        assert result.exit_code == 0
        assert result.stderr == "warning: OPENAI_BASE_URL sends clients to other.example: unset it\n"

    @pytest.mark.parametrize("arguments", [["--shell", "tcsh"], ["--proxy", "///"], ["--proxy", "ftp://x"]])
    def test_wrong_usage(self, arguments: list[str], confdir: Path) -> None:
        assert env(*arguments).exit_code == 2

    def test_a_ca_that_cannot_be_read_is_one_line(self, confdir: Path) -> None:
        confdir.mkdir()
        (confdir / "mitmproxy-ca.pem").write_text("nonsense")
        result = env()
        assert (result.exit_code, result.stdout) == (1, "")
        assert "holds no certificate; move it away" in result.stderr


class TestRun:
    def test_the_client_has_the_variables(self, proxy: str, confdir: Path) -> None:
        show = "import os; print(os.environ['HTTPS_PROXY'], os.environ['SSL_CERT_FILE'])"
        done = run("--proxy", proxy, "--", sys.executable, "-c", show)
        assert done.stdout == f"{proxy} {confdir / 'openai-auth-bundle.pem'}\n"

    def test_the_exit_code_is_the_clients(self, proxy: str) -> None:
        assert run("--proxy", proxy, "--", "sh", "-c", "exit 7").returncode == 7

    def test_a_signal_reaches_the_client_itself(self, proxy: str) -> None:
        assert run("--proxy", proxy, "--", "sh", "-c", "kill -TERM $$").returncode == -signal.SIGTERM

    def test_the_clients_own_options_need_no_dashes(self, proxy: str) -> None:
        assert run("--proxy", proxy, "echo", "-n", "--help").stdout == "--help"

    def test_a_proxy_that_does_not_answer_is_said_with_how_to_start_it(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        done = run("--proxy", str(port), "--confdir", str(tmp_path / "with space"), "--", "echo", "no")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(
            f"openai-auth: no proxy answers at http://127.0.0.1:{port}: start it with"
        )
        assert f"main.py -p {port} --set 'confdir={tmp_path}/with space'`" in done.stderr

    def test_a_client_that_is_not_there(self, proxy: str) -> None:
        done = run("--proxy", proxy, "--", "no-such-program")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "openai-auth: cannot run no-such-program: No such file or directory\n"

    def test_no_client_is_wrong_usage(self, proxy: str) -> None:
        assert run("--proxy", proxy).returncode == 2
