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
    answer = unserved.answer(
        request.method, request.path, request.headers.get("authorization"), direct=direct, policy=policy
    )
    if answer is not None:
        flow.metadata[CLAIMED] = ANSWERED  # an upload that nobody reads is neither kept nor streamed
        request.stream = False
        flow.response = http.Response.make(answer.status, answer.body, dict(answer.headers))
        if answer.status == 204:
            del flow.response.headers["content-length"]
        return
    flow.metadata[PASSED] = True
    request.stream = True
    if direct:
        request.path = unserved.target(request.path)
        request.host_header = HOST
    if request.scheme != "https":
        request.scheme, request.host, request.port = "https", HOST, 443


def answered(flow: http.HTTPFlow) -> None:
    """The head of the real API's answer is there."""
    if flow.response and flow.response.status_code != 101:
        flow.response.stream = True
