"""What clients are told: the right file for each variable, in the right words for each shell."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from certs import trust
from certs.authority import Authority
from certs.trust import PLACEHOLDER_KEY, Variable, exports, hindrances, shell_of, variables

PROXY = "http://127.0.0.1:8080"
CA = Authority(
    path=Path("/c/mitmproxy-ca.pem"),
    certificate=Path("/c/mitmproxy-ca-cert.pem"),
    bundle=Path("/c/openai-auth-bundle.pem"),
    constrained=True,
    created=False,
    expires_at=0.0,
)


def values(environ: dict[str, str] | None = None) -> dict[str, str]:
    return {each.name: each.value for each in variables(CA, PROXY, environ or {})}


class TestVariables:
    @pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
    def test_what_replaces_the_roots_gets_the_bundle(self, name: str) -> None:
        assert values()[name] == "/c/openai-auth-bundle.pem"

    @pytest.mark.parametrize("name", ["NODE_EXTRA_CA_CERTS", "CODEX_CA_CERTIFICATE"])
    def test_what_adds_to_the_roots_gets_the_certificate(self, name: str) -> None:
        assert values()[name] == "/c/mitmproxy-ca-cert.pem"

    def test_the_proxy_and_what_is_reached_without_it(self) -> None:
        found = values()
        assert found["HTTPS_PROXY"] == found["https_proxy"] == PROXY
        assert found["NO_PROXY"] == found["no_proxy"] == "127.0.0.1,localhost"
        assert found["NODE_USE_ENV_PROXY"] == "1"
        assert "HTTP_PROXY" not in found

    @pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
    def test_names_that_stay_away_from_proxies_still_do(self, name: str) -> None:
        assert values({name: "intranet, localhost"})["NO_PROXY"] == "intranet,localhost,127.0.0.1"

    def test_no_file_with_the_key_of_the_ca_is_ever_named(self) -> None:
        assert str(CA.path) not in values().values()

    def test_a_placeholder_key_where_there_is_none(self) -> None:
        found = values()
        assert found["OPENAI_API_KEY"] == found["CODEX_API_KEY"] == PLACEHOLDER_KEY

    def test_a_key_that_is_set_stays_and_is_not_printed(self) -> None:
        found = values({"OPENAI_API_KEY": "sk-real", "CODEX_API_KEY": ""})
        assert "OPENAI_API_KEY" not in found
        assert found["CODEX_API_KEY"] == PLACEHOLDER_KEY


AWKWARD = "a b'c\"d$e`f\\g;h#i%j"


class TestShells:
    @pytest.mark.parametrize(
        ("shell", "line"),
        [
            ("sh", "export X='a b'"),
            ("bash", "export X='a b'"),
            ("zsh", "export X='a b'"),
            ("fish", "set -gx X 'a b'"),
            ("powershell", "$env:X = 'a b'"),
            ("cmd", 'set "X=a b"'),
        ],
    )
    def test_each_in_its_own_words(self, shell: str, line: str) -> None:
        assert line in exports(shell, [Variable("X", "a b", "")], command="c").splitlines()

    def test_the_first_line_says_how_to_apply_it(self) -> None:
        assert exports("bash", [], command="openai-auth env") == '# eval "$(openai-auth env)"\n'
        assert exports("fish", [], command="openai-auth env") == "# openai-auth env | source\n"

    def test_powershell_doubles_quotes(self) -> None:
        assert "$env:X = 'it''s'" in exports("powershell", [Variable("X", "it's", "")], command="c")

    def test_fish_escapes_quotes_and_backslashes(self) -> None:
        assert "set -gx X 'a\\\\b\\'c'" in exports("fish", [Variable("X", "a\\b'c", "")], command="c")

    def test_names_without_case_are_set_once(self) -> None:
        lines = exports("powershell", variables(CA, PROXY, {}), command="c").splitlines()
        assert sum("_proxy" in line.lower() and "use_env" not in line.lower() for line in lines) == 2

    @pytest.mark.parametrize("shell", ["sh", "bash", "zsh", "fish"])
    def test_a_real_shell_reads_back_what_was_meant(self, shell: str) -> None:
        if not shutil.which(shell):
            pytest.skip(f"{shell} is not installed")
        script = exports(shell, [Variable("X", AWKWARD, "")], command="c") + 'printf %s "$X"\n'
        done = subprocess.run([shell, "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout == AWKWARD

    def test_applied_by_eval_as_the_first_line_says(self) -> None:
        text = exports("sh", variables(CA, PROXY, {"OPENAI_API_KEY": "sk-mine"}), command="c")
        script = 'OPENAI_API_KEY=sk-mine; eval "$1"; printf %s "$SSL_CERT_FILE,$OPENAI_API_KEY"'
        done = subprocess.run(["sh", "-c", script, "sh", text], capture_output=True, text=True, check=True)
        assert done.stdout == "/c/openai-auth-bundle.pem,sk-mine"

    @pytest.mark.parametrize(
        ("environ", "windows", "shell"),
        [
            ({"SHELL": "/usr/bin/fish"}, False, "fish"),
            ({"SHELL": "/bin/zsh"}, False, "zsh"),
            ({"SHELL": "/bin/tcsh"}, False, "sh"),
            ({}, False, "sh"),
            ({}, True, "powershell"),
        ],
    )
    def test_the_shell_is_guessed(self, environ: dict[str, str], windows: bool, shell: str) -> None:
        assert shell_of(environ, windows=windows) == shell

    def test_every_shell_has_its_words(self) -> None:
        assert set(trust.SHELLS) == set(trust.SYNTAX)


class TestHindrances:
    @pytest.mark.parametrize("value", ["*", "openai.com", ".openai.com", "x, api.openai.com", "*.openai.com"])
    def test_a_no_proxy_that_covers_the_api(self, value: str) -> None:
        (found,) = hindrances({"NO_PROXY": value}, PROXY)
        assert found.startswith("NO_PROXY keeps api.openai.com away from the proxy")

    @pytest.mark.parametrize("value", ["", "localhost", "ai.com", "notapi.openai.com"])
    def test_one_that_does_not(self, value: str) -> None:
        assert hindrances({"no_proxy": value}, PROXY) == []

    def test_a_base_url_elsewhere(self) -> None:
        (found,) = hindrances({"OPENAI_BASE_URL": "https://user:pw@other.example/v1"}, PROXY)
        assert found == "OPENAI_BASE_URL sends clients to other.example: unset it"

    @pytest.mark.parametrize("url", ["https://api.openai.com/v1", "http://127.0.0.1:8080/v1", ""])
    def test_a_base_url_that_comes_to_us(self, url: str) -> None:
        assert hindrances({"OPENAI_BASE_URL": url}, PROXY) == []
