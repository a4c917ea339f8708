"""
An in-process server behind mitmproxy: the one file that touches the proxy's internals.

mitmproxy streams a response only from a server connection of its own. So a claimed flow gets one that is no
socket: `VirtualServer` is an `HttpConnection` layer as `Http1Client` is, but it speaks with an `Answerer`, an exchange.
mitmproxy's `HttpStream` talks to it as to any server, so streaming, filters, mitmweb, error hooks and
WebSockets all work as they are.

The bytes move by a pump, one task an exchange. It asks the exchange for the next bytes, hands an event to the
client's connection handler as mitmproxy's socket readers do, and waits until the client has taken them: that is
the whole back-pressure. No addon hook runs per event.

The rule: nothing here ever blocks a layer, and every exchange ends, in a response, an error or a `close`.

What this relies on in mitmproxy is pinned by tests/test_mitmproxy_contract.py.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol

from mitmproxy import ctx, http
from mitmproxy.connection import Connection, ConnectionState, Server
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    GetHttpConnection,
    GetHttpConnectionCompleted,
    HttpLayer,
    HTTPMode,
    HttpStream,
)
from mitmproxy.proxy.layers.http._base import HttpConnection, ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestData,
    RequestEndOfMessage,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._http2 import Http2Server
from mitmproxy.proxy.server import ConnectionHandler

logger = logging.getLogger(__name__)

VIRTUAL = "openai-auth"
"""The scheme in `server_conn.via` that marks a flow as ours: a connection request carries nothing else of it."""

CLAIMED = "openai_auth_route"
"""The flow's metadata member that names the route we serve it by."""

ORIGIN_FORM = "openai_auth_origin_form"
"""The metadata member of a flow whose request line named a path only: its client takes us for the server."""

BODY_LIMIT = 64 * 2**20
"""Bytes of a request body kept as they came; what comes after is let go and the client gets a 413."""

LOOK_EVERY = 5.0
"""Seconds between two looks for answers that are silent."""
SILENT_LOOKS = 3
"""Looks after which a silent answer gets a sign of life: after 10 to 15 seconds, before a reverse proxy or a client
gives it up."""

HTTP2_BUFFER = 256 * 2**10
"""Bytes mitmproxy may hold for an HTTP/2 client that stops reading, before the pump waits."""


class Answerer(Protocol):
    """One client request, seen from the proxy. `open` and `read` leave their result in the members."""

    response: http.Response | None
    """The head of the answer, once `open` has returned."""
    chunk: bytes
    """The next bytes of the answer, once `read` has returned; b"" ends it."""
    error: str | None
    """Set when the answer cannot be ended properly: the client's connection is cut."""
    upgraded: bool
    """The answer is a 101: what follows are WebSocket frames."""
    sign_of_life: bytes
    """What a client that waits for the next chunk may get meanwhile; b"": nothing."""

    async def open(self) -> None: ...
    async def read(self) -> None: ...
    def feed(self, data: bytes) -> None:
        """Bytes of WebSocket frames from the client, only after a 101."""

    def close(self) -> None:
        """Release the upstream at once. The client has its answer, or is gone."""


@dataclass
class Pumped(events.Event):
    """From the pump: the exchange has the next thing for its server."""

    server: "VirtualServer"


@dataclass
class Silent(Pumped):
    """From the pump: the exchange has had nothing for a while."""


