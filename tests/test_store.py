"""The store: who there is, in which order, under which names, and with which tokens."""

from __future__ import annotations

import asyncio

import pytest

from accounts.account_records import resolve
from accounts.models import (
    Account,
    AmbiguousAccount,
    InvalidLabel,
    Login,
    Mark,
    NoSuchAccount,
    RefreshError,
    Secret,
)
from accounts.quota_records import Observations
from accounts.store import Store
from tests.store_bench import NOW, Clock, Grant, login, pin, quota

pytest_plugins = ("tests.store_fixtures",)


async def names(store: Store) -> list[str]:
    return [each.name for each in await store.accounts()]


# Accounts


async def test_the_first_account_is_main_and_later_ones_are_fallbacks(store: Store) -> None:
    first, created = await store.add(login("acc-1", email="a@example.com", plan="plus"))
    second, _ = await store.add(login("acc-2"), "work")
    assert (first.role, first.name, created) == ("main", "main", True)
    assert (second.role, second.name, second.position) == ("fallback", "work", 1)
    assert (first.email, first.plan, first.added_at, first.expires_at) == (
        "a@example.com",
        "plus",
        NOW,
        NOW + 3600,
    )


async def test_the_same_chatgpt_account_is_updated_never_added(store: Store) -> None:
    first, _ = await store.add(login("acc-1", email="old@example.com", plan="plus"), "home")
    await store.add(login("acc-2"))
    again, created = await store.add(login("acc-1", access=Secret("new"), plan="pro"))
    assert not created
    assert (again.id, again.label, again.position, again.plan) == (first.id, "home", 0, "pro")
    assert again.email == "old@example.com"
    assert again.generation > first.generation
    assert (await store.credentials(first.id)).access.reveal() == "new"
    assert len(await store.accounts()) == 2


async def test_a_label_changes_only_if_it_is_given(store: Store) -> None:
    await store.add(login("acc-1"), "home")
    assert (await store.add(login("acc-1")))[0].label == "home"
    assert (await store.add(login("acc-1", label="source's")))[0].label == "home"
    assert (await store.add(login("acc-1"), "flat"))[0].label == "flat"


async def test_a_new_login_clears_what_the_old_one_died_of(store: Store) -> None:
    account, _ = await store.add(login("acc-1"))
    await store.save_refresh_error(account.id, failure("refresh of acc-1"))
    assert (await store.accounts())[0].login_error == "gone"
    assert (await store.add(login("acc-1")))[0].login_error is None


async def test_an_api_key_is_the_same_account_as_itself(store: Store) -> None:
    key = Login("api_key", Secret("sk-1"))
    first, _ = await store.add(key, "paid")
    again, created = await store.add(key)
    other, _ = await store.add(Login("api_key", Secret("sk-2")))
    assert (again.id, created) == (first.id, False)
    assert other.id != first.id
    assert (first.type, first.account_id, first.expires_at) == (
        "api_key",
        None,
        None,
    )


async def test_an_api_key_under_the_label_of_another_takes_its_place(store: Store) -> None:
    before, _ = await store.add(Login("api_key", Secret("sk-1")), "paid")
    after, created = await store.add(Login("api_key", Secret("sk-2")), "paid")
    assert (after.id, after.position, created) == (before.id, before.position, False)
    assert (await store.credentials(after.id)).access.reveal() == "sk-2"
    assert (await store.add(Login("api_key", Secret("sk-2"))))[0].id == before.id
    assert (await store.add(Login("api_key", Secret("sk-1"))))[0].id != before.id


async def test_a_subscription_never_takes_the_place_of_an_api_key(store: Store) -> None:
    await store.add(Login("api_key", Secret("sk-1")), "paid")
    with pytest.raises(InvalidLabel):
        await store.add(login("acc-1"), "paid")


@pytest.mark.parametrize("label", ["main", "MAIN", " Main ", "", "  ", "a\nb", "x" * 65])
async def test_labels_that_cannot_be(store: Store, label: str) -> None:
    account, _ = await store.add(login("acc-1"))
    with pytest.raises(InvalidLabel):
        await store.add(login("acc-2"), label)
    with pytest.raises(InvalidLabel):
        await store.rename(account.id, label)
    assert len(await store.accounts()) == 1


async def test_a_label_never_names_two_accounts(store: Store) -> None:
    first, _ = await store.add(login("acc-1"), "work")
    second, _ = await store.add(login("acc-2"))
    for taken in ("work", first.id, "acc-1"):
        with pytest.raises(InvalidLabel, match="already names"):
            await store.rename(second.id, taken)
    assert (await store.rename(first.id, "work")).label == "work"
    assert (await store.rename(second.id, "acc-2")).label == "acc-2"


async def test_a_label_from_the_source_is_taken_if_it_is_free(store: Store) -> None:
    assert (await store.add(login("acc-1", label="work")))[0].label == "work"
    assert (await store.add(login("acc-2", label="work")))[0].label is None
    assert (await store.add(login("acc-3", label="main")))[0].label is None


ROSTER = [
    Account("0123456789ab", None, "oauth", "acc-main", position=0),
    Account("aaaaaaaaaaaa", "Work", "oauth", "acc-work", position=1),
    Account("bbbbbbbbbbbb", "work", "oauth", "12345678-aaaa", position=2),
    Account("cccccccccccc", None, "oauth", "87654321-bbbb", position=3),
    Account("dddddddddddd", "Play", "oauth", "87654321-cccc", position=4),
]


@pytest.mark.parametrize(
    ("name", "position"),
    [
        ("main", 0),
        ("MAIN", 0),
        ("0123456789ab", 0),
        ("acc-work", 1),
        ("Work", 1),
        ("work", 2),
        (" work ", 2),
        ("play", 4),
        ("87654321", 3),
        ("87654321-CCCC", 4),
    ],
)
def test_names_people_use(name: str, position: int) -> None:
    assert resolve(ROSTER, name).position == position


