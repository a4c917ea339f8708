"""Days of traffic in seconds: how the routing modes do on accounts whose quota moves.

`python -m tests.simulation` (or `make simulate`) prints a Markdown table. The decisions are those of the real
`AccountPool`; quota, limits and prompt cache are the fake backend's, used directly and on its own clock. Nothing
here sleeps or opens a socket, and one seed always gives one result.

The traffic: several conversations run at once on each account's worth of quota. Each sends its whole history with
every request, pauses, and sometimes pauses for longer than the prompt cache lives. A request costs quota by its
tokens, cached ones a tenth of the others; so a conversation that moves pays for its prefix again. A refused client
waits as long as it was told and asks again.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import itertools
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, cast

from accounts import quota
from accounts.models import Account, Mark
from accounts.pool import AccountPool
from accounts.routing import DEFAULT_RETRY_AFTER, Candidate, Mode, Policy, Request
from accounts.store import Store
from accounts.tokens import Tokens
from tests.codex_fake.accounts import FIVE_HOURS, WEEK, FakeAccount
from tests.codex_fake.cache import PromptCache
from tests.codex_fake.clock import Clock
from tests.codex_fake.issuer import Issuer
from tests.memory_store import EndlessTokens, MemoryStore

START = 1_781_600_000.0
MODEL = "gpt-5.5"
CONVERSATIONS = 4
"""That run at once, for each account."""
TURNS = (8, 40)
ITEM_BYTES = (200, 2400)
THINKING = 45.0
BREAK_EVERY, BREAK = 20, (400.0, 1800.0)
"""One pause in BREAK_EVERY is a break, longer than the cache lives (seconds)."""
ANSWERING = (5.0, 60.0)
CACHED_COST = 0.1
SHORT_CAPACITY, LONG_CAPACITY = 700_000.0, 6_000_000.0
"""Full-price tokens in five hours and in a week: what the traffic needs, if its prefixes stay cached, and a little
more."""
POLL_EVERY = 300.0


@dataclass
class Result:
    """What came of it."""

    requests: int = 0
    refused: int = 0
    in_vain: int = 0
    """Refused while an account would have served."""
    hidden: int = 0
    """Limits that an account answered with and another account made up for."""
    conversations: int = 0
    switches: int = 0
    cached_tokens: int = 0
    input_tokens: int = 0
    served_by: dict[str, int] = field(default_factory=dict)

    @property
    def switches_each(self) -> float:
        return self.switches / max(1, self.conversations)

    @property
    def cached_share(self) -> float:
        return self.cached_tokens / max(1, self.input_tokens)


@dataclass
class Conversation:
    """Grows by a question and an answer with each turn."""

    session: str
    turns: int
    items: list[dict[str, Any]] = field(default_factory=list)
    account: str | None = None

    def body(self) -> dict[str, Any]:
        return {"model": MODEL, "instructions": "Be brief.", "tools": [], "input": self.items}

    @property
    def size(self) -> int:
        return sum(len(item["content"]) for item in self.items)


class Simulation:
    """One run: `accounts` accounts under one policy."""

    def __init__(self, accounts: int, policy: Policy, seed: int = 1) -> None:
        self.random = random.Random(seed)
        self.clock = Clock()
        self.clock.stop(START)
        self.cache = PromptCache()
        self.result = Result()
        issuer = Issuer(self.clock, {})
        self.fakes: dict[str, FakeAccount] = {}
        known = []
        for number in range(accounts):
            id = f"account-{number:02}"
            known.append(Account(id, None if number == 0 else id, "oauth", id, position=number))
            self.fakes[id] = FakeAccount(issuer, id, "plus", None, id)
            self._begin_somewhere(self.fakes[id])
        self.pool = AccountPool(
            cast("Store", MemoryStore(known)),
            cast("Tokens", EndlessTokens()),
            lambda: policy,
            self.clock.now,
        )
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._names = itertools.count()

    async def run(self, requests: int) -> Result:
        """Runs until so many requests were made, refused ones included."""
        await self.pool.reload()
        self._poll()
        for _ in range(CONVERSATIONS * len(self.fakes)):
            self._after(self.random.uniform(0, 2 * THINKING), self._new_conversation)
        while self.result.requests < requests:
            at, _, happen = heapq.heappop(self._events)
            self.clock.advance(at - self.clock.now())
            happen()
        self.result.cached_tokens, self.result.input_tokens = (
            self.cache.cached_tokens,
            self.cache.input_tokens,
        )
        return self.result

    def _begin_somewhere(self, fake: FakeAccount) -> None:
        """Some of the quota is used already, and the windows end at different times."""
        now = self.clock.now()
        fake.set_quota(
            (self.random.uniform(0, 80), FIVE_HOURS, now + self.random.uniform(600, FIVE_HOURS * 60)),
            (self.random.uniform(0, 80), WEEK, now + self.random.uniform(3600, WEEK * 60)),
        )
        fake.meter(0.0)

    def _after(self, seconds: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.clock.now() + seconds, next(self._order), happen))

    def _poll(self) -> None:
        """The background poll of idle accounts."""
        now = self.clock.now()
        for account in self.pool.accounts:
            seen = self.pool.quotas.get(account.id)
            if seen is None or now - seen.seen_at >= 0.8 * POLL_EVERY:
                fake = self.fakes[account.id]
                answer = fake.quota.usage(now, reached=fake.limited() is not None)
                self.pool.saw_quota(account, quota.from_usage(answer, now=now, account_id=account.id))
        self._after(POLL_EVERY, self._poll)

    def _new_conversation(self) -> None:
        self.result.conversations += 1
        conversation = Conversation(f"session-{next(self._names)}", self.random.randint(*TURNS))
        self._say(conversation, "user")
        self._request(conversation)

    def _say(self, conversation: Conversation, role: str) -> None:
        text = f"{len(conversation.items)} {conversation.session} ".ljust(
            self.random.randint(*ITEM_BYTES), "x"
        )
        conversation.items.append({"role": role, "content": text})

    def _request(self, conversation: Conversation) -> None:
        """One request, as the dispatcher handles it: account after account, until one serves."""
        self.result.requests += 1
        hidden = 0
        tried: set[str] = set()
        while True:
            decision = self.pool.decide(
                Request(conversation.session, conversation.size, MODEL, tried, self.pool.inflight)
            )
            if not decision.candidates:
                self._refused(conversation, decision.retry_at)
                return
            candidate = decision.candidates[0]
            if self._limited(candidate.account):
                tried.add(candidate.account.id)
                hidden += 1
                continue
            self.result.hidden += hidden
            self._serve(conversation, candidate)
            return

    def _limited(self, account: Account) -> bool:
        """The account's headers are seen with every answer; a limit marks it until its own reset."""
        fake, now = self.fakes[account.id], self.clock.now()
        limit = fake.limited()
        numbers = quota.from_headers(fake.quota.headers(now), now=now, account_id=account.id)
        if numbers:
            self.pool.saw_quota(account, numbers)
        if limit is not None:
            until = quota.mark_until(now, reset=limit.until, label=None, windows=())
            self.pool.mark(account, Mark(until, "usage_limit_reached", now))
        return limit is not None

    def _serve(self, conversation: Conversation, candidate: Candidate) -> None:
        account, now = candidate.account, self.clock.now()
        if conversation.account not in (None, account.id):
            self.result.switches += 1
        conversation.account = account.id
        self.result.served_by[account.id] = self.result.served_by.get(account.id, 0) + 1
        asked, cached = self.cache.usage(account.id, conversation.session, conversation.body(), now)
        running = ExitStack()
        running.enter_context(self.pool.running(account, conversation.size))
        self.pool.served(account, conversation.session, candidate.pin)
        cost = asked - cached + CACHED_COST * cached
        self._after(
            self.random.uniform(*ANSWERING), lambda: self._answered(conversation, account, running, cost)
        )

    def _answered(
        self, conversation: Conversation, account: Account, running: ExitStack, cost: float
    ) -> None:
        fake = self.fakes[account.id]
        fake.meter(100 * cost / SHORT_CAPACITY, 100 * cost / LONG_CAPACITY)
        fake.charge()
        running.close()
        pin = self.pool.pins.get(conversation.session)
        if pin is not None and pin.account == account.id:
            self.pool.served(account, conversation.session, replace(pin, last_seen_at=self.clock.now()))
        self._say(conversation, "assistant")
        conversation.turns -= 1
        pause = self.random.expovariate(1 / THINKING)
        if self.random.randrange(BREAK_EVERY) == 0:
            pause = self.random.uniform(*BREAK)
        if conversation.turns == 0:
            self._after(pause, self._new_conversation)
        else:
            self._after(pause, lambda: self._next_turn(conversation))

    def _next_turn(self, conversation: Conversation) -> None:
        self._say(conversation, "user")
        self._request(conversation)

    def _refused(self, conversation: Conversation, until: float | None) -> None:
        now = self.clock.now()
        self.result.refused += 1
        self.result.in_vain += any(fake.limited() is None for fake in self.fakes.values())
        wait = DEFAULT_RETRY_AFTER if until is None else max(1, math.ceil(until - now))
        self._after(wait, lambda: self._request(conversation))


