"""
`codex.*` commands of mitmproxy about quota and policy; they mirror `openai-auth` of the same name.

What is known is returned at once, from this proxy's own view. What has to ask the backend or the store goes on in
the background and says its result in the log.

The rule: nothing is spent without the ChatGPT account id that the listing showed for it.
"""

import io
import logging
import time
from collections.abc import Sequence

from mitmproxy.exceptions import CommandError
from rich.console import Console

from accounts import conversations, explanation, killswitch_rules, quota_table, reset_views
from accounts.account_records import resolve
from accounts.models import Account, AccountsError
from accounts.pool import AccountPool
from accounts.quota_table import QuotaView
from accounts.routing import Mode, Policy
from accounts.setting_types import MODES
from addon.command_tools import codex, opened, valid, write
from addon.options import Options
from addon.quota_service import QuotaService
from addon.services import Services

logger = logging.getLogger(__name__)

WIDTH = 160


class PolicyCommands:
    """The addon."""

    def __init__(self, services: Services, options: Options) -> None:
        self._services = services
        self._options = options

    @codex("quota")
    def quota(self) -> Sequence[str]:
        """Show what every account has left, and ask the backend for it; the newer table comes in the log."""
        self._quota().in_background(self._poll())
        return self._table({})

    @codex("routing")
    def routing(self, *words: str) -> Sequence[str]:
        """Show or set the routing mode, or forget which account serves a conversation: `reset [SESSION]`."""
        pool = self._pool()
        match words:
            case []:
                accounts = {account.id: account.name for account in pool.accounts}
                pins = sorted(pool.pins.items(), key=lambda item: -item[1].last_seen_at)
                mode = Mode(self._options.current.routing.mode)
                shown = conversations.SHOWN
                return [
                    explanation.mode_line(mode),
                    *(f"{key[:shown]}  {accounts.get(pin.account, '–')}" for key, pin in pins),
                ]
            case [mode] if mode in MODES:
                told = write(self._options, {"routing.mode": mode})
                return [explanation.mode_line(Mode(self._options.current.routing.mode)), *told]
            case ["reset"]:
                self._quota().in_background(self._forget(None))
                return ["Every conversation is placed anew at its next request."]
            case ["reset", name]:
                session = self._session(name)
                self._quota().in_background(self._forget(session))
                return [f"{session[: conversations.SHOWN]} is placed anew at its next request."]
        raise CommandError(f"give one of {', '.join(MODES)}, or `reset` and a session")

    @codex("explain")
    def explain(self, session: str = "", model: str = "") -> Sequence[str]:
        """Say who would serve a request now, and why: of a new conversation, or of SESSION."""
        pool = self._pool()
        key = self._session(session) if session else None
        decision = pool.decide(explanation.request(key, model or None, pool.pins, pool.inflight))
        mode = Mode(self._options.current.routing.mode)
        return [explanation.mode_line(mode), *explanation.lines(decision, time.time())]

    @codex("killswitch")
    def killswitch(self, *words: str) -> Sequence[str]:
        """Show or change what an account must have left: `on`, `off`, `set ACCOUNT:5H,1W …` (or `all:5H,1W`)."""
        pool, settings = self._pool(), self._options.current
        if words:
            return write(
                self._options, valid(lambda: killswitch_rules.changes(words, pool.accounts, settings))
            )
        switch = Policy.from_settings(settings).killswitch
        rows = killswitch_rules.rows(switch, pool.accounts, pool.quotas, time.time())
        return [f"Killswitch: {'on' if switch.enabled else 'off'}", *("  ".join(row) for row in rows)]

    @codex("reset")
    def reset(self, account: str = "", chatgpt_account_id: str = "") -> None:
        """List reset credits, or spend one: the ChatGPT account id that codex.accounts shows confirms it."""
        quota, pool = self._quota(), self._pool()
        chosen = [valid(lambda: resolve(pool.accounts, account))] if account else list(pool.accounts)
        if account and chatgpt_account_id:
            quota.in_background(self._spend(chosen[0], chatgpt_account_id))
            return
        for each in chosen:
            if each.type == "oauth":
                quota.in_background(self._offer(each))

    # Methods, not properties: mitmproxy looks at every attribute of an addon when it loads it.

    def _quota(self) -> QuotaService:
        return opened(lambda: self._services.quota)

    def _pool(self) -> AccountPool:
        return self._quota().pool

    async def _poll(self) -> None:
        results = await self._quota().poll()
        errors = {result.account.id: str(result.error) for result in results if result.error}
        logger.info("Quota:\n%s", "\n".join(self._table(errors)))

    async def _forget(self, session: str | None) -> None:
        try:
            await self._quota().unpin(session)
        except AccountsError as error:
            logger.error("%s", error)

    async def _offer(self, account: Account) -> None:
        quota, now = self._quota(), time.time()
        try:
            record = await quota.records.load(account.account_id or "")
            if record and record.attempt:
                text = reset_views.repetition(account, record.attempt, now)
            else:
                found = await quota.eligibility(account)
                if found.credit is None or found.obstacle:
                    logger.info("%s: %s.", account.name, found.obstacle)
                    return
                text = reset_views.offer(found, now)
        except AccountsError as error:
            logger.error("%s: %s", account.name, error)
            return
        # The ChatGPT account id is blotted out of every log; `codex.accounts` shows it.
        logger.info(
            "%s To do it: codex.reset %s and the ChatGPT account id from codex.accounts.", text, account.id
        )

    async def _spend(self, account: Account, confirmed_id: str) -> None:
        quota, now = self._quota(), time.time()
        try:
            record = await quota.records.load(confirmed_id)
            attempt = record.attempt if record else None
            again = attempt is not None and reset_views.is_old(attempt, now)
            logger.info(
                "%s", reset_views.told(account, await quota.redeem(account, confirmed_id, retry=again))
            )
        except AccountsError as error:
            logger.error("%s", error)

    def _table(self, errors: dict[str, str]) -> list[str]:
        pool, now = self._pool(), time.time()
        console = Console(file=io.StringIO(), width=WIDTH, color_system=None)
        with console.capture() as drawn:
            console.print(quota_table.table(QuotaView(pool.accounts, pool.quotas, pool.marks, errors), now))
        return [line.rstrip() for line in drawn.get().splitlines()]

    def _session(self, name: str) -> str:
        return valid(lambda: conversations.among(name, self._pool().pins, {}))
