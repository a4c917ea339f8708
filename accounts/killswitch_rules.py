"""What a person says about the killswitch, as changes of the settings; and how it stands, as rows.

The one idea: the command and mitmproxy's `codex.killswitch` read the same words. An account is written down
under the name that people see, with its case, and only once; with another name it keeps its threshold. The rule:
a word that is not understood changes nothing at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from accounts import killswitch, paths
from accounts.account_records import resolve
from accounts.killswitch import Killswitch
from accounts.models import MAIN, Account, AccountsError, Quota
from accounts.settings import Settings
from accounts.settings_file import write_settings

ALL = "all"
USAGE = "give on, off, or set ACCOUNT:5H,1W … (remaining percent; ACCOUNT may be main or all)"


class NotUnderstood(AccountsError):
    """The words are no command; the message says what is."""


def changes(words: Sequence[str], accounts: Sequence[Account], settings: Settings) -> dict[str, object]:
    """The settings to write for `on`, `off` or `set NAME:A,B …`; `set` also switches on.

    `all` is every account, those to come too, and drops what was set for single ones before it. `main` is
    whoever is main. Raises NotUnderstood, NoSuchAccount, AmbiguousAccount.
    """
    match list(words):
        case ["on"]:
            return {"killswitch.enabled": True}
        case ["off"]:
            return {"killswitch.enabled": False}
        case ["set", *pairs] if pairs:
            return {"killswitch.enabled": True} | _thresholds(pairs, accounts, settings)
    raise NotUnderstood(USAGE)


def _thresholds(pairs: Sequence[str], accounts: Sequence[Account], settings: Settings) -> dict[str, object]:
    everyone: str | None = None
    own: dict[str, object] = dict(settings.killswitch.accounts)
    for pair in pairs:
        name, colon, limits = pair.rpartition(":")
        if not (colon and name and "," in limits):
            raise NotUnderstood(f"{pair!r} is not like work:5,10: {USAGE}")
        if name == ALL:
            everyone, own = limits, {}
        elif name.lower() == MAIN:
            for account in accounts[:1]:
                _forget(own, account)
            own[MAIN] = limits
        else:
            account = resolve(accounts, name)
            _forget(own, account)
            own[account.label or account.account_id or account.id] = limits
    found: dict[str, object] = {"killswitch.accounts": own or None}
    return found if everyone is None else found | {"killswitch.main": everyone}


def _forget(own: dict[str, object], account: Account) -> None:
    for name in (account.id, account.label, account.account_id):
        own.pop(name or "", None)


def keep_threshold(before: Iterable[Account], after: Account, settings: Settings) -> None:
    """Writes an account's threshold down under its new label, if it has got another one; `before` are all accounts
    as they were. Raises SettingsError.
    """
    own = dict(settings.killswitch.accounts)
    old = next((each.label for each in before if each.id == after.id), None)
    if old is None or old not in own or after.label is None or after.label == old:
        return
    own[after.label] = own.pop(old)
    write_settings(paths.settings_file(), {"killswitch.accounts": own})


def rows(
    switch: Killswitch, accounts: Sequence[Account], quotas: Mapping[str, Quota], now: float
) -> list[tuple[str, str, str, str]]:
    """One row an account: name, threshold of short windows, of long ones, and how it stands."""
    found = []
    for account in accounts:
        keep = switch.thresholds(account)
        found.append(
            (account.name, f"{keep.short:g}%", f"{keep.long:g}%", _state(switch, account, quotas, now))
        )
    return found


def unknown_names(switch: Killswitch, accounts: Sequence[Account]) -> list[str]:
    """Names that thresholds are set for and that no account has: renamed, removed or mistyped."""
    names = {name for account in accounts for name in (account.id, account.label, account.account_id)}
    return [name for name in switch.accounts if name not in names and name != MAIN]


def _state(switch: Killswitch, account: Account, quotas: Mapping[str, Quota], now: float) -> str:
    if account.type == "api_key":
        return "an API key has no windows"
    known = quotas.get(account.id)
    if known is None or (known.account_id and account.account_id and known.account_id != account.account_id):
        return "quota not known yet"
    broken = killswitch.violations(known, switch.thresholds(account), now)
    if not broken:
        return "serves"
    rests = "rests" if switch.enabled else "would rest"
    return f"{rests}: " + "; ".join(violation.describe(now) for violation in broken)