POLICIES = {
    "main-first": Policy(Mode.MAIN_FIRST),
    "main-first, keepConversation off": Policy(Mode.MAIN_FIRST, keep_conversation=False),
    "fallback-first": Policy(Mode.FALLBACK_FIRST),
    "sticky-balanced": Policy(Mode.STICKY_BALANCED),
}


def simulate(accounts: int, policy: Policy, requests: int, seed: int = 1) -> Result:
    return asyncio.run(Simulation(accounts, policy, seed).run(requests))


def table(requests: int, accounts: list[int], seed: int) -> Iterator[str]:
    """The Markdown table, line by line as the runs end."""
    yield (
        "| Accounts | Mode | Refused | of them though an account had quota | Limits hidden from the client "
        "| Account switches per conversation | Cached tokens |"
    )
    yield "| ---: | --- | ---: | ---: | ---: | ---: | ---: |"
    for count in accounts:
        for name, policy in POLICIES.items():
            found = simulate(count, policy, requests, seed)
            yield (
                f"| {count} | {name} | {found.refused} | {found.in_vain} | {found.hidden} "
                f"| {found.switches_each:.2f} | {found.cached_share:.1%} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--accounts", type=int, nargs="+", default=[1, 3, 20])
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    for line in table(options.requests, options.accounts, options.seed):
        print(line, flush=True)
    print(
        f"\n{options.requests} requests a row, seed {options.seed}, {time.monotonic() - began:.0f} s in all."
    )


if __name__ == "__main__":
    main()
