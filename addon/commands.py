"""
`codex.*` commands of mitmproxy for accounts and settings; they mirror `openai-auth` of the same name.

What is known is returned at once. What changes the store goes on in the background and says its result in the log,
as an alert, which mitmproxy shows wherever its user looks; a wrong name or value is an error at once.

The rule: a command never waits for the network or the disk, but for the moment that `Logins` allows itself.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from mitmproxy.log import ALERT
from mitmproxy.types import Data

from accounts import account_views
from accounts.account_records import checked_label, resolve
from accounts.killswitch_rules import keep_threshold
from accounts.logs import log_path
from accounts.models import Account, AccountsError
from accounts.oauth import Issuer
from accounts.online import session, user_agent
from accounts.pool import AccountPool
from accounts.setting_types import LEVELS
from accounts.settings_sources import find
from accounts.settings_table import describe, shown
from accounts.sign_in import Outcome, check_label, sign_in, sign_out
from accounts.store import Store
from addon.background import Background
from addon.command_tools import codex, opened, valid, write
from addon.logins import Begun, Logins, Manner
from addon.options import Options
from addon.services import Services

logger = logging.getLogger(__name__)

HEADINGS = ["ACCOUNT", "ROLE", "PLAN", "E-MAIL", "STATE", "ID", "CHATGPT ACCOUNT ID"]


class Suggestions(list[str]):
    """Choices for completion, where others do as well.

    mitmproxy says no more than "Invalid choice." about a word that is not among the choices; we can say more.
    """

    def __contains__(self, _word: object) -> bool:
        return True


class Commands:
    """The addon."""

    def __init__(self, services: Services, options: Options) -> None:
        self._services = services
        self._options = options
        self._logins = Logins(lambda: self._options.current)
        self._background = Background()

    def done(self) -> None:
        self._logins.close()

    # What the arguments can be

    @codex("account.names")
    def names(self) -> Sequence[str]:
        """What accounts are called: main, labels, ids, ChatGPT account ids."""
        accounts = self._pool().accounts
        found = Suggestions(["main"] if accounts else [])
        for account in accounts:
            found += filter(None, (account.label, account.id, account.account_id))
        return found

    @codex("logging.levels")
    def levels(self) -> Sequence[str]:
        """How much can be logged."""
        return Suggestions(LEVELS)

    @codex("config.keys")
    def keys(self) -> Sequence[str]:
        """Names of the settings, as in the settings file."""
        return Suggestions(row.json_path for row in describe())

    # Accounts

    @codex("accounts")
    def accounts(self) -> Data:
        """Show the accounts in the order in which they are used."""
        pool = self._pool()
        rows = account_views.account_rows(list(pool.accounts), pool.quotas, pool.marks, time.time())
        cells = [
            [
                account.name,
                account.role,
                account.plan,
                account.email,
                row["state"],
                account.id,
                account.account_id,
            ]
            for account, row in zip(pool.accounts, rows, strict=True)
        ]
        return [HEADINGS, *([cell or "–" for cell in line] for line in cells)]  # type: ignore[return-value]

    @codex("login")
    def login(self, label: str = "") -> str:
        """Log in with the browser of this machine. Returns the address to open; the log says how it ended."""
        return self._log_in("browser", label)

    @codex("login.headless")
    def login_headless(self, label: str = "") -> str:
        """Log in with a code that is typed on any machine. Returns both; the log says how it ended."""
        return self._log_in("code", label)

    @codex("logout", account="codex.account.names")
    def logout(self, account: str) -> None:
        """Revoke a login at the issuer and remove the account."""
        id = self._account(account).id
        self._do(self._sign_out(id))

    @codex("remove", account="codex.account.names")
    def remove(self, account: str) -> None:
        """Delete an account and its login from this machine."""
        id = self._account(account).id

        async def act(store: Store) -> str:
            gone, promoted = await store.remove(id)
            return f"Removed {gone.name}." + (f" {promoted.name} is main now." if promoted else "")

        self._change(act)

    @codex("switch", account="codex.account.names")
    def switch(self, account: str) -> None:
        """Make an account main; it changes places with the present one."""
        id = self._account(account).id

        async def act(store: Store) -> str:
            return f"{(await store.switch(id)).name} is main now."

        self._change(act)

    @codex("order", a="codex.account.names", b="codex.account.names")
    def order(self, a: str, b: str) -> None:
        """Let two accounts change places."""
        first, second = self._account(a).id, self._account(b).id

        async def act(store: Store) -> str:
            return "Order: " + ", ".join(each.name for each in await store.order(first, second))

        self._change(act)

    @codex("rename", account="codex.account.names")
    def rename(self, account: str, name: str) -> None:
        """Give an account another label."""
        before, id = self._pool().accounts, self._account(account).id
        label = valid(lambda: checked_label(name, before, id))

        async def act(store: Store) -> str:
            after = await store.rename(id, label)
            keep_threshold(before, after, self._options.current)
            return f"Renamed: {after.name}."

        self._change(act)

    @codex("enable", account="codex.account.names")
    def enable(self, account: str) -> None:
        """Let requests use an account again."""
        self._enable(account, True)

    @codex("disable", account="codex.account.names")
    def disable(self, account: str) -> None:
        """Keep requests off an account without losing its login."""
        self._enable(account, False)

    # Settings

    @codex("config", key="codex.config.keys")
    def config(self, key: str, *value: str) -> str:
        """Show a setting, or write it to the settings file."""
        if value:
            return write(self._options, {key: " ".join(value)})[0]
        leaf = valid(lambda: find(key))
        return f"{leaf.path} = {shown(leaf.value(self._options.current))}"

    @codex("logging", level="codex.logging.levels")
    def logging(self, level: str = "") -> str:
        """Show or change how much is logged."""
        if level:
            return write(self._options, {"logging.level": level})[0]
        settings = self._options.current
        return f"{settings.logging.level}, into {log_path(settings)}"

    # How it is done

    def _pool(self) -> AccountPool:
        return opened(lambda: self._services.pool)

    def _account(self, name: str) -> Account:
        return valid(lambda: resolve(self._pool().accounts, name))

    def _enable(self, name: str, enabled: bool) -> None:
        id = self._account(name).id

        async def act(store: Store) -> str:
            account = await store.enable(id, enabled)
            return f"{account.name} is {'enabled' if enabled else 'disabled'}."

        self._change(act)

    def _log_in(self, manner: Manner, label: str) -> str:
        checked = valid(lambda: check_label(label or None))
        begun = self._logins.begin(manner)
        told = valid(begun.instructions)
        self._do(self._finish(begun, checked, late=told is None))
        return told or "The login is being prepared; the log says what to do."

    async def _finish(self, begun: Begun, label: str | None, *, late: bool) -> str:
        grant = asyncio.wrap_future(begun.grant)
        if late:
            shown_late = asyncio.wrap_future(begun.shown)
            await asyncio.wait((shown_late, grant), return_when=asyncio.FIRST_COMPLETED)
            if shown_late.done():
                logger.log(ALERT, "To log in: %s", shown_late.result())
        login, store = (await grant).login(), self._services.store
        before = await store.accounts()
        outcome = await sign_in(store, login, label)
        keep_threshold(before, outcome.account, self._options.current)
        return self._told(outcome)

    async def _sign_out(self, id: str) -> str:
        settings = self._options.current
        async with session(settings) as http:
            issuer = Issuer(http, settings.issuer_url, user_agent=user_agent(settings))
            return self._told(await sign_out(self._services.store, issuer, id))

    @staticmethod
    def _told(outcome: Outcome) -> str:
        if outcome.warning:
            logger.warning("%s", outcome.warning)
        return outcome.brief

    def _change(self, act: Callable[[Store], Awaitable[str]]) -> None:
        async def run() -> str:
            return await act(self._services.store)

        self._do(run())

    def _do(self, work: Coroutine[Any, Any, str]) -> None:
        """Runs `work`, says its result in the log, and lets the proxy see the change at once."""

        async def run() -> None:
            try:
                text = await work
                await self._services.pool.reload()
            except AccountsError as error:
                logger.error("%s", error)
            else:
                logger.log(ALERT, "%s", text)

        self._background.start(run())
