"""What a client's request becomes under the settings."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import orjson
from mitmproxy.test import tutils

from accounts.settings import Settings
from addon.continuity import Continuity
from addon.protocol.routes import Route
from addon.reading import Reader, Reading


async def read(route: Route, body: dict[str, Any], **settings: Any) -> Reading:
    services: Any = SimpleNamespace(
        settings=Settings(**settings),
        pool=SimpleNamespace(accounts=[]),
        catalogue=SimpleNamespace(efforts=lambda model: ()),
        continuity=Continuity(),
    )
    request = tutils.treq(headers=[(b"authorization", b"Bearer any")], content=orjson.dumps(body))
    return await Reader(services).read(request, route, {"model": "gpt-5.5", **body})


async def test_a_speakers_name_stands_before_the_text_by_setting_only() -> None:
    body = {"messages": [{"role": "user", "name": "Ada", "content": "hi"}]}
    for settings, text in (({}, "hi"), ({"speakerNames": True}, "Ada: hi")):
        reading = await read(Route.CHAT, body, **settings)
        (item,) = reading.shapes[0].body["input"]
        assert item["content"] == [{"type": "input_text", "text": text}]
