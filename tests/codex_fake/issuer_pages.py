"""The issuer's HTTP: token, revoke and device endpoints, and the pages a person sees.

Bodies may come as JSON or as a form. The pages are plain HTML with named buttons, so that a headless browser
can press them: `Approve`, `Deny`."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import orjson
from aiohttp import web

from .issuer import CLIENT_ID, Endpoint, Issuer
from .replies import Refused, Reply
from .scenario import Behaviour, stand

if TYPE_CHECKING:
    from .accounts import FakeAccount

Json = dict[str, Any]

REGISTERED = ("http://localhost:1455/auth/callback", "http://localhost:1457/auth/callback")
REAL_DEVICE_REDIRECT = "https://auth.openai.com/deviceauth/callback"


async def fields(request: web.Request) -> dict[str, str]:
    """The members of a JSON or form body, as text."""
    if request.content_type == "application/json":
        try:
            body = orjson.loads(await request.read())
        except orjson.JSONDecodeError:
            return {}
        return {name: str(value) for name, value in body.items()} if isinstance(body, dict) else {}
    return {name: str(value) for name, value in (await request.post()).items()}


def answer(reply: Reply) -> web.Response:
    return web.Response(
        status=reply.status,
        body=reply.encoded(),
        headers={**reply.headers, "content-type": reply.content_type},
    )


class IssuerPages:
    """Routes over an `Issuer`."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer

    def add_to(self, app: web.Application) -> None:
        app.router.add_post("/oauth/token", self.token)
        app.router.add_post("/oauth/revoke", self.revoke)
        app.router.add_get("/oauth/authorize", self.consent)
        app.router.add_post("/oauth/authorize", self.decide)
        app.router.add_post("/api/accounts/deviceauth/usercode", self.device_start)
        app.router.add_post("/api/accounts/deviceauth/token", self.device_poll)
        app.router.add_get("/codex/device", self.device_page)
        app.router.add_post("/codex/device", self.device_decide)

    async def _scripted(self, request: web.Request, endpoint: Endpoint, sent: dict[str, str]) -> web.Response:
        """Carry out `endpoint`, with whatever is scripted for it."""
        behaviour = self._issuer.script_queue.take(endpoint) or Behaviour()
        lost = behaviour.cut or behaviour.reply is not None
        if not behaviour.carried_out:
            await stand(behaviour)
        result = behaviour.reply
        if behaviour.carried_out or not lost:
            try:
                carried_out = Reply(200, self._carry_out(request, endpoint, sent, behaviour.omit))
            except Refused as refused:
                carried_out = refused.reply
            result = result or carried_out
        if behaviour.carried_out:
            await stand(behaviour)
        if behaviour.cut and request.transport is not None:
            request.transport.abort()
        return answer(result) if result is not None else web.Response()

    def _carry_out(
        self, request: web.Request, endpoint: Endpoint, sent: dict[str, str], omit: tuple[str, ...]
    ) -> Json:
        match endpoint:
            case "refresh":
                headers = {name.lower(): value for name, value in request.headers.items()}
                reason = sent.get("refresh_reason")
                return self._issuer.rotate(sent.get("refresh_token", ""), reason, headers, omit)
            case "exchange":
                return self._issuer.exchange(sent)
            case "device_start":
                return self._issuer.start_device()
            case "device_poll":
                redirect = self._device_redirect(request)
                return self._issuer.poll_device(
                    sent.get("device_auth_id", ""), sent.get("user_code", ""), redirect
                )
            case "revoke":
                self._issuer.revoke_token(sent.get("token", ""))
                return {}

    def _device_redirect(self, request: web.Request) -> str:
        return f"{request.url.origin()}/deviceauth/callback"

    async def token(self, request: web.Request) -> web.Response:
        sent = await fields(request)
        if sent.get("client_id") != CLIENT_ID:
            return answer(Reply(401, {"error": "invalid_client", "error_description": "Unknown client."}))
        if sent.get("redirect_uri") == REAL_DEVICE_REDIRECT:
            sent["redirect_uri"] = self._device_redirect(request)
        match sent.get("grant_type"):
            case "refresh_token":
                return await self._scripted(request, "refresh", sent)
            case "authorization_code":
                return await self._scripted(request, "exchange", sent)
        return answer(
            Reply(400, {"error": "unsupported_grant_type", "error_description": "Unsupported grant type."})
        )

    async def revoke(self, request: web.Request) -> web.Response:
        return await self._scripted(request, "revoke", await fields(request))

    async def device_start(self, request: web.Request) -> web.Response:
        return await self._scripted(request, "device_start", await fields(request))

    async def device_poll(self, request: web.Request) -> web.Response:
        return await self._scripted(request, "device_poll", await fields(request))

    # Pages

    def _redirect_problem(self, query: dict[str, str]) -> str | None:
        uri = query.get("redirect_uri", "")
        split = urlsplit(uri)
        lenient = self._issuer.lenient_ports and (split.scheme, split.hostname, split.path) == (
            "http",
            "localhost",
            "/auth/callback",
        )
        if uri not in REGISTERED and not lenient:
            return "authorize_hydra_invalid_request"
        if query.get("client_id") != CLIENT_ID or query.get("response_type") != "code":
            return "invalid_request"
        if query.get("code_challenge_method") != "S256" or not query.get("code_challenge"):
            return "invalid_request"
        return (
            None if query.get("state") and "openid" in query.get("scope", "").split() else "invalid_request"
        )

    async def consent(self, request: web.Request) -> web.Response:
        query = dict(request.query)
        problem = self._redirect_problem(query)
        if problem is not None:
            return page(f"<h1>Authentication error</h1><p id='error'>{problem}</p>", 400)
        hidden = "".join(
            f"<input type='hidden' name='{html.escape(name)}' value='{html.escape(value)}'>"
            for name, value in query.items()
        )
        return page(
            "<h1>Sign in to Codex with ChatGPT</h1>"
            f"<form method='post' action='/oauth/authorize'>{hidden}{self._choice()}{BUTTONS}</form>"
        )

    async def decide(self, request: web.Request) -> web.Response:
        sent = await fields(request)
        problem = self._redirect_problem(sent)
        account = self._chosen(sent)
        if problem is not None or account is None:
            return page(f"<h1>Authentication error</h1><p id='error'>{problem or 'no account'}</p>", 400)
        if sent.get("decision") != "approve":
            back = {"error": "access_denied", "error_description": "The user denied the request."}
        elif not account.entitled:
            back = {"error": "access_denied", "error_description": "missing_codex_entitlement"}
        else:
            back = {"code": self._issuer.code(account, sent["redirect_uri"], sent["code_challenge"])}
        target = f"{sent['redirect_uri']}?{urlencode({**back, 'state': sent['state']})}"
        return web.Response(status=302, headers={"location": target})

    async def device_page(self, request: web.Request) -> web.Response:
        code = html.escape(request.query.get("user_code", ""))
        return page(
            "<h1>Enter the code shown on your device</h1><form method='post' action='/codex/device'>"
            f"<input name='user_code' value='{code}' autofocus>{self._choice()}{BUTTONS}</form>"
        )

    async def device_decide(self, request: web.Request) -> web.Response:
        sent = await fields(request)
        account = self._chosen(sent) if sent.get("decision") == "approve" else None
        if not self._issuer.decide_device(sent.get("user_code", ""), account):
            return page("<h1>Unknown code</h1>", 404)
        return page(f"<h1>{'Signed in' if account else 'Declined'}</h1><p>You can close this page.</p>")

    def _chosen(self, sent: dict[str, str]) -> FakeAccount | None:
        accounts = self._issuer.accounts
        return accounts.get(sent.get("account", "")) or next(iter(accounts.values()), None)

    def _choice(self) -> str:
        options = "".join(
            f"<option value='{html.escape(name)}'{' selected' if name == self._issuer.login_as else ''}>"
            f"{html.escape(account.email)} ({html.escape(account.plan)})</option>"
            for name, account in self._issuer.accounts.items()
        )
        return f"<select name='account'>{options}</select>"


BUTTONS = (
    "<button name='decision' value='approve' id='approve'>Approve</button>"
    "<button name='decision' value='deny' id='deny'>Deny</button>"
)


def page(body: str, status: int = 200) -> web.Response:
    text = f"<!DOCTYPE html><html><head><title>OpenAI (fake)</title></head><body>{body}</body></html>"
    return web.Response(status=status, text=text, content_type="text/html")
