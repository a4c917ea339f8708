"""Client keys: made once, known by their hash, revoked for ever, live within a tick, and each with its own use."""

from __future__ import annotations

import hmac
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from accounts.cli import program
from accounts.client_keys import ClientKeys, NotServed, counted
from accounts.key_records import KeyUse, NoSuchKey
from accounts.models import InvalidLabel, StoreUnavailable
from accounts.store import Store


@pytest.fixture
async def store(tmp_path: Path) -> Any:
    async with await Store.open(tmp_path / "home", keyring=False, clock=lambda: 1000.0) as opened:
        yield opened


@pytest.fixture
async def keys(store: Store) -> Any:
    """The live view, whose ticks a test takes by hand."""
    view = ClientKeys(store, clock=lambda: 2000.0)
    await view.tick()
    yield view
    await view.close()


async def test_a_key_has_256_random_bits_and_is_nowhere_in_the_store(store: Store) -> None:
    first, secret = await store.add_client_key("laptop")
    second, other = await store.add_client_key("phone")
    assert secret.reveal().startswith("oa-")
    assert len(secret.reveal()) == len("oa-") + 43  # 32 bytes in base64
    assert secret != other
    assert first.id != second.id
    assert first.hash == secret.hash
    files = b"".join(path.read_bytes() for path in store.file.parent.glob("state.db*"))
    assert secret.reveal().encode() not in files
    assert [key.label for key in await store.client_keys()] == ["laptop", "phone"]


@pytest.mark.parametrize("label", ["", "  ", "x" * 65, "a\nb"])
async def test_a_label_must_be_fit_to_print(store: Store, label: str) -> None:
    with pytest.raises(InvalidLabel):
        await store.add_client_key(label)


async def test_a_label_names_one_valid_key(store: Store) -> None:
    await store.add_client_key("laptop")
    with pytest.raises(InvalidLabel, match="already names"):
        await store.add_client_key(" laptop ")
    await store.revoke_client_key("laptop")
    await store.add_client_key("laptop")


async def test_revoking_goes_by_id_or_label_and_says_what_is_left(store: Store) -> None:
    one, _ = await store.add_client_key("one")
    await store.add_client_key("two")
    gone, left = await store.revoke_client_key(one.id)
    assert (gone.label, gone.revoked_at, left) == ("one", 1000.0, 1)
    gone, left = await store.revoke_client_key("two")
    assert (gone.label, left) == ("two", 0)
    for name in ("two", one.id, "nobody", ""):
        with pytest.raises(NoSuchKey):
            await store.revoke_client_key(name)


async def test_without_keys_everybody_is_served(keys: ClientKeys) -> None:
    assert keys.admit("any") is None


async def test_with_a_key_only_its_bearer_is_served_from_the_next_tick(
    store: Store, keys: ClientKeys
) -> None:
    key, secret = await store.add_client_key("laptop")
    assert keys.admit("any") is None
    await keys.tick()
    assert keys.admit(secret.reveal()) == key.id
    for token in ("any", "", "caf\udce9", secret.reveal()[:-1], secret.reveal() + "x", key.id, key.hash):
        with pytest.raises(NotServed, match="keys add"):
            keys.admit(token)


async def test_a_revoked_key_is_refused_for_ever_even_when_everybody_else_is_served_again(
    store: Store, keys: ClientKeys
) -> None:
    _, secret = await store.add_client_key("laptop")
    await store.revoke_client_key("laptop")
    await keys.tick()
    assert keys.admit("any") is None
    with pytest.raises(NotServed):
        keys.admit(secret.reveal())


async def test_every_key_is_compared_in_constant_time_whichever_fits(
    store: Store, keys: ClientKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = [(await store.add_client_key(label))[1].reveal() for label in "abc"]
    await keys.tick()
    compared: list[str] = []
    real = hmac.compare_digest

    def compare(one: str, other: str) -> bool:
        compared.append(one)
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    for secret in secrets:
        keys.admit(secret)
    assert len(compared) == 9


USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 40},
    "output_tokens": 7,
}
CHAT_USAGE = {"prompt_tokens": 100, "prompt_tokens_details": {"cached_tokens": 40}, "completion_tokens": 7}


