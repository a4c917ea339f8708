"""A login that is taken over from another program while the store may have a newer one of the same account."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from accounts.models import Account, Login, RefreshError, Secret
from accounts.sign_in import sign_in, take_over
from accounts.store import Store
from tests.rotating_issuer import START, jwt

HOUR = 3600.0


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with await Store.open(tmp_path, keyring=False) as store:
        yield store


def login(ends: float, *, issued: float | None = None) -> Login:
    """A login whose token ends then (seconds from the start)."""
    times = {} if issued is None else {"iat": START + issued}
    token = jwt("acc-1", START + ends, **times)
    return Login("oauth", Secret(token), Secret(f"refresh of {ends} {issued}"), START + ends, "acc-1")


async def held(store: Store, account: Account) -> Secret | None:
    return (await store.credentials(account.id)).refresh


OLDER = [
    (login(HOUR), login(2 * HOUR)),
    (login(10 * HOUR, issued=0), login(5 * HOUR, issued=HOUR)),  # a long life does not make it younger
]


@pytest.mark.parametrize(("older", "newer"), OLDER)
async def test_a_newer_login_stays_when_an_older_one_is_imported_again(
    store: Store, older: Login, newer: Login
) -> None:
    await take_over(store, older)
    account = (await sign_in(store, newer)).account
    outcome = await take_over(store, older, "work")
    assert await held(store, account) == newer.refresh
    assert outcome.text.startswith("Kept work")
    assert outcome.warning
    assert outcome.account.label == "work"
    assert outcome.account.generation == account.generation


@pytest.mark.parametrize(("older", "newer"), OLDER)
async def test_a_newer_login_is_taken(store: Store, older: Login, newer: Login) -> None:
    account = (await take_over(store, older)).account
    outcome = await take_over(store, newer)
    assert (outcome.what, outcome.warning) == ("Updated", None)
    assert await held(store, account) == newer.refresh


async def test_a_refreshed_token_is_newer_than_the_file_it_came_from(store: Store) -> None:
    file, fresh = login(HOUR), login(240 * HOUR)
    account = (await take_over(store, file)).account
    assert file.refresh
    assert fresh.expires_at

    class Grant:
        access, refresh, expires_at = fresh.access, fresh.refresh, fresh.expires_at

    await store.rotate(account.id, file.refresh.hash, Grant())
    assert (await take_over(store, file)).what == "Kept"
    assert await held(store, account) == fresh.refresh


async def test_an_older_login_replaces_one_that_is_dead(store: Store) -> None:
    older, newer = OLDER[0]
    account = (await sign_in(store, newer)).account
    assert newer.refresh
    dead = RefreshError("log in again", True, START, None, 1, newer.refresh.hash)
    await store.save_refresh_error(account.id, dead)
    outcome = await take_over(store, older)
    assert await held(store, account) == older.refresh
    assert outcome.account.login_error is None


async def test_a_real_login_replaces_whatever_is_there(store: Store) -> None:
    older, newer = OLDER[0]
    account = (await sign_in(store, newer)).account
    await sign_in(store, older)
    assert await held(store, account) == older.refresh
