"""
Who is served at all, decided from the head of a request alone: nothing is kept of a body that is sure to be refused.

The rule: no web page in the user's browser is served. A page of another origin says so, and cannot send an
`Authorization` header without our leave. A page whose own name was pointed at us (DNS rebinding) can send any header,
and its origin is ours; but it calls us by that name, and does not have a client key.
"""

import socket
from urllib.parse import urlsplit

from mitmproxy import http

from accounts.client_keys import NotServed
from addon.generation import CLIENT_KEY
from addon.options import loopback
from addon.protocol import errors
from addon.protocol.real_key import bearer
from addon.services import Services
from certs.authority import HOST

LOCAL_DOMAINS = frozenset({"internal", "lan", "local", "localhost"})
"""The last labels of names that nobody can register: .internal (ICANN; host.docker.internal is one), .local (RFC 6762),
.localhost (RFC 6761), and what many routers call their network."""

OWN_NAMES = frozenset({HOST, socket.gethostname().lower()})


async def admit(flow: http.HTTPFlow, services: Services) -> None:
    """Notes on the flow which client key it came with, if there are any. Raises Refused."""
    refuse_pages(flow.request)
    require_key(flow.request)
    await services.ready()
    try:
        key = services.keys.admit(bearer(flow.request.headers["authorization"]) or "")
    except NotServed as refusal:
        raise errors.refuse(401, str(refusal), code="invalid_api_key") from None
    if key:
        flow.metadata[CLIENT_KEY] = key
    else:
        refuse_foreign_names(flow.request)


def refuse_pages(request: http.Request) -> None:
    """Raises Refused for a page of some web site."""
    origin = urlsplit(request.headers.get("origin", ""))
    if origin.scheme not in ("http", "https"):  # no browser, or a program's own page
        return
    host = origin.hostname or ""
    if host != HOST and not loopback(host):
        raise errors.refuse(
            403,
            f"Web pages are not served here, and this request comes from {origin.netloc}.",
            code="foreign_origin",
        )


def require_key(request: http.Request) -> None:
    """Raises Refused for a request without any bearer token."""
    if bearer(request.headers.get("authorization")) is None:
        raise errors.refuse(
            401,
            "This proxy wants an Authorization header with a bearer token. Set OPENAI_API_KEY to any value, "
            "such as `any`: your ChatGPT login is added by the proxy.",
            code="missing_authorization",
        )


def refuse_foreign_names(request: http.Request) -> None:
    """Raises Refused for a request to a name that the owner of some domain could have pointed at us."""
    name = request.host.lower().rstrip(".")
    last = name.rpartition(".")[2]
    # A host whose last label is a number is an address (WHATWG URL, 3.5); a name without a dot is nobody's domain.
    if last == name or last.isdigit() or ":" in name or last in LOCAL_DOMAINS or name in OWN_NAMES:
        return
    raise errors.refuse(
        403,
        f"{name} could be a web site's name for this proxy, so it is not served. Use the address, "
        "or a client key (`openai-auth keys add LABEL`), which is served by any name.",
        code="foreign_host",
    )
