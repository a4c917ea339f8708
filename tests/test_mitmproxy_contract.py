"""
What the addon relies on in mitmproxy without being promised it.

When a new mitmproxy moves one of these, this file fails and names it, instead of a request failing somewhere deep.
"""

import asyncio
import inspect
from pathlib import Path

from mitmproxy import options
from mitmproxy.addons.next_layer import NextLayer
from mitmproxy.connection import Server
from mitmproxy.proxy.layers.http import (
    GetHttpConnection,
    HttpLayer,
    HttpStream,
    _base,
    _events,
    _http2,
    _http_h2,
)
from mitmproxy.proxy.server import ConnectionHandler
from mitmproxy.tools.dump import DumpMaster

from addon.own_ca import process_start


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_the_http_layer_has_the_methods_that_are_overridden() -> None:
    assert parameters(HttpLayer.get_connection) == ["self", "event", "reuse"]
    assert parameters(HttpLayer.make_stream) == ["self", "stream_id"]
    assert parameters(HttpLayer.event_to_child) == ["self", "child", "event"]
    assert parameters(HttpLayer._handle_event) == ["self", "event"]
    assert parameters(HttpStream.check_body_size) == ["self", "request"]
    assert parameters(HttpStream.__init__) == ["self", "context", "stream_id"]


def test_the_http_layer_keeps_its_state_where_it_is_looked_for() -> None:
    annotations = HttpLayer.__annotations__
    assert {"connections", "streams", "command_sources"} <= set(annotations)
    assert "request_body_buf" in HttpStream.__annotations__


def test_a_connection_request_carries_the_marker() -> None:
    assert [name for name in GetHttpConnection.__dataclass_fields__ if name not in ("blocking",)][:3] == [
        "address",
        "tls",
        "via",
    ]


def test_the_marker_survives_on_a_server() -> None:
    server = Server(address=("api.openai.com", 443), via=("openai-auth", ("flow", 0)))  # type: ignore[arg-type]
    assert server.via
    assert server.via[1][0] == "flow"


def test_the_events_of_a_connection_take_what_they_are_given() -> None:
    assert list(_events.ResponseHeaders.__dataclass_fields__)[:2] == ["stream_id", "response"]
    assert list(_events.ResponseData.__dataclass_fields__)[:2] == ["stream_id", "data"]
    assert list(_events.ResponseProtocolError.__dataclass_fields__)[:3] == ["stream_id", "message", "code"]
    assert parameters(_base.HttpConnection.__init__) == ["self", "context", "conn"]


def test_an_http2_connection_shows_what_it_holds_back() -> None:
    assert "h2_conn" in _http2.Http2Connection.__annotations__
    assert issubclass(_http2.Http2Server, _http2.Http2Connection)
    assert "stream_buffers" in _http_h2.BufferedH2Connection.__annotations__
    assert _http_h2.SendH2Data._fields[0] == "data"


def test_the_connection_handler_takes_events_and_drains() -> None:
    assert parameters(ConnectionHandler.server_event) == ["self", "event"]
    assert inspect.iscoroutinefunction(ConnectionHandler.server_event)
    assert inspect.iscoroutinefunction(ConnectionHandler.drain_writers)


async def test_the_addons_have_their_names_and_come_in_this_order(tmp_path: Path) -> None:
    master = DumpMaster(options.Options(confdir=str(tmp_path)), with_termlog=False, with_dumper=False)
    assert isinstance(master.addons.get("nextlayer"), NextLayer)
    assert master.addons.get("proxyserver").connections == {}
    assert callable(master.addons.get("tlsconfig").configure)
    names = [type(addon).__name__ for addon in master.addons.chain]
    assert names.index("ScriptLoader") < names.index("NextLayer")
    for name in ("listen_host", "connection_strategy", "allow_hosts", "confdir", "stream_large_bodies"):
        assert name in master.options
    await asyncio.sleep(0)


def test_the_process_start_is_before_now_and_after_the_machine_booted() -> None:
    import time

    assert time.time() - 3600 < process_start() <= time.time()