async def test_use_is_counted_in_memory_and_written_behind(store: Store, keys: ClientKeys) -> None:
    key, _ = await store.add_client_key("laptop")
    for usage in (USAGE, CHAT_USAGE, None):
        keys.asked(key.id)
        keys.used(key.id, usage)
    assert (await store.client_keys())[0].use == KeyUse()
    await keys.tick()
    assert (await store.client_keys())[0].use == KeyUse(3, 200, 80, 14, 2000.0)
    keys.asked(key.id)
    await keys.close()  # the end writes what is pending
    assert (await store.client_keys())[0].use.requests == 4


async def test_two_processes_add_up(store: Store) -> None:
    key, _ = await store.add_client_key("laptop")
    await store.add_key_use({key.id: KeyUse(1, 10, 5, 2, 50.0)})
    await store.add_key_use({key.id: KeyUse(1, 1, 0, 1, 40.0), "gone": KeyUse(1)})
    assert (await store.client_keys())[0].use == KeyUse(2, 11, 5, 3, 50.0)


async def test_what_the_store_does_not_take_stays_pending(
    store: Store, keys: ClientKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, _ = await store.add_client_key("laptop")
    keys.asked(key.id)

    async def full(_: object) -> None:
        raise StoreUnavailable("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(store, "add_key_use", full)
        with pytest.raises(StoreUnavailable):
            await keys.tick()
        keys.asked(key.id)
    await keys.tick()
    assert (await store.client_keys())[0].use.requests == 2


@pytest.mark.parametrize(
    "usage",
    [{}, {"input_tokens": None}, {"input_tokens": -1}, {"input_tokens": "7"}, {"input_tokens_details": 3}],
)
def test_a_usage_that_says_nothing_counts_as_nothing(usage: dict[str, Any]) -> None:
    assert counted(usage) == KeyUse()


async def test_a_store_of_the_first_version_gets_the_table_and_keeps_its_accounts(tmp_path: Path) -> None:
    async with await Store.open(tmp_path, keyring=False) as store:
        file = store.file
    with sqlite3.connect(file) as database:
        database.execute("DROP TABLE client_keys")
        database.execute("UPDATE meta SET value = '1' WHERE key = 'schema_version'")
    async with await Store.open(tmp_path, keyring=False) as store:
        await store.add_client_key("laptop")
        assert len(await store.client_keys()) == 1


# The command


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPENAI_AUTH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(program(), ["keys", *arguments])


@pytest.mark.usefixtures("home")
def test_a_key_is_shown_once_alone_on_stdout() -> None:
    added = cli("add", "laptop")
    assert added.exit_code == 0
    (secret,) = added.stdout.splitlines()
    assert secret.startswith("oa-")
    assert "not shown again" in added.stderr
    assert "only clients with a key" in added.stderr
    listed = cli("list").stdout
    assert "laptop" in listed
    assert secret not in listed
    assert cli().stdout == listed
    assert "only clients with a key" not in cli("add", "phone").stderr


@pytest.mark.usefixtures("home")
def test_the_list_as_json() -> None:
    made = json.loads(cli("add", "laptop", "--json").stdout)
    (row,) = json.loads(cli("list", "--json").stdout)
    assert row == {
        "id": made["id"],
        "label": "laptop",
        "created_at": row["created_at"],
        "revoked_at": None,
        "requests": 0,
        "input_tokens": 0,
        "cached_tokens": 0,
        "output_tokens": 0,
        "last_used_at": None,
    }
    assert row["created_at"].endswith("Z")


@pytest.mark.usefixtures("home")
def test_the_last_revocation_says_that_the_door_is_open() -> None:
    assert "every client is served" in cli("list").stderr
    cli("add", "laptop")
    cli("add", "phone")
    assert "served again" not in cli("revoke", "laptop").stderr
    assert "served again" in cli("revoke", "phone").stderr
    assert "revoked" in cli("list").stdout


@pytest.mark.usefixtures("home")
def test_mistakes_are_one_line() -> None:
    unknown = cli("revoke", "nobody")
    assert unknown.exit_code == 1
    assert unknown.stderr == "openai-auth: there is no client key 'nobody': see `openai-auth keys list`\n"
    assert cli("add").exit_code == 2