def test_a_name_that_fits_several_accounts_lists_them() -> None:
    with pytest.raises(AmbiguousAccount, match=r"Work \(id aaaaaaaaaaaa\), work \(id bbbbbbbbbbbb\)"):
        resolve(ROSTER, "WORK")


@pytest.mark.parametrize("name", ["nobody", "", "acc"])
def test_a_name_that_fits_none(name: str) -> None:
    with pytest.raises(NoSuchAccount, match="known are main, Work"):
        resolve(ROSTER, name)


def test_main_of_an_empty_store() -> None:
    with pytest.raises(NoSuchAccount, match="openai-auth login"):
        resolve([], "main")


async def three(store: Store) -> None:
    for name in "abc":
        await store.add(login(f"acc-{name}"), name)


async def test_switch_makes_main_and_switching_back_restores_the_order(store: Store) -> None:
    await three(store)
    assert (await store.switch("c")).role == "main"
    assert await names(store) == ["c", "b", "a"]
    await store.switch("a")
    assert await names(store) == ["a", "b", "c"]
    await store.switch("main")
    assert await names(store) == ["a", "b", "c"]


async def test_order_exchanges_two_places(store: Store) -> None:
    await three(store)
    assert [each.name for each in await store.order("b", "c")] == ["a", "c", "b"]


async def test_removing_main_makes_the_next_one_main(store: Store) -> None:
    await three(store)
    gone, main = await store.remove("main")
    assert (gone.name, main and main.name) == ("a", "b")
    gone, main = await store.remove("c")
    assert (gone.name, main) == ("c", None)
    assert (await store.remove("b"))[1] is None
    assert await store.accounts() == []
    with pytest.raises(NoSuchAccount):
        await store.remove("b")


async def test_removal_takes_everything_about_the_account_with_it(store: Store) -> None:
    account, _ = await store.add(login("acc-1"))
    await store.observe(
        Observations(
            {account.id: quota(10)},
            {(account.id, "codex"): Mark(NOW, "x", NOW)},
            {},
            {"s": pin(account.id, NOW)},
        )
    )
    await store.remove("main")
    assert (await store.quotas(), await store.marks(), await store.pins()) == ({}, {}, {})
    with pytest.raises(NoSuchAccount):
        await store.credentials(account.id)


async def test_positions_have_no_gaps(store: Store) -> None:
    await three(store)
    await store.remove("b")
    await store.add(login("acc-d"), "d")
    assert [(each.name, each.position) for each in await store.accounts()] == [("a", 0), ("c", 1), ("d", 2)]


async def test_disabling_keeps_place_and_tokens(store: Store) -> None:
    await three(store)
    assert not (await store.enable("a", False)).enabled
    assert not (await store.add(login("acc-a")))[0].enabled
    assert (await store.enable("a")).enabled
    assert await names(store) == ["a", "b", "c"]


async def test_a_label_can_be_taken_away(store: Store) -> None:
    await three(store)
    assert (await store.rename("b", None)).name == "acc-b"


# Tokens


def failure(token: str, permanent: bool = True) -> RefreshError:
    return RefreshError("gone", permanent, NOW, None if permanent else NOW + 300, 1, Secret(token).hash)


async def test_a_rotation_replaces_the_tokens(store: Store, clock: Clock) -> None:
    account, _ = await store.add(login("acc-1"))
    spent = Secret("refresh of acc-1").hash
    held = await store.rotate(account.id, spent, Grant(Secret("a2"), Secret("r2"), NOW + 7200))
    assert held == await store.credentials(account.id)
    assert held.access.reveal() == "a2"
    assert held.refresh == Secret("r2")
    assert (held.expires_at, held.refreshed_at) == (NOW + 7200, NOW)
    assert (await store.accounts())[0].generation == held.generation > account.generation


async def test_a_rotation_without_a_refresh_token_keeps_the_old_one(store: Store) -> None:
    account, _ = await store.add(login("acc-1"))
    spent = Secret("refresh of acc-1").hash
    held = await store.rotate(account.id, spent, Grant(Secret("a2"), None, NOW))
    assert held.refresh == Secret("refresh of acc-1")


async def test_a_rotation_never_overwrites_a_newer_login(store: Store) -> None:
    account, _ = await store.add(login("acc-1"))
    spent = Secret("refresh of acc-1").hash
    await store.add(login("acc-1", access=Secret("fresh"), refresh=Secret("fresh refresh")))
    held = await store.rotate(account.id, spent, Grant(Secret("late"), Secret("late"), NOW))
    assert held.access.reveal() == "fresh"
    assert (await store.credentials(account.id)).refresh == Secret("fresh refresh")


async def test_a_failure_counts_for_the_token_it_happened_with(store: Store) -> None:
    account, _ = await store.add(login("acc-1"))
    await store.save_refresh_error(account.id, failure("an older token"))
    assert await store.refresh_error(account.id) is None
    await store.save_refresh_error(account.id, failure("refresh of acc-1", permanent=False))
    assert await store.refresh_error(account.id) == failure("refresh of acc-1", permanent=False)
    assert (await store.accounts())[0].login_error is None
    await store.rotate(account.id, Secret("refresh of acc-1").hash, Grant(Secret("a"), Secret("r"), NOW))
    assert await store.refresh_error(account.id) is None


async def test_a_cancelled_caller_does_not_cut_a_write(store: Store) -> None:
    tasks = [asyncio.ensure_future(store.add(login(f"acc-{number}"))) for number in range(20)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await store.add(login("last"))
    found = await store.accounts()
    assert len(found) == 21
    assert [each.position for each in found] == list(range(21))