class VirtualServer(HttpConnection):
    """One request, answered by an exchange."""

    def __init__(
        self,
        context: Context,
        exchange: Answerer,
        siblings: dict[Connection, layer.Layer],
        start: "Callable[[VirtualServer], None]",
    ) -> None:
        super().__init__(context, context.server)
        self.exchange = exchange
        self.siblings = siblings
        self.start = start
        self.stream_id = 0
        self.pump: asyncio.Task[None] | None = None
        self.layer: layer.Layer
        """The HTTP layer that has this server among its connections."""
        self.room = asyncio.Event()
        self.waiting = False
        """The pump waits for the exchange, not for the client."""
        self.looks = 0
        """Looks since the exchange last had something."""
        self.answered = False
        self.finished = False

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, Silent):
            if self.waiting and not self.finished:
                yield ReceiveHttp(ResponseData(self.stream_id, self.exchange.sign_of_life))
        elif isinstance(event, Pumped):
            yield from self.forward()
        elif isinstance(event, RequestData):
            if self.exchange.upgraded:
                self.exchange.feed(event.data)
        elif isinstance(event, RequestEndOfMessage):
            if not self.stream_id:
                self.stream_id = event.stream_id
                self.start(self)  # not by a hook: a hook asks every addon, and this concerns one
        elif isinstance(event, RequestProtocolError):  # the client is gone
            self.finish()

    def forward(self) -> layer.CommandGenerator[None]:
        """Hand on what the exchange has: its head, a chunk, or the end."""
        if self.finished:
            return
        exchange = self.exchange
        if exchange.error is not None:
            code = ErrorCode.GENERIC_SERVER_ERROR
            yield ReceiveHttp(ResponseProtocolError(self.stream_id, exchange.error, code))
            self.finish()
        elif not self.answered:
            assert exchange.response
            self.answered = True
            yield ReceiveHttp(ResponseHeaders(self.stream_id, exchange.response))
            if exchange.upgraded:  # a 101 ends its HTTP message at once; frames follow
                yield ReceiveHttp(ResponseEndOfMessage(self.stream_id))
        elif exchange.chunk:
            yield ReceiveHttp(ResponseData(self.stream_id, exchange.chunk))
        else:
            yield ReceiveHttp(ResponseEndOfMessage(self.stream_id))
            self.finish()

    def finish(self) -> None:
        """Forget this server and stop its exchange. May be called again, and from the pump itself."""
        self.finished = True
        self.siblings.pop(self.conn, None)
        if self.pump and self.pump is not asyncio.current_task():
            self.pump.cancel()
        self.exchange.close()

    async def drained(self) -> None:
        """Wait while mitmproxy holds much for our client because its HTTP/2 window is full."""
        client = self.siblings.get(self.context.client)
        if not isinstance(client, Http2Server):
            return
        buffers = client.h2_conn.stream_buffers
        while sum(len(part.data) for part in buffers.get(self.stream_id, ())) > HTTP2_BUFFER:
            self.room.clear()
            await self.room.wait()


class VirtualStream(HttpStream):
    """HttpStream whose claimed flows are never streamed to a server by a size option, and never grow past the limit."""

    def check_invalid(self, request: bool) -> layer.CommandGenerator[bool]:
        # The one place where a request line can still be seen as it came: later it always has a host.
        data = self.flow.request
        if request and self.mode is HTTPMode.regular and not data.host and data.method != "CONNECT":
            self.flow.metadata[ORIGIN_FORM] = True
            if not data.host_header:  # HTTP/1.0, or a stray preface: it can only mean us
                data.data.host, data.data.port = self.context.client.sockname[:2]
                data.scheme = "http"
        return (yield from super().check_invalid(request))

    def check_body_size(self, request: bool) -> layer.CommandGenerator[bool]:
        if CLAIMED not in self.flow.metadata:
            return (yield from super().check_body_size(request))
        if request and self.flow.response:  # answered from its head: nobody reads the rest
            self.request_body_buf.clear()
        elif request and len(self.request_body_buf) > BODY_LIMIT:
            self.flow.metadata["openai_auth_too_large"] = True
            self.request_body_buf.clear()
        return False


class VirtualHttpLayer(HttpLayer):
    """HttpLayer that hands our flows a VirtualServer and leaves all others alone."""

    addon: "VirtualServers"

    def make_stream(self, stream_id: int) -> layer.CommandGenerator[None]:
        self.streams[stream_id] = VirtualStream(self.context.fork(), stream_id)
        yield from self.event_to_child(self.streams[stream_id], events.Start())

    def get_connection(self, event: GetHttpConnection, *, reuse: bool = True) -> layer.CommandGenerator[None]:
        if not event.via or event.via[0] != VIRTUAL:
            yield from super().get_connection(event, reuse=reuse)
            return
        context = self.context.fork()
        context.server = Server(address=event.address)
        context.server.state = ConnectionState.OPEN
        context.server.timestamp_start = time.time()
        exchange = self.addon.exchanges.pop(event.via[1][0])
        server = VirtualServer(context, exchange, self.connections, self.addon.start)
        server.layer = self
        self.connections[context.server] = server
        stream = self.command_sources.pop(event)
        yield from self.event_to_child(stream, GetHttpConnectionCompleted(event, (context.server, None)))

    def _handle_event(self, event: events.Event) -> Generator[commands.Command, Any, None]:
        if not isinstance(event, Pumped):
            yield from super()._handle_event(event)
            if isinstance(event, events.DataReceived):
                self.open_windows()
        elif event.server.layer is self:
            yield from self.event_to_child(event.server, event)
        else:  # we are the layer of the CONNECT around the one that has it
            for stream in list(self.streams.values()):
                yield from self.event_to_child(stream, event)

    def open_windows(self) -> None:
        """The client sent something, perhaps room in its HTTP/2 windows: wake the pumps that wait for it."""
        if isinstance(self.connections.get(self.context.client), Http2Server):
            for server in self.connections.values():
                if isinstance(server, VirtualServer):
                    server.room.set()


