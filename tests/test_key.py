"""The key of the stored tokens: keyring or file, made once, and never replaced by a wrong one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import keyring as keyrings
import pytest
from cryptography.fernet import Fernet
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked

from accounts import key
from accounts.models import KeyUnavailable, Login, Secret
from accounts.store import Store


class MemoryKeyring(KeyringBackend):
    """A keyring that works."""

    priority = 5

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.entries[service, username]


class LockedKeyring(MemoryKeyring):
    """A keyring that a person would have to unlock."""

    def set_password(self, service: str, username: str, password: str) -> None:
        raise KeyringLocked("locked")

    def get_password(self, service: str, username: str) -> str | None:
        raise KeyringLocked("locked")


class ForgetfulKeyring(MemoryKeyring):
    """A keyring that takes a password and does not have it afterwards."""

    def set_password(self, service: str, username: str, password: str) -> None:
        pass


class PlainTextKeyring(MemoryKeyring):
    """A keyring that the keyring library itself does not recommend."""

    priority = 0.5


class HangingKeyring(MemoryKeyring):
    """A keyring that shows a dialog nobody sees."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = threading.Event()

    def set_password(self, service: str, username: str, password: str) -> None:
        self.answer.wait()


@pytest.fixture(autouse=True)
def system_keyring() -> Iterator[None]:
    before = keyrings.get_keyring()
    yield
    keyrings.set_keyring(before)


def use(backend: MemoryKeyring) -> MemoryKeyring:
    keyrings.set_keyring(backend)
    return backend


async def stored(folder: Path, *, keyring: bool = True) -> str:
    """Opens the store, adds a login on the first call, and reads it back."""
    async with await Store.open(folder, keyring=keyring) as store:
        if not await store.accounts():
            await store.add(Login("oauth", Secret("the token"), account_id="acc-1"))
        return (await store.credentials((await store.accounts())[0].id)).access.reveal()


async def test_a_working_keyring_holds_the_key(tmp_path: Path) -> None:
    backend = use(MemoryKeyring())
    assert await stored(tmp_path) == "the token"
    assert not (tmp_path / "key").exists()
    assert len(backend.entries) == 1
    assert await stored(tmp_path) == "the token"
    assert len(backend.entries) == 1


async def test_two_folders_have_keys_of_their_own(tmp_path: Path) -> None:
    backend = use(MemoryKeyring())
    await stored(tmp_path / "a")
    await stored(tmp_path / "b")
    assert len(set(backend.entries.values())) == 2
    assert await stored(tmp_path / "a") == "the token"


async def test_a_portable_store_never_asks_the_keyring(tmp_path: Path) -> None:
    backend = use(MemoryKeyring())
    assert await stored(tmp_path, keyring=False) == "the token"
    assert await stored(tmp_path, keyring=True) == "the token"
    assert backend.entries == {}
    assert (tmp_path / "key").exists()


@pytest.mark.parametrize("backend", [LockedKeyring, ForgetfulKeyring, PlainTextKeyring])
async def test_a_keyring_that_does_not_work_counts_as_none(
    tmp_path: Path, backend: type[MemoryKeyring]
) -> None:
    use(backend())
    assert await stored(tmp_path) == "the token"
    assert (tmp_path / "key").exists()


async def test_a_keyring_that_hangs_does_not_hold_up_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key, "OFFER_TIMEOUT", 0.01)
    backend = HangingKeyring()
    use(backend)
    try:
        assert await stored(tmp_path) == "the token"
        assert (tmp_path / "key").exists()
    finally:
        backend.answer.set()


async def test_first_starts_at_the_same_moment_agree_on_one_key(tmp_path: Path) -> None:
    backend = use(MemoryKeyring())
    stores = await asyncio.gather(*(Store.open(tmp_path) for _ in range(4)))
    await stores[0].add(Login("oauth", Secret("the token"), account_id="acc-1"))
    id = (await stores[0].accounts())[0].id
    assert [(await store.credentials(id)).access.reveal() for store in stores] == ["the token"] * 4
    for store in stores:
        await store.close()
    assert len(backend.entries) == 1


async def test_a_key_that_left_the_keyring_is_missed_and_nothing_is_lost(tmp_path: Path) -> None:
    backend = use(MemoryKeyring())
    await stored(tmp_path)
    use(LockedKeyring())
    with pytest.raises(KeyUnavailable, match="unlock the keyring"):
        await stored(tmp_path)
    use(MemoryKeyring())
    with pytest.raises(KeyUnavailable, match="does not give the key"):
        await stored(tmp_path)
    assert not (tmp_path / "key").exists()
    use(backend)
    assert await stored(tmp_path) == "the token"


async def test_a_missing_key_file_is_named_and_not_made_anew(tmp_path: Path) -> None:
    await stored(tmp_path, keyring=False)
    content = (tmp_path / "key").read_bytes()
    (tmp_path / "key").unlink()
    with pytest.raises(KeyUnavailable, match=r"key does not give the key.*backup.*log in again"):
        await stored(tmp_path, keyring=False)
    assert not (tmp_path / "key").exists()
    (tmp_path / "key").write_bytes(content)
    assert await stored(tmp_path, keyring=False) == "the token"


@pytest.mark.parametrize(
    "content", [Fernet.generate_key(), b"nonsense", b"\xff\xfe"], ids=["another key", "text", "bytes"]
)
async def test_a_wrong_key_file_is_noticed_and_tokens_survive_it(tmp_path: Path, content: bytes) -> None:
    await stored(tmp_path, keyring=False)
    right = (tmp_path / "key").read_bytes()
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(KeyUnavailable, match=r"key (holds another key|cannot be read)"):
        await stored(tmp_path, keyring=False)
    assert (tmp_path / "key").read_bytes() == content
    (tmp_path / "key").write_bytes(right)
    assert await stored(tmp_path, keyring=False) == "the token"


async def test_a_new_database_takes_the_key_file_that_is_there(tmp_path: Path) -> None:
    """The database was moved away, or the first start was killed before it recorded the key."""
    content = Fernet.generate_key() + b"\n"
    (tmp_path / "key").write_bytes(content)
    (tmp_path / "key").chmod(0o644)
    assert await stored(tmp_path, keyring=False) == "the token"
    assert (tmp_path / "key").read_bytes() == content
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


async def test_a_key_file_that_is_no_key_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"my diary")
    with pytest.raises(KeyUnavailable, match="does not hold a key"):
        await stored(tmp_path, keyring=False)
    assert (tmp_path / "key").read_bytes() == b"my diary"


async def test_a_damaged_token_is_an_error_with_advice(tmp_path: Path) -> None:
    await stored(tmp_path, keyring=False)
    async with await Store.open(tmp_path, keyring=False) as store:
        await store.write(
            lambda connection: connection.exec_driver_sql("UPDATE accounts SET access = x'00ff'")
        )
        with pytest.raises(KeyUnavailable, match=r"cannot be decrypted.*openai-auth login"):
            await store.credentials((await store.accounts())[0].id)
