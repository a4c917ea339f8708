"""Logins out of other programs' files: Codex CLI, OpenCode, and OpenCode's openai-auth plugin.

The one idea: the file says by its own shape what it is, so a person only gives the path. What comes out are
`Login`s like those of our own login, main first.

The rule that must not be broken: the file is read and never written. The other program goes on using the same
refresh token, and a refresh by either logs the other one out: whoever imports is told so (`SHARED_WARNING`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from accounts.claims import Claims, claims
from accounts.models import ImportFailed, Login, Secret

SHARED_WARNING = (
    "This login is now shared with the program it came from. A refresh token works once, so sooner or later "
    "one of the two logs the other out: use `openai-auth login` for a login of its own."
)

MAX_BYTES = 4 * 1024 * 1024
"""Larger files are not a login."""

STATE_VARIABLE = "OPENCODE_OPENAI_AUTH_STATE_FILE"
"""Where the plugin was told to keep its tokens, if it was."""

CODEX_CHATGPT_MODES = frozenset({"chatgpt", "chatgptAuthTokens"})
STATE_NAME = "openai-auth-state.json"


def _text(value: object) -> object:
    """Empty strings are what some writers use for "none"."""
    return None if value == "" else value


Text = Annotated[str | None, BeforeValidator(_text)]


class _Foreign(BaseModel):
    """Part of another program's file: unknown members are its own business; values never show in errors."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


class _CodexTokens(_Foreign):
    id_token: Text = None
    access_token: Text = None
    refresh_token: Text = None
    account_id: Text = None


class _CodexFile(_Foreign):
    auth_mode: Text = None
    OPENAI_API_KEY: Text = None
    tokens: _CodexTokens | None = None


class _OpenCodeEntry(_Foreign):
    type: Literal["oauth", "api"]
    access: Text = None
    refresh: Text = None
    expires: float | None = None  # epoch milliseconds
    account_id: Text = Field(default=None, alias="accountId")
    key: Text = None


class _PluginAccount(_Foreign):
    id: str
    label: Text = None
    type: str = "oauth"
    enabled: bool = True
    account_id: Text = Field(default=None, alias="accountId")


class _PluginFile(_Foreign):
    accounts: list[_PluginAccount]


class _PluginTokens(_Foreign):
    access: Text = None
    refresh: Text = None
    expires: float | None = None  # epoch milliseconds
    api_key: Text = Field(default=None, alias="apiKey")


class _PluginState(_Foreign):
    accounts: dict[str, _PluginTokens] = {}


def read_logins(path: Path, skipped: list[str] | None = None) -> list[Login]:
    """The logins in a file; a folder stands for the auth.json (or openai-auth.json) in it.

    Reads `auth.json` of the Codex CLI, `auth.json` of OpenCode (its `openai` entry), and `openai-auth.json`
    of the OpenCode plugin together with its state file. What is wrong with accounts of the plugin that cannot be
    taken is added to `skipped`. Raises ImportFailed, whose message says what was found instead, if none is left.
    """
    file = _file(path.expanduser())
    content = _json(file)
    try:
        if isinstance(content.get("accounts"), list) and "version" in content:
            return _plugin(file, _PluginFile.model_validate(content), [] if skipped is None else skipped)
        if isinstance(content.get("openai"), dict):
            return [_open_code(file, _OpenCodeEntry.model_validate(content["openai"]))]
        if {"tokens", "OPENAI_API_KEY", "auth_mode"} & content.keys():
            return [_codex(file, _CodexFile.model_validate(content))]
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ImportFailed(f"{file} has an unexpected value at {where}: {first['msg']}") from None
    if isinstance(content.get("accounts"), dict):
        raise ImportFailed(
            f"{file} holds only the plugin's tokens: give the openai-auth.json beside it instead"
        )
    if any(isinstance(entry, dict) and "type" in entry for entry in content.values()):
        raise ImportFailed(
            f"{file} is an auth.json of OpenCode without an `openai` login: log in there first"
        )
    raise ImportFailed(
        f"{file} is not a login file: expected an auth.json of the Codex CLI (~/.codex/auth.json), one of "
        "OpenCode, or the OpenCode plugin's openai-auth.json"
    )


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in ("auth.json", "openai-auth.json"):
        if (path / name).is_file():
            return path / name
    raise ImportFailed(f"{path} is a folder without an auth.json: give the path of the file")


