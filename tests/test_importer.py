"""Logins out of the files of other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accounts.importer import read_logins
from accounts.models import ImportFailed, Login
from tests.rotating_issuer import START, jwt

ACCESS = jwt("acc-1", START + 3600)
ID = jwt("acc-id", START + 60, plan="pro", email="id@example.com")


def written(folder: Path, content: object, name: str = "auth.json") -> Path:
    file = folder / name
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def codex(**more: Any) -> dict[str, Any]:
    tokens = {"id_token": ID, "access_token": ACCESS, "refresh_token": "rt_abc", "account_id": "acc-file"}
    return {
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": None,
        "tokens": tokens,
        "last_refresh": "2026-11-20",
    } | more


def only(logins: list[Login]) -> Login:
    (login,) = logins
    return login


# Codex CLI


def test_a_chatgpt_login_of_the_codex_cli(tmp_path: Path) -> None:
    login = only(read_logins(written(tmp_path, codex())))
    assert login.type == "oauth"
    assert login.access.reveal() == ACCESS
    assert login.refresh is not None
    assert login.refresh.reveal() == "rt_abc"
    assert (login.account_id, login.email, login.plan) == ("acc-file", "id@example.com", "pro")
    assert login.expires_at == START + 3600


def test_the_account_id_comes_from_the_id_token_if_the_file_has_none(tmp_path: Path) -> None:
    content = codex()
    content["tokens"]["account_id"] = None
    assert only(read_logins(written(tmp_path, content))).account_id == "acc-id"
    content["tokens"]["id_token"] = ""
    assert only(read_logins(written(tmp_path, content))).account_id == "acc-1"


@pytest.mark.parametrize(
    ("more", "type"),
    [
        ({"auth_mode": "apikey", "OPENAI_API_KEY": "sk-1"}, "api_key"),
        ({"auth_mode": "chatgpt", "OPENAI_API_KEY": "sk-1"}, "oauth"),
        ({"auth_mode": None, "OPENAI_API_KEY": "sk-1"}, "api_key"),
        ({"auth_mode": None}, "oauth"),
        ({"auth_mode": "chatgptAuthTokens"}, "oauth"),
    ],
)
def test_the_mode_decides_and_without_one_the_key_comes_first(
    tmp_path: Path, more: dict[str, Any], type: str
) -> None:
    assert only(read_logins(written(tmp_path, codex(**more)))).type == type


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"auth_mode": "personalAccessToken"}, "'personalAccessToken'.*codex login"),
        ({"auth_mode": "apikey"}, "holds no key"),
        ({"tokens": None}, "no ChatGPT tokens.*keyring"),
        ({"tokens": {"access_token": ""}}, "no ChatGPT tokens"),
        ({"tokens": {"access_token": "opaque"}}, "name no ChatGPT account"),
        ({"tokens": ["secret-token"]}, "unexpected value at tokens"),
        ({"tokens": {"access_token": 1234567}}, r"unexpected value at tokens\.access_token"),
    ],
)
def test_codex_files_without_a_usable_login(tmp_path: Path, more: dict[str, Any], message: str) -> None:
    with pytest.raises(ImportFailed, match=message) as refused:
        read_logins(written(tmp_path, codex(**more)))
    assert "secret-token" not in str(refused.value)
    assert "1234567" not in str(refused.value)


# OpenCode


def test_an_oauth_login_of_opencode(tmp_path: Path) -> None:
    entry = {"type": "oauth", "access": ACCESS, "refresh": "rt", "expires": 1, "accountId": "acc-oc"}
    login = only(read_logins(written(tmp_path, {"anthropic": {"type": "api"}, "openai": entry})))
    assert (login.account_id, login.expires_at, login.plan) == ("acc-oc", START + 3600, "plus")


def test_opencodes_expiry_counts_if_the_token_says_none(tmp_path: Path) -> None:
    entry = {"type": "oauth", "access": "opaque", "refresh": "rt", "expires": START * 1000, "accountId": "a"}
    assert only(read_logins(written(tmp_path, {"openai": entry}))).expires_at == START


def test_an_api_key_of_opencode(tmp_path: Path) -> None:
    login = only(read_logins(written(tmp_path, {"openai": {"type": "api", "key": "sk-1"}})))
    assert (login.type, login.access.reveal(), login.refresh) == ("api_key", "sk-1", None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"anthropic": {"type": "oauth"}}, "without an `openai` login"),
        ({"openai": {"type": "oauth", "access": "", "refresh": ""}}, "without tokens"),
        ({"openai": {"type": "oauth", "access": "", "refresh": "rt"}}, "name no ChatGPT account"),
        ({"openai": {"type": "api"}}, "without a key"),
        ({"openai": {"type": "wellknown"}}, r"unexpected value at type"),
    ],
)
def test_opencode_files_without_a_usable_login(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(ImportFailed, match=message):
        read_logins(written(tmp_path, content))


# OpenCode's plugin


ROSTER = {
    "version": 1,
    "main": {"type": "opencode", "provider": "openai"},
    "accounts": [
        {"id": "work", "label": "Work", "type": "oauth", "enabled": True, "accountId": "acc-work"},
        {"id": "play", "type": "oauth", "enabled": False},
        {"id": "gone", "type": "oauth", "accountId": "acc-gone"},
        {"id": "paid", "type": "api", "baseURL": "https://example.com"},
    ],
}
STATE: dict[str, Any] = {
    "version": 1,
    "main": {},
    "accounts": {
        "work": {"access": ACCESS, "refresh": "rt-work", "expires": 5, "lastUsed": 0},
        "play": {"access": jwt("acc-play", START), "refresh": "rt-play", "expires": 5},
        "paid": {"apiKey": "sk-1"},
    },
}


@pytest.mark.parametrize(
    ("roster", "state"),
    [("openai-auth.json", "openai-auth-state.json"), ("other.json", "other.json.state.json")],
)
def test_the_plugins_accounts_come_with_labels_and_order(tmp_path: Path, roster: str, state: str) -> None:
    written(tmp_path, STATE, state)
    logins = read_logins(written(tmp_path, ROSTER, roster))
    assert [(each.label, each.account_id, each.enabled) for each in logins] == [
        ("Work", "acc-work", True),
        ("play", "acc-play", False),
    ]
    assert [each.refresh.reveal() for each in logins if each.refresh] == ["rt-work", "rt-play"]


def test_a_refresh_token_alone_is_an_expired_login(tmp_path: Path) -> None:
    entry = {"type": "oauth", "access": "", "refresh": "rt", "expires": 0, "accountId": "acc-oc"}
    login = only(read_logins(written(tmp_path, {"openai": entry})))
    assert (login.account_id, login.access.reveal(), login.expires_at) == ("acc-oc", "", 0.0)
    written(tmp_path, {"accounts": {"work": {"refresh": "rt-work"}}}, "openai-auth-state.json")
    login = only(read_logins(written(tmp_path, ROSTER, "openai-auth.json")))
    assert (login.label, login.access.reveal(), login.expires_at) == ("Work", "", 0.0)


def test_accounts_of_the_plugin_that_cannot_be_taken_are_told_with_the_reason(tmp_path: Path) -> None:
    written(tmp_path, STATE | {"accounts": {**STATE["accounts"], "gone": {}}}, "openai-auth-state.json")
    skipped: list[str] = []
    assert len(read_logins(written(tmp_path, ROSTER, "openai-auth.json"), skipped)) == 2
    assert [reason.partition(" was left out: ")[::2] for reason in skipped] == [
        ("gone", "there is no refresh token for it; log in again with `openai-auth login`"),
        ("paid", "it is an API account; add a key of OpenAI's with `openai-auth login --api-key`"),
    ]
    written(tmp_path, {"accounts": {}}, "openai-auth-state.json")
    with pytest.raises(ImportFailed, match=r"Work was left out: .*; paid was left out: "):
        read_logins(tmp_path / "openai-auth.json", skipped)


def test_the_plugins_tokens_may_lie_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, {"accounts": {}}, "openai-auth-state.json")
    monkeypatch.setenv("OPENCODE_OPENAI_AUTH_STATE_FILE", str(written(tmp_path, STATE, "state.json")))
    assert len(read_logins(written(tmp_path, ROSTER, "openai-auth.json"))) == 2


def test_the_plugins_files_belong_together(tmp_path: Path) -> None:
    with pytest.raises(ImportFailed, match=r"openai-auth-state\.json.*missing"):
        read_logins(written(tmp_path, ROSTER, "openai-auth.json"))
    with pytest.raises(ImportFailed, match=r"give the openai-auth\.json beside it"):
        read_logins(written(tmp_path, STATE, "openai-auth-state.json"))


def test_a_plugin_without_fallbacks_points_to_opencodes_file(tmp_path: Path) -> None:
    written(tmp_path, {"version": 1}, "openai-auth-state.json")
    with pytest.raises(ImportFailed, match=r"OpenCode's own auth\.json"):
        read_logins(written(tmp_path, ROSTER | {"accounts": []}, "openai-auth.json"))


# Files


def test_a_folder_stands_for_the_file_in_it(tmp_path: Path) -> None:
    with pytest.raises(ImportFailed, match=r"folder without an auth\.json"):
        read_logins(tmp_path)
    written(tmp_path, codex())
    assert only(read_logins(tmp_path)).account_id == "acc-file"


def test_a_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert read_logins(written(tmp_path, "\ufeff" + json.dumps(codex())))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[]", "not a JSON object"),
        ("{}", "is not a login file"),
        ('{"webSearch": true}', "is not a login file"),
        ("x" * (4 * 1024 * 1024 + 1), "too large"),
    ],
)
def test_files_that_are_no_login(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ImportFailed, match=message):
        read_logins(written(tmp_path, content))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ImportFailed, match="does not exist"):
        read_logins(tmp_path / "nowhere.json")


def test_the_source_is_never_written(tmp_path: Path) -> None:
    file = written(tmp_path, codex())
    before = (file.read_bytes(), file.stat().st_mtime_ns)
    file.chmod(0o400)
    read_logins(file)
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before
    assert [each.name for each in tmp_path.iterdir()] == ["auth.json"]
