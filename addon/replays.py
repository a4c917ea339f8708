"""
What went upstream, made visible: the request on its flow, and each failed attempt as a flow of its own.

A failed attempt is loaded like a flow from a file, marked as replayed: it appears in mitmweb's list and in
mitmdump's, and is saved with `-w`, right beside the flow that the client saw succeed.

The rule: neither the request nor the attempt carries a token. They show what was sent, less who sent it.
"""

import asyncio
from urllib.parse import urlsplit

from mitmproxy import ctx, http
from mitmproxy.connection import Server

from addon.call import Attempt
from addon.protocol import errors
from addon.virtual_server import CLAIMED


def show(request: http.Request, url: str, headers: dict[str, str], body: bytes) -> None:
    """Replace a client's request by the one that goes upstream; `headers` are those without the account's."""
    parts = urlsplit(url)
    shown = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    shown += [(b"host", parts.netloc.encode()), (b"content-length", b"%d" % len(body))]
    data = (
        request.data
    )  # the setters of a request keep its headers in step, at some cost; here they are all new
    data.method, data.scheme, data.path = b"POST", parts.scheme.encode(), parts.path.encode()
    data.host, data.port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    data.authority = b""
    data.headers, data.content = http.Headers(shown), body


def failed_attempt(flow: http.HTTPFlow, attempt: Attempt) -> http.HTTPFlow:
    """The flow of one account's refusal."""
    copy: http.HTTPFlow = flow.copy()
    copy.is_replay = "request"
    copy.live = False
    copy.error = None
    copy.metadata = {name: value for name, value in flow.metadata.items() if name != CLAIMED}
    copy.server_conn = Server(address=(flow.request.host, flow.request.port))
    copy.comment = f"{attempt.account.name} answered {attempt.status}: {attempt.failure.message}"
    headers = {name: value for name, value in attempt.headers.items() if name.lower().startswith("x-codex-")}
    copy.response = http.Response.make(
        attempt.status, errors.body(attempt.failure), headers | {"content-type": "application/json"}
    )
    return copy


def load(flow: http.HTTPFlow, attempt: Attempt) -> asyncio.Task[None]:
    """Show a refusal to whoever watches the flows."""
    return asyncio.create_task(ctx.master.load_flow(failed_attempt(flow, attempt)))
