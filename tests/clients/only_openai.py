"""An addon for the tests' mitmdump: no client reaches anything but api.openai.com and this machine.

Clients look for updates, price lists and places for their telemetry. None of that may leave a test, and none of it
may be needed for an answer."""

from mitmproxy.proxy.server_hooks import ServerConnectionHookData


def server_connect(data: ServerConnectionHookData) -> None:
    host = data.server.address[0] if data.server.address else ""
    if host not in ("127.0.0.1", "localhost"):
        data.server.error = f"a test does not reach {host}"
