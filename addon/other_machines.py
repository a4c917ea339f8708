"""
What other machines may have done here: OpenAI's API, and no more.

mitmproxy is a proxy for whoever reaches its port. Beyond loopback that would lend everybody on the network this
machine's place in it, its own services included.

The rule: another machine's request goes to api.openai.com or nowhere, unless mitmproxy's `proxyauth` asks who it is.
"""

from mitmproxy import ctx, http
from mitmproxy.addons.proxyauth import is_http_proxy
from mitmproxy.connection import Client

from addon.intercept import refuse, sent_to_us
from addon.options import loopback
from addon.protocol import errors
from certs.authority import HOST


class OtherMachines:
    """The addon. It stands before `Intercept`."""

    def http_connect(self, flow: http.HTTPFlow) -> None:
        if restricted(flow) and (flow.request.host.lower(), flow.request.port) != (HOST, 443):
            turn_away(flow)

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        if flow.is_replay or flow.error or flow.response or not restricted(flow):
            return
        # Not `pretty_host`: the Host header does not say where a request goes.
        if flow.request.host.lower() != HOST and not sent_to_us(flow):
            turn_away(flow)


def restricted(flow: http.HTTPFlow) -> bool:
    """Whether a flow came to the proxy from another machine, without a password."""
    return not from_here(flow.client_conn) and is_http_proxy(flow) and not ctx.options.proxyauth


def from_here(client: Client) -> bool:
    """Whether a client runs on this machine, whichever of its addresses it uses."""
    return client.peername[0] == client.sockname[0] or loopback(client.peername[0])


def turn_away(flow: http.HTTPFlow) -> None:
    """Answer that the flow's destination is not for its client."""
    trouble = (
        f"For other machines this proxy leads to {HOST}:443 only. Let this client reach other hosts without it "
        "(NO_PROXY, or a base URL instead of HTTPS_PROXY), or start the proxy with a password (--proxyauth)."
    )
    refuse(flow, errors.refuse(403, trouble, code="foreign_destination").failure)
