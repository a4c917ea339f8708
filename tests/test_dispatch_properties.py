"""The property of routing through the real dispatcher: who the rules exclude is sent nothing, and if any account
may serve and would, the client is served.

The states and the plain restatement of the rules are those of `test_routing_properties`; below the dispatcher
stands an upstream that only notes whom it was asked to speak for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accounts.models import Account, Quota, Window
from accounts.pool import AccountPool
from accounts.routing import Policy, Request
from addon.background import Background
from addon.call import Call, Opened, Unserved
from addon.dispatch import Dispatcher
from addon.protocol import resend
from addon.protocol.asked import Asked, Shaped
from addon.protocol.identity import Identity, Turn
from addon.protocol.plain import Plain
from addon.provenance import Provenance
from addon.sessions import Session, Sessions
from tests.memory_store import EndlessTokens, MemoryStore
from tests.routing_world import NOW, account, mark
from tests.test_routing_properties import NAMES, State, rules_exclude, states, used_up

LIMIT = (
    b'{"error":{"type":"usage_limit_reached","message":"The usage limit has been reached","resets_at":%d}}'
)
ITEM = b'event: response.output_item.added\ndata: {"type":"response.output_item.added","item":{}}\n\n'
FULL = b'data: {"type":"response.failed","response":{"failed":{"rate_limit_reached_type":"%s"}}}\n\n'
ANSWERS = {
    "serves": (200, [ITEM]),
    "limit": (429, [LIMIT % (NOW + 10_000)]),
    "limit inside": (200, [b'data: {"type":"error","error":%s}\n\n' % (LIMIT % (NOW + 10_000))[9:-1]]),
    "full primary": (200, [FULL % b"primary"]),
    "full secondary": (200, [FULL % b"secondary"]),
    "workspace": (403, [b'{"detail":{"code":"invalid_workspace_selected"}}']),
}
REJECTED = (401, [b'{"detail":"Unauthorized"}'])
CANNOT_READ = (400, [b'{"error":{"code":"invalid_encrypted_content","message":"could not be verified"}}'])


class StillReply:
    """An answer that is there at once."""

    def __init__(self, status: int, parts: list[bytes]) -> None:
        self.status = status
        self.headers: dict[str, str] = {}
        self._parts = list(parts)

    async def read(self) -> bytes:
        return self._parts.pop(0) if self._parts else b""

    async def body(self) -> bytes:
        return b"".join(self._parts)

    def close(self) -> None:
        pass


class NotingUpstream:
    """Answers each account as planned; `asked` is who was spoken for, in order."""

    def __init__(self, plan: dict[str, str]) -> None:
        self.plan = plan
        self.asked: list[str] = []
        self.bodies: list[bytes] = []

    async def send(self, method: str, url: str, headers: dict[str, str], body: bytes, **_: Any) -> StillReply:
        name = headers["authorization"].removeprefix("Bearer ")
        self.asked.append(name)
        self.bodies.append(body)
        return StillReply(*{**ANSWERS, "rejected": REJECTED}.get(self.plan[name], CANNOT_READ))


class NoCatalogue:
    """Every account has every model."""

    def lacks(self, account: Account, model: str) -> bool:
        return False

    def version_for(self, model: str) -> str | None:
        return None

    def announced(self, account: Account, etag: str | None) -> None:
        pass


async def dispatch(
    state: State,
    upstream: NotingUpstream,
    pool: AccountPool | None = None,
    *,
    history: Sequence[dict[str, Any]] = (),
    makers: dict[str, str] | None = None,
) -> Opened | Unserved:
    """`history` is the input; `makers` says by digest which identity made a ciphertext in it."""
    store = MemoryStore(state.accounts, state.quotas, state.marks, state.pins, makers or {})
    if pool is None:
        pool = AccountPool(
            cast("Any", store), cast("Any", EndlessTokens()), lambda: state.policy, lambda: NOW
        )
    if not pool.accounts:
        await pool.reload()

    async def thread_id(key: str) -> str:
        return f"thread-{key}"

    identity = Identity(originator="test", user_agent="test/1", version="1.0.0", beta_features="")
    dispatcher = Dispatcher(
        pool=pool,
        upstream=cast("Any", upstream),
        url=lambda: "https://backend.invalid/codex/responses",
        identity=lambda: identity,
        fallback_on=lambda: (401, 403, 429),
        sessions=Sessions(thread_id),
        provenance=Provenance(cast("Any", store), Background()),
        catalogue=cast("Any", NoCatalogue()),
        openai_url=lambda: "https://openai.invalid",
        hold=lambda: 0,
    )
    session = Session(state.request.session or "nobody", "thread")
    turn = Turn("thread", "turn", 0, "installation")
    body: dict[str, Any] = {"model": state.request.model or "gpt-5.5", "input": [*history]}
    shaped = Shaped(
        body=body, asked=Asked(api="responses", stream=True, model=None, echo={}), dropped=(), lite=False
    )
    call = Call(
        shaped=shaped,
        session=session,
        turn=turn,
        body=orjson.dumps(body),
        ciphertexts=resend.ciphertexts(body),
        compactions=resend.compactions(body),
        client_version=None,
        failed=lambda attempt: None,
        completed=lambda account, output: None,
        plain=Plain("/responses", (), orjson.dumps(body)),
    )
    try:
        return await dispatcher.open(call)
    except Unserved as unserved:
        return unserved


plans = st.fixed_dictionaries({name: st.sampled_from(sorted(ANSWERS)) for name in NAMES})


def serves(account: Account, plan: dict[str, str]) -> bool:
    """Whether its answer is one for the client; the real API says everything by its status."""
    if account.type == "api_key":
        return ANSWERS[plan[account.id]][0] == 200
    return plan[account.id] == "serves"


@settings(deadline=None)
@given(states, plans)
def test_whom_the_rules_exclude_is_sent_nothing_and_whoever_may_serve_does(
    state: State, plan: dict[str, str]
) -> None:
    state = replace(state, request=Request(session=state.request.session, model=state.request.model))
    upstream = NotingUpstream(plan)
    result = asyncio.run(dispatch(state, upstream))

    able = {each.id for each in state.accounts if not rules_exclude(state, each)}
    assert set(upstream.asked) <= able
    assert len(set(upstream.asked)) == len(upstream.asked)
    free = {each.id for each in state.accounts if each.id in able and not used_up(state, each)}
    willing = {each.id for each in state.accounts if each.id in able and serves(each, plan)}
    if isinstance(result, Opened):
        assert result.account.id in willing
        assert upstream.asked[-1] == result.account.id
    else:
        assert not willing, f"{upstream.asked} of {sorted(free or able)} were asked in vain"
        assert set(upstream.asked) == able


async def test_a_conversation_is_warm_from_the_end_of_its_answer_however_long_that_took() -> None:
    state = State(Policy(), [account("a", 0), account("b", 1)], {}, {}, {}, Request(session="s"))
    pool = AccountPool(
        cast("Any", MemoryStore(state.accounts)), cast("Any", EndlessTokens()), Policy, lambda: NOW
    )
    opened = await dispatch(state, NotingUpstream({"a": "serves"}), pool)
    assert isinstance(opened, Opened)
    assert pool.pins["s"].last_seen_at == NOW
    ended = time.time()
    opened.close()
    assert pool.pins["s"].last_seen_at >= ended
    assert pool.inflight == {}


async def test_the_end_of_an_answer_brings_no_conversation_back_that_has_moved() -> None:
    state = State(Policy(), [account("a", 0), account("b", 1)], {}, {}, {}, Request(session="s"))
    pool = AccountPool(
        cast("Any", MemoryStore(state.accounts)), cast("Any", EndlessTokens()), Policy, lambda: NOW
    )
    first = await dispatch(state, NotingUpstream({"a": "serves"}), pool)
    pool.mark(state.accounts[0], mark(60))
    second = await dispatch(state, NotingUpstream({"b": "serves"}), pool)
    assert isinstance(first, Opened)
    assert isinstance(second, Opened)
    first.close()
    assert pool.pins["s"].account == "b"


@pytest.mark.parametrize(("window", "hours"), [("primary", 1), ("secondary", 48)])
async def test_a_limit_that_names_its_window_only_holds_until_that_windows_reset(
    window: str, hours: int
) -> None:
    now = time.time()
    windows = (
        Window(300, 50, now + 3600, now, "headers"),
        Window(10_080, 50, now + 48 * 3600, now, "headers"),
    )
    state = State(
        Policy(),
        [account("a", 0), account("b", 1)],
        {"a": Quota("chatgpt-a", windows, seen_at=now)},
        {},
        {},
        Request(session="s"),
    )
    store = MemoryStore(state.accounts, state.quotas)
    pool = AccountPool(cast("Any", store), cast("Any", EndlessTokens()), Policy, time.time)
    served = await dispatch(state, NotingUpstream({"a": f"full {window}", "b": "serves"}), pool)
    assert isinstance(served, Opened)
    assert served.account.id == "b"
    assert pool.marks["a", "codex"].until == now + hours * 3600


async def test_a_limit_is_told_though_the_last_account_refused_for_good() -> None:
    state = State(Policy(), [account("a", 0), account("b", 1)], {}, {}, {}, Request(session="s"))
    pool = AccountPool(
        cast("Any", MemoryStore(state.accounts)), cast("Any", EndlessTokens()), Policy, lambda: NOW
    )
    refused = await dispatch(state, NotingUpstream({"a": "limit", "b": "workspace"}), pool)
    assert isinstance(refused, Unserved)
    assert (refused.failure.status, refused.failure.resets_at) == (429, pool.marks["a", "codex"].until)


async def test_a_login_that_is_refused_with_every_new_token_is_renewed_twice_and_left() -> None:
    state = State(Policy(), [account("a", 0), account("b", 1)], {}, {}, {}, Request(session="s"))
    upstream = NotingUpstream({"a": "rejected", "b": "serves"})
    opened = await dispatch(state, upstream)
    assert isinstance(opened, Opened)
    assert upstream.asked == ["a", "a", "a", "b"]