def _json(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ImportFailed(f"{file} does not exist: give the path of an auth.json") from None
    except OSError as error:
        raise ImportFailed(f"{file} cannot be read ({error.strerror}): check its owner and mode") from None
    if len(data) > MAX_BYTES:
        raise ImportFailed(f"{file} is too large for a login file")
    try:
        content = orjson.loads(data.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError:
        raise ImportFailed(f"{file} is not valid JSON: give the path of an auth.json") from None
    if not isinstance(content, dict):
        raise ImportFailed(f"{file} is not a login file: it is not a JSON object")
    return content


def _codex(file: Path, content: _CodexFile) -> Login:
    """Without a mode (old files) the credential that is there decides, the API key before the tokens."""
    mode = content.auth_mode or ("apikey" if content.OPENAI_API_KEY else "chatgpt")
    if mode == "apikey":
        if not content.OPENAI_API_KEY:
            raise ImportFailed(
                f"{file} says it is an API-key login but holds no key: run `codex login` again"
            )
        return Login("api_key", Secret(content.OPENAI_API_KEY))
    if mode not in CODEX_CHATGPT_MODES:
        raise ImportFailed(
            f"{file} holds a login of kind {mode!r}, which is not a ChatGPT login: run `codex login`"
        )
    tokens = content.tokens
    if tokens is None or not tokens.access_token:
        raise ImportFailed(
            f"{file} holds no ChatGPT tokens: run `codex login`, with cli_auth_credentials_store set to "
            '"file" if Codex keeps them in the keyring'
        )
    return _oauth(file, tokens.access_token, tokens.refresh_token, None, tokens.account_id, tokens.id_token)


def _open_code(file: Path, entry: _OpenCodeEntry) -> Login:
    if entry.type == "api":
        if not entry.key:
            raise ImportFailed(f"{file} holds an `openai` entry without a key: log in to OpenCode again")
        return Login("api_key", Secret(entry.key))
    if not entry.refresh:
        raise ImportFailed(f"{file} holds an `openai` entry without tokens: log in to OpenCode again")
    return _oauth(file, entry.access, entry.refresh, _seconds(entry.expires), entry.account_id)


def _plugin(file: Path, roster: _PluginFile, skipped: list[str]) -> list[Login]:
    state_file = _state_file(file)
    state = _PluginState.model_validate(_json(state_file))
    logins, wrong = [], []
    for account in roster.accounts:
        try:
            logins.append(_plugin_login(file, account, state.accounts.get(account.id)))
        except ImportFailed as error:
            wrong.append(f"{account.label or account.id} was left out: {error}")
    if not logins:
        reasons = "".join(f"; {reason}" for reason in wrong)
        raise ImportFailed(
            f"{file} and {state_file} hold no login of a ChatGPT account{reasons}. The plugin's main account is in "
            "OpenCode's own auth.json: import that file"
        )
    skipped += wrong
    return logins


def _state_file(file: Path) -> Path:
    """Where the plugin keeps the tokens of the accounts in `file`: it holds none itself."""
    if chosen := os.environ.get(STATE_VARIABLE):
        return Path(chosen).expanduser()
    beside = (
        file.with_name(STATE_NAME)
        if file.name.endswith("openai-auth.json")
        else file.with_name(f"{file.name}.state.json")
    )
    if not beside.exists():
        raise ImportFailed(f"{file} lists accounts, but {beside}, which holds their tokens, is missing")
    return beside


def _plugin_login(file: Path, account: _PluginAccount, tokens: _PluginTokens | None) -> Login:
    if account.type != "oauth":
        # The plugin's API accounts may point at any server; ours are OpenAI's.
        raise ImportFailed("it is an API account; add a key of OpenAI's with `openai-auth login --api-key`")
    if tokens is None or not tokens.refresh:
        raise ImportFailed("there is no refresh token for it; log in again with `openai-auth login`")
    return _oauth(
        file,
        tokens.access,
        tokens.refresh,
        _seconds(tokens.expires),
        account.account_id,
        label=account.label or account.id,
        enabled=account.enabled,
    )


def _oauth(
    file: Path,
    access: str | None,
    refresh: str | None,
    expires_at: float | None,
    account_id: str | None,
    id_token: str | None = None,
    label: str | None = None,
    enabled: bool = True,
) -> Login:
    """A login from tokens: who it is, each fact from the best place that knows it.

    Without an access token it is one that has expired: the refresh token brings another.
    """
    access = access or ""
    own, named = claims(access), claims(id_token) if id_token else Claims()
    identity = account_id or named.account_id or own.account_id
    if identity is None:
        raise ImportFailed(f"{file} holds tokens that name no ChatGPT account: log in again in that program")
    return Login(
        type="oauth",
        access=Secret(access),
        refresh=Secret(refresh) if refresh else None,
        expires_at=own.expires_at or expires_at if access else 0.0,
        account_id=identity,
        email=named.email or own.email,
        plan=named.plan or own.plan,
        label=label,
        enabled=enabled,
    )


def _seconds(milliseconds: float | None) -> float | None:
    return milliseconds / 1000 if milliseconds and milliseconds > 0 else None