class VirtualServers:
    """The addon: gives exchanges to the flows that were claimed for them, and pumps."""

    def __init__(self) -> None:
        self.exchanges: dict[str, Answerer] = {}  # by flow id, until its connection is made
        self.servers: set[VirtualServer] = set()
        self.signs: set[asyncio.Task[None]] = set()
        self.looking: asyncio.TimerHandle | None = None

    def claim(self, flow: http.HTTPFlow, exchange: Answerer) -> None:
        """Let `exchange` answer `flow`. To be called in the flow's `request` hook."""
        self.exchanges[flow.id] = exchange
        # A Server of its own: flow.server_conn is shared by all flows of a client connection.
        flow.server_conn = Server(
            address=(flow.request.host, flow.request.port),
            via=(VIRTUAL, (flow.id, 0)),  # type: ignore[arg-type]  # the scheme is ours
        )

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        # Scripts come before mitmproxy's own NextLayer in the addon chain, so ask it first.
        ctx.master.addons.get("nextlayer").next_layer(nextlayer)
        for candidate in [*nextlayer.context.layers, nextlayer.layer]:
            if type(candidate) is HttpLayer:
                candidate.__class__ = VirtualHttpLayer
                candidate.addon = self  # type: ignore[attr-defined]  # of the class it now has

    def error(self, flow: http.HTTPFlow) -> None:
        if exchange := self.exchanges.pop(
            flow.id, None
        ):  # the client left before we were asked for a connection
            exchange.close()

    def start(self, server: VirtualServer) -> None:
        """The request is complete: begin to pump, once the layers are done with this event."""
        self.servers.add(server)
        loop = asyncio.get_running_loop()
        if self.looking is None:
            self.looking = loop.call_later(LOOK_EVERY, self.look)
        server.pump = asyncio.Task(self.pump(server), loop=loop, name=f"exchange {server.stream_id}")
        # Not in the pump itself: one that is cancelled before its first step never runs.
        server.pump.add_done_callback(lambda _: self.servers.discard(server))

    async def pump(self, server: VirtualServer) -> None:
        """Move one exchange's answer to its client."""
        exchange, event = server.exchange, Pumped(server)
        client = server.context.client
        handler: ConnectionHandler | None = ctx.master.addons.get("proxyserver").connections.get(client.id)
        try:
            if handler is None:  # the client left between its request and this task
                return
            await exchange.open()
            await handler.server_event(event)
            while not server.finished:
                server.looks = 0
                server.waiting = True
                await exchange.read()
                server.waiting = False
                await handler.server_event(event)
                if exchange.chunk:
                    await handler.drain_writers()
                    if client.alpn == b"h2":
                        await server.drained()
        except Exception:
            logger.exception("An exchange broke; its client's connection is cut.")
            exchange.error = "The proxy failed to answer this request; its log says why."
            if handler is not None:
                await handler.server_event(event)
        finally:
            server.finish()

    def look(self) -> None:
        """Send signs of life where an exchange is silent; one timer for all, as long as there are any."""
        self.looking = None
        for server in self.servers:
            if not (server.waiting and server.exchange.sign_of_life):
                continue
            server.looks += 1
            if server.looks >= SILENT_LOOKS:
                server.looks = 0
                handler = ctx.master.addons.get("proxyserver").connections.get(server.context.client.id)
                if handler:
                    sign = asyncio.create_task(handler.server_event(Silent(server)))
                    self.signs.add(sign)
                    sign.add_done_callback(self.signs.discard)
        if self.servers:
            self.looking = asyncio.get_running_loop().call_later(LOOK_EVERY, self.look)
