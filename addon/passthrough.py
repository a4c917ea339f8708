"""
Requests for api.openai.com that we do not serve: on to the real API untouched, or answered here.

Which of the two is decided from the head of the request alone (addon/protocol/unserved.py), so that a passed-on body is
streamed in both directions and never held.

The rule: a passed-on request leaves over TLS, for api.openai.com, and with nothing on it that the client did not send.
"""

from mitmproxy import http

from addon.protocol import unserved
from addon.virtual_server import CLAIMED
from certs.authority import HOST

ANSWERED = "unserved"
"""In the place of a route's name on a flow that was answered here."""
PASSED = "openai_auth_passed"
"""The metadata member of a flow that goes on to the real API."""


def take(flow: http.HTTPFlow, policy: unserved.Policy, *, direct: bool) -> None:
    """Decide about a flow whose request has just begun. `direct`: it was sent to our own port."""
    request = flow.request
    words = unserved.answer(
        request.method, request.path, request.headers.get("authorization"), direct=direct, policy=policy
    )
    if words is not None:
        response = http.Response.make(words.status, words.body, dict(words.headers))
        if words.status == 204:
            del response.headers["content-length"]
        answer(flow, response)
        return
    flow.metadata[PASSED] = True
    request.stream = True
    if direct:
        request.path = unserved.target(request.path)
        request.host_header = HOST
    request.scheme, request.host, request.port = "https", HOST, 443


def answer(flow: http.HTTPFlow, response: http.Response) -> None:
    """Answer a flow here. An upload that nobody reads is neither kept nor streamed."""
    flow.metadata.setdefault(CLAIMED, ANSWERED)
    flow.request.stream = False
    flow.response = response


def answered(flow: http.HTTPFlow) -> None:
    """The head of the real API's answer is there."""
    if flow.response and flow.response.status_code != 101:
        flow.response.stream = True
