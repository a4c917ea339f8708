"""The pool: a view in memory that never waits for the database, and keeps up with other processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from accounts import routing
from accounts.models import (
    Account,
    Login,
    LoginRequired,
    Mark,
    NoSuchAccount,
    Quota,
    Secret,
    StoreUnavailable,
    Window,
)
from accounts.pool import AccountPool
from accounts.quota_records import Observations
from accounts.store import Store
from accounts.tokens import Tokens
from tests.rotating_issuer import LIFE, START, RotatingIssuer, jwt
from tests.store_bench import pin

MINUTE = 60.0


@dataclass
class Bench:
    """A pool that is ticked by hand, and a store that stands for another process."""

    store: Store
    other: Store
    issuer: RotatingIssuer
    pool: AccountPool
    now: float = START
    policy: routing.Policy = field(default_factory=routing.Policy)

    def clock(self) -> float:
        return self.now

    @property
    def main(self) -> Account:
        return self.pool.accounts[0]

    @property
    def work(self) -> Account:
        return self.pool.accounts[1]

    def names(self, session: str | None = None) -> list[str]:
        decision = self.pool.decide(routing.Request(session=session, body_bytes=100))
        return [candidate.account.name for candidate in decision.candidates]


def login(account: str, expires_at: float = START + LIFE) -> Login:
    return Login("oauth", Secret(jwt(account, expires_at)), Secret(f"rt|{account}|0"), expires_at, account)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with (
        RotatingIssuer() as issuer,
        await Store.open(tmp_path, keyring=False) as store,
        await Store.open(tmp_path, keyring=False) as other,
    ):
        bench = Bench(store, other, issuer, None)  # type: ignore[arg-type]
        store.clock = other.clock = bench.clock
        tokens = Tokens(store, issuer.client, bench.clock)
        bench.pool = AccountPool(store, tokens, lambda: bench.policy, bench.clock)
        await other.add(login("acc-main"))
        await other.add(login("acc-work"), "work")
        await bench.pool.tick()
        yield bench
        await bench.pool.close()


def quota(account: str, used: float, minutes: int = 300, at: float = START, limit: str = "codex") -> Quota:
    return Quota(account, (Window(minutes, used, at + 3600, at, "headers", limit),), seen_at=at)


# The view


async def test_decisions_are_routings(bench: Bench) -> None:
    assert bench.names() == ["main", "work"]


async def test_a_changed_policy_counts_at_the_next_decision(bench: Bench) -> None:
    bench.policy = routing.Policy(mode=routing.Mode.FALLBACK_FIRST)
    assert bench.names() == ["work", "main"]


async def test_another_processs_changes_are_seen_at_the_next_tick(bench: Bench) -> None:
    await bench.other.switch("work")
    limit = Mark(START + 60, "limit", START)
    await bench.other.observe(
        Observations({bench.work.id: quota("acc-work", 7)}, {(bench.main.id, "codex"): limit})
    )
    assert [each.name for each in bench.pool.accounts] == ["main", "work"]
    await bench.pool.tick()
    assert [each.account_id for each in bench.pool.accounts] == ["acc-work", "acc-main"]
    assert list(bench.pool.marks.values()) == [limit]
    assert [each.windows[0].used_percent for each in bench.pool.quotas.values()] == [7]


async def test_ids_addresses_tokens_and_keys_are_known_as_secrets(bench: Bench) -> None:
    await bench.other.add(Login("api_key", Secret("a key without a form")))
    await bench.pool.tick()
    tokens = {(await bench.pool.access(account)).token.reveal() for account in bench.pool.accounts}
    assert "a key without a form" in tokens
    assert bench.pool.secrets() >= tokens | {"acc-main", "acc-work", "rt|acc-main|0"}


async def test_a_tick_without_changes_reads_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.pool.tick()
    monkeypatch.setattr(bench.store, "accounts", None)
    await bench.pool.tick()


async def test_the_started_pool_keeps_itself_current(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ticked = asyncio.Event()
    tick = bench.pool.tick

    async def observed() -> None:
        await tick()
        ticked.set()

    monkeypatch.setattr(bench.pool, "tick", observed)
    monkeypatch.setattr("accounts.pool.TICK", 0.001)
    await bench.pool.start()
    await bench.other.rename("work", "office")
    while bench.work.name != "office":
        ticked.clear()
        await ticked.wait()
    await bench.pool.close()


async def test_trouble_with_the_store_does_not_end_the_pool(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    version, failures = bench.store.version, 5
    recovered = asyncio.Event()

    async def failing() -> int:
        nonlocal failures
        if failures:
            failures -= 1
            raise StoreUnavailable("state.db cannot be used")
        recovered.set()
        return await version()

    monkeypatch.setattr("accounts.pool.TICK", 0.001)
    await bench.pool.start()
    monkeypatch.setattr(bench.store, "version", failing)
    async with asyncio.timeout(20):
        await recovered.wait()
    assert caplog.text.count("state.db cannot be used") == 1


# Notes


async def test_quota_counts_at_once_and_is_written_behind(bench: Bench) -> None:
    bench.pool.saw_quota(bench.main, quota("acc-main", 100))
    assert bench.names() == ["work"]
    assert await bench.other.quotas() == {}
    await bench.pool.tick()
    assert await bench.other.quotas() == dict(bench.pool.quotas)
    bench.now += 3601
    assert bench.names() == ["main", "work"]


async def test_notes_of_one_account_are_written_together(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Observations] = []
    observe = bench.store.observe

    async def counted(seen: Observations) -> None:
        written.append(seen)
        await observe(seen)

    monkeypatch.setattr(bench.store, "observe", counted)
    for number in range(100):
        bench.pool.saw_quota(bench.main, quota("acc-main", number / 2, at=START + number))
        bench.pool.saw_quota(bench.main, quota("acc-main", 3, 10_080, at=START + number))
        bench.pool.served(bench.main)
    bench.now += 100
    await bench.pool.tick()
    await bench.pool.tick()
    assert len(written) == 1
    stored = (await bench.other.quotas())[bench.main.id]
    assert {window.minutes: window.used_percent for window in stored.windows} == {300: 49.5, 10_080: 3}
    assert (await bench.other.accounts())[0].last_used_at == START


async def test_numbers_of_another_chatgpt_account_are_dropped(bench: Bench) -> None:
    bench.pool.saw_quota(bench.main, quota("acc-work", 100))
    assert bench.pool.quotas == {}


async def test_a_mark_keeps_an_account_out_until_its_end(bench: Bench) -> None:
    bench.pool.mark(bench.main, Mark(START + 60, "limit", START))
    assert bench.names() == ["work"]
    bench.now += 60
    assert bench.names() == ["main", "work"]


async def test_an_existing_mark_that_ends_later_stays(bench: Bench) -> None:
    bench.pool.mark(bench.main, Mark(START + 60, "long", START))
    bench.pool.mark(bench.main, Mark(START + 30, "short", START))
    assert [each.reason for each in bench.pool.marks.values()] == ["long"]
    bench.pool.mark(bench.main, Mark(START + 90, "longer", START))
    assert [each.reason for each in bench.pool.marks.values()] == ["longer"]


async def test_later_numbers_with_room_in_every_window_disprove_a_mark_for_every_process(
    bench: Bench,
) -> None:
    bench.pool.saw_quota(bench.main, quota("acc-main", 99))
    bench.pool.mark(bench.main, Mark(START + 600, "limit", START))
    bench.pool.saw_quota(bench.main, Quota("acc-main", seen_at=START + 1))
    assert bench.names() == ["work"]
    bench.pool.saw_quota(bench.main, quota("acc-main", 99, at=START + 1))
    assert bench.names() == ["main", "work"]
    await bench.pool.tick()
    another = AccountPool(bench.other, Tokens(bench.other, bench.issuer.client), routing.Policy, bench.clock)
    await another.reload()
    assert [each.account.name for each in another.decide(routing.Request()).candidates] == ["main", "work"]


async def test_a_mark_that_is_written_after_it_was_disproved_keeps_nobody_out(bench: Bench) -> None:
    bench.pool.mark(bench.main, Mark(START + 600, "limit", START))
    await bench.other.observe(Observations({bench.main.id: quota("acc-main", 0, at=START + 0.1)}))
    await bench.other.clear_mark(bench.main.id)  # as `openai-auth reset main` does, beside the proxy
    await bench.pool.tick()
    assert bench.names() == ["main", "work"]


async def test_a_new_refusal_counts_though_a_disproved_one_ends_later(bench: Bench) -> None:
    bench.pool.mark(bench.main, Mark(START + 600, "limit", START))
    await bench.pool.tick()
    bench.pool.saw_quota(bench.main, quota("acc-main", 0, at=START + 1))
    await bench.other.observe(
        Observations(marks={(bench.main.id, "codex"): Mark(START + 62, "new", START + 2)})
    )  # before the numbers that disproved the old one are written
    await bench.pool.tick()
    assert bench.names() == ["work"]
    bench.now = START + 62
    assert bench.names() == ["main", "work"]


async def test_a_limit_of_one_model_keeps_no_other_from_the_account(bench: Bench) -> None:
    bench.pool.saw_quota(bench.main, quota("acc-main", 20))
    bench.pool.saw_quota(bench.main, quota("acc-main", 100, limit="codex_spark"))
    bench.pool.mark(bench.main, Mark(START + 600, "limit", START, "codex-spark"))

    def first(model: str) -> str:
        return bench.pool.decide(routing.Request(model=model)).candidates[0].account.name

    assert (first("gpt-5.5"), first("codex-spark")) == ("main", "work")
    await bench.pool.tick()
    bench.pool.saw_quota(bench.main, quota("acc-main", 21, at=START + 1))
    assert (first("gpt-5.5"), first("codex-spark")) == ("main", "work")
    bench.pool.saw_quota(bench.main, quota("acc-main", 0, at=START + 1, limit="codex_spark"))
    assert first("codex-spark") == "main"


async def test_what_was_stamped_by_a_clock_ahead_gives_way(bench: Bench) -> None:
    bench.now += 86_400
    bench.pool.saw_quota(bench.main, quota("acc-main", 100, at=bench.now))
    bench.pool.mark(bench.main, Mark(bench.now + 600, "limit", bench.now))
    bench.pool.served(bench.work, "s", pin(bench.work.id, bench.now))
    await bench.pool.tick()
    bench.now -= 86_400
    assert "work" in bench.names()
    bench.pool.saw_quota(bench.main, quota("acc-main", 3, at=START))
    bench.pool.served(bench.main, "s", pin(bench.main.id, START))
    await bench.pool.tick()
    assert bench.names("s") == ["main", "work"]
    assert bench.pool.pins["s"].account == bench.main.id
    assert [each.used_percent for each in bench.pool.quotas[bench.main.id].windows] == [3]


async def test_pending_notes_stay_on_top_of_what_others_changed(bench: Bench) -> None:
    bench.pool.saw_quota(bench.main, quota("acc-main", 90, at=START + 5))
    bench.pool.mark(bench.main, Mark(START + 600, "ours", START))
    bench.pool.served(bench.main, "session", pin(bench.main.id, START))
    theirs = Mark(START + 60, "theirs", START)
    await bench.other.observe(
        Observations({bench.main.id: quota("acc-main", 10)}, {(bench.main.id, "codex"): theirs})
    )
    await bench.pool.reload()
    assert [each.reason for each in bench.pool.marks.values()] == ["ours"]
    assert bench.pool.quotas[bench.main.id].windows[0].used_percent == 90
    assert "session" in bench.pool.pins


async def test_what_could_not_be_written_stays_pending(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    observe, main = bench.store.observe, bench.main

    async def failing(_: Observations) -> None:
        bench.pool.saw_quota(main, quota("acc-main", 100, at=START + 9))  # while the write is on its way
        raise StoreUnavailable("the disk is full")

    bench.pool.saw_quota(main, quota("acc-main", 50))
    bench.pool.mark(main, Mark(START + 60, "limit", START))
    with monkeypatch.context() as patched:
        patched.setattr(bench.store, "observe", failing)
        with pytest.raises(StoreUnavailable):
            await bench.pool.flush()
    assert bench.store.observe == observe
    await bench.pool.flush()
    assert (await bench.other.quotas())[main.id].windows[0].used_percent == 100
    assert (main.id, "codex") in await bench.other.marks()


async def test_closing_writes_what_is_pending(bench: Bench) -> None:
    bench.pool.saw_quota(bench.main, quota("acc-main", 50))
    await bench.pool.close()
    assert len(await bench.other.quotas()) == 1


async def test_notes_about_a_removed_account_do_no_harm(bench: Bench) -> None:
    main, work = bench.main, bench.work
    await bench.other.remove("work")
    bench.pool.saw_quota(work, quota("acc-work", 50))
    bench.pool.mark(work, Mark(START + 60, "limit", START))
    bench.pool.served(work, "session", pin(work.id, START))
    bench.pool.saw_quota(main, quota("acc-main", 50))
    await bench.pool.tick()
    assert list(await bench.other.quotas()) == [main.id]
    assert [each.name for each in bench.pool.accounts] == ["main"]


# Conversations and running requests


async def test_a_conversation_stays_where_it_was_served_also_after_a_restart(bench: Bench) -> None:
    bench.pool.mark(bench.main, Mark(START + 60, "limit", START))
    decision = bench.pool.decide(routing.Request(session="s", body_bytes=100))
    candidate = decision.candidates[0]
    bench.pool.served(candidate.account, "s", candidate.pin)
    bench.now += 61
    assert bench.names("s") == ["work", "main"]
    assert bench.names("another") == ["main", "work"]
    await bench.pool.close()
    bench.pool = AccountPool(
        bench.store, Tokens(bench.store, bench.issuer.client), lambda: bench.policy, bench.clock
    )
    await bench.pool.tick()
    assert bench.names("s") == ["work", "main"]
    await bench.other.unpin("s")
    await bench.pool.tick()
    assert bench.names("s") == ["main", "work"]


async def test_a_forgotten_conversation_is_not_brought_back_by_what_is_still_to_be_written(
    bench: Bench,
) -> None:
    def serve(chosen: routing.Candidate) -> None:
        bench.pool.served(chosen.account, "s", chosen.pin)

    def choose() -> routing.Candidate:
        bench.now += 1
        return bench.pool.decide(routing.Request(session="s")).candidates[0]

    serve(choose())
    serve(choose())
    await bench.pool.tick()
    assert "s" in await bench.other.pins()
    serve(choose())
    running = choose()
    assert await bench.other.unpin("s") == 1
    await bench.pool.tick()
    assert bench.pool.pins == {}
    serve(running)
    await bench.pool.tick()
    assert bench.pool.pins == await bench.other.pins() == {}


async def test_a_conversation_goes_on_while_its_first_note_could_not_be_written(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(_: Observations) -> None:
        bench.pool.served(bench.main, "s", pin(bench.main.id, START + 1))
        raise StoreUnavailable("the disk is full")

    bench.pool.served(bench.main, "s", pin(bench.main.id, START))
    with monkeypatch.context() as patched:
        patched.setattr(bench.store, "observe", failing)
        with pytest.raises(StoreUnavailable):
            await bench.pool.flush()
    await bench.pool.flush()
    assert (await bench.other.pins())["s"].last_seen_at == START + 1


async def test_running_requests_are_counted_in_bytes(bench: Bench) -> None:
    with bench.pool.running(bench.main, 100), bench.pool.running(bench.work, 5):
        with bench.pool.running(bench.main, 10):
            assert bench.pool.inflight == {bench.main.id: 110, bench.work.id: 5}
        assert bench.pool.inflight[bench.main.id] == 100
    assert bench.pool.inflight == {}


# Tokens


async def test_tokens_come_from_the_issuer(bench: Bench) -> None:
    access = await bench.pool.access(bench.main)
    renewed = await bench.pool.renew(bench.main, access)
    assert renewed.token != access.token
    assert (await bench.other.credentials(bench.main.id)).access == renewed.token


async def test_a_dead_login_is_skipped_from_then_on(bench: Bench) -> None:
    bench.issuer.failures = [(401, {"error": {"code": "refresh_token_reused"}}, {})]
    with pytest.raises(LoginRequired):
        await bench.pool.renew(bench.main, await bench.pool.access(bench.main))
    assert bench.names() == ["work"]
    await bench.pool.tick()
    assert bench.names() == ["work"]
    await bench.other.add(login("acc-main"))
    await bench.pool.tick()
    assert bench.names() == ["main", "work"]


async def test_a_removed_account_is_skipped_from_then_on(bench: Bench) -> None:
    main = bench.main
    await bench.other.remove("main")
    with pytest.raises(NoSuchAccount):
        await bench.pool.access(main)
    assert [each.account_id for each in bench.pool.accounts] == ["acc-work"]


async def test_fallbacks_are_refreshed_four_hours_ahead_and_main_is_not(bench: Bench) -> None:
    for account in ("acc-main", "acc-work"):
        await bench.other.add(login(account, START + 240 * MINUTE + 1))
    await bench.pool.tick()
    await bench.pool.refresh_ahead()
    assert bench.issuer.requests == []
    bench.now += 2 * MINUTE
    await bench.pool.refresh_ahead()
    assert [each["refresh_token"] for each in bench.issuer.requests] == ["rt|acc-work|0"]
    bench.now += 2 * MINUTE
    await bench.pool.refresh_ahead()
    assert len(bench.issuer.requests) == 1


async def test_how_long_ahead_is_asked_each_time_and_may_be_never(bench: Bench) -> None:
    ahead: list[float | None] = [None, 10 * MINUTE, 11 * MINUTE]
    bench.pool._ahead = lambda: ahead[0]
    await bench.other.add(login("acc-work", START + 15 * MINUTE))
    await bench.pool.tick()
    for asked in (0, 0, 1):
        await bench.pool.refresh_ahead()
        assert len(bench.issuer.requests) == asked
        bench.now += 2 * MINUTE
        ahead.pop(0)


async def test_passes_are_a_minute_apart_at_least(bench: Bench) -> None:
    await bench.pool.refresh_ahead()
    await bench.other.add(login("acc-work", START))
    await bench.pool.tick()
    bench.now += 59
    await bench.pool.refresh_ahead()
    assert bench.issuer.requests == []


async def test_one_failing_fallback_does_not_stop_the_others(bench: Bench) -> None:
    await bench.other.add(login("acc-work", START - 1))
    await bench.other.add(login("acc-play", START - 1))
    await bench.pool.tick()
    bench.issuer.failures = [(500, {}, {})]
    await bench.pool.refresh_ahead()
    assert len(bench.issuer.requests) == 2
    assert (await bench.other.credentials(bench.pool.accounts[2].id)).refresh == Secret("rt|acc-play|1")


async def test_disabled_fallbacks_and_dead_logins_are_left_alone(bench: Bench) -> None:
    await bench.other.add(login("acc-work", START - 1))
    await bench.other.enable("work", False)
    await bench.pool.tick()
    await bench.pool.refresh_ahead()
    assert bench.issuer.requests == []


async def test_closing_lets_a_refresh_end(bench: Bench) -> None:
    bench.issuer.gate.clear()
    access = await bench.pool.access(bench.main)
    caller = asyncio.ensure_future(bench.pool.renew(bench.main, access))
    await bench.issuer.asked.wait()
    caller.cancel()
    closing = asyncio.ensure_future(bench.pool.close())
    bench.issuer.gate.set()
    await closing
    assert (await bench.other.credentials(bench.main.id)).refresh == Secret("rt|acc-main|1")


async def test_the_hot_path_does_not_touch_the_database(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await bench.pool.access(bench.main)

    with monkeypatch.context() as patched:
        patched.setattr(bench.store, "read", None)
        patched.setattr(bench.store, "write", None)
        assert bench.names() == ["main", "work"]
        assert await bench.pool.access(bench.main) == first
        bench.pool.saw_quota(bench.main, quota("acc-main", 1))
        bench.pool.mark(bench.main, Mark(START + 1, "limit", START))
        bench.pool.served(bench.main)
