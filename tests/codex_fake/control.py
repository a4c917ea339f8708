"""Remote control: everything a test can do with the objects, over HTTP, for a fake in another process.

    POST /_fake/accounts                    {"name": "acct-main", "plan": "plus"}     → identity
    POST /_fake/accounts/NAME/METHOD        {…keyword arguments, "args": […]}         → the method's result
    POST /_fake/accounts/NAME/set           {"plan": "pro", "refuses": ["text.verbosity"]}
    GET  /_fake/accounts/NAME/requests      what it was sent
    POST /_fake/issuer/METHOD, /_fake/clock/METHOD                                    likewise
    POST /_fake/gates/N/release | step      {"events": 1}
    POST /_fake/set                         {"fast": true, "manners": {"crlf": true}, "issuer": {…}, "cache": {…}}
    GET  /_fake/state                       counters

A method that returns a gate or a hold answers `{"gate": N}`.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from .gates import Gate, Hold

if TYPE_CHECKING:
    from .server import CodexFake

Json = dict[str, Any]

ACCOUNT_METHODS = frozenset(
    [
        "auth_json",
        "opencode_json",
        "expire_access",
        "revoke",
        "set_quota",
        "set_extra_limit",
        "limit",
        "unlimit",
        "meter",
        "give_reset_credits",
        "heal",
        "fail",
        "refuse",
        "script",
        "fail_in_stream",
        "cut",
        "stall",
        "hold",
        "slow",
        "lose_answer",
    ]
)
ACCOUNT_ATTRIBUTES = ("plan", "refuses", "id_demanded", "refuses_developer", "entitled", "backend_origin")
ISSUER_METHODS = frozenset(["fail", "cut", "stall", "omit", "heal", "decide_device"])
CLOCK_METHODS = frozenset(["advance", "stop", "now"])


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(
        status=status, body=orjson.dumps(value, default=repr), content_type="application/json"
    )


async def _body(request: web.Request) -> Json:
    body: Json = orjson.loads(await request.read() or b"{}")
    return body


class Control:
    """The routes below /_fake."""

    def __init__(self, fake: CodexFake) -> None:
        self._fake = fake
        self._gates: dict[int, Gate | Hold] = {}
        self._numbers = itertools.count(1)

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/_fake/state", self.state)
        app.router.add_post("/_fake/set", self.set)
        app.router.add_post("/_fake/accounts", self.account)
        app.router.add_get("/_fake/accounts/{name}/requests", self.requests)
        app.router.add_post("/_fake/accounts/{name}/{method}", self.call_account)
        app.router.add_post("/_fake/issuer/{method}", self.call_issuer)
        app.router.add_post("/_fake/clock/{method}", self.call_clock)
        app.router.add_post("/_fake/gates/{number}/{method}", self.gate)

    async def state(self, request: web.Request) -> web.Response:
        fake = self._fake
        return _json(
            {
                "open_streams": fake.open_streams,
                "aborted": fake.aborted,
                "served": fake.served,
                "connections": fake.connections,
                "violations": fake.violations,
                "reused_refresh": fake.issuer.reused_refresh,
                "refreshes": len(fake.issuer.refreshes),
                "revoked": fake.issuer.revoked,
                "cache": {"cached_tokens": fake.cache.cached_tokens, "input_tokens": fake.cache.input_tokens},
                "order": [[seen.account, seen.route, seen.status] for seen in fake.requests],
                "accounts": {name: len(account.requests) for name, account in fake.accounts.items()},
            }
        )

    async def set(self, request: web.Request) -> web.Response:
        """Set attributes: of the fake itself, or of one of its parts."""
        for name, value in (await _body(request)).items():
            if isinstance(value, dict):
                part = getattr(self._fake, name)
                for inner, inner_value in value.items():
                    if not hasattr(part, inner):
                        return _json({"error": f"{name} has no {inner}"}, 400)
                    setattr(part, inner, inner_value)
            elif name in ("fast", "recording"):
                setattr(self._fake, name, bool(value))
            else:
                return _json({"error": f"cannot set {name}"}, 400)
        return _json({})

    async def account(self, request: web.Request) -> web.Response:
        account = self._fake.account(**await _body(request))
        return _json({"name": account.name, "account_id": account.account_id, "email": account.email})

    async def requests(self, request: web.Request) -> web.Response:
        account = self._fake.accounts[request.match_info["name"]]
        seen = [{**asdict(one), "body": len(one.body)} for one in account.requests]
        return _json(seen)

    async def call_account(self, request: web.Request) -> web.Response:
        account = self._fake.accounts.get(request.match_info["name"])
        if account is None:
            return _json({"error": "no such account"}, 404)
        if request.match_info["method"] == "set":
            for name, value in (await _body(request)).items():
                if name not in ACCOUNT_ATTRIBUTES:
                    return _json({"error": f"cannot set {name}"}, 400)
                setattr(account, name, set(value) if isinstance(value, list) else value)
            return _json({})
        return await self._call(request, account, ACCOUNT_METHODS)

    async def call_issuer(self, request: web.Request) -> web.Response:
        return await self._call(request, self._fake.issuer, ISSUER_METHODS)

    async def call_clock(self, request: web.Request) -> web.Response:
        return await self._call(request, self._fake.clock, CLOCK_METHODS)

    async def _call(self, request: web.Request, target: object, allowed: frozenset[str]) -> web.Response:
        method = request.match_info["method"]
        if method not in allowed:
            return _json({"error": f"no such method; there are {', '.join(sorted(allowed))}"}, 404)
        arguments = await _body(request)
        if isinstance(arguments.get("account"), str):  # decide_device names its account
            arguments["account"] = self._fake.accounts[arguments["account"]]
        positional = arguments.pop("args", [])
        result = getattr(target, method)(*positional, **arguments)
        if isinstance(result, Gate | Hold):
            number = next(self._numbers)
            self._gates[number] = result
            return _json({"gate": number})
        return _json(result)

    async def gate(self, request: web.Request) -> web.Response:
        gate = self._gates[int(request.match_info["number"])]
        match request.match_info["method"]:
            case "release":
                gate.release()
            case "reached" if isinstance(gate, Gate):
                await gate.reached()
            case "step" if isinstance(gate, Hold):
                await gate.step(int((await _body(request)).get("events", 1)))
            case method:
                return _json({"error": f"no {method}"}, 404)
        return _json({})
