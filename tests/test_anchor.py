"""When the web_search anchor is added, and what it looks like."""

from __future__ import annotations

from typing import Any

import pytest

from addon.protocol.anchor import inject

READ: dict[str, Any] = {"type": "function", "name": "read"}
ANCHOR = {"type": "web_search", "external_web_access": False, "search_content_types": ["text", "image"]}


def test_the_anchor_is_the_last_tool() -> None:
    assert inject([READ, {"type": "custom", "name": "patch"}], None) == (
        [READ, {"type": "custom", "name": "patch"}, ANCHOR],
        True,
    )


@pytest.mark.parametrize("choice", [None, "auto", "none", {"type": "function", "name": "read"}])
def test_the_anchor_goes_with_choices_that_cannot_force_a_search(choice: object) -> None:
    assert inject([READ], choice)[1]


def test_other_hosted_tools_do_not_replace_it() -> None:
    assert inject([READ, {"type": "image_generation"}], None)[1]


@pytest.mark.parametrize(
    ("tools", "choice", "enabled"),
    [
        pytest.param([], None, True, id="no tools"),
        pytest.param([READ, {"type": "web_search"}], None, True, id="the client searches itself"),
        pytest.param(
            [READ, {"type": "function", "name": "web_search"}], None, True, id="a function so called"
        ),
        pytest.param([READ], "required", True, id="required could force a search"),
        pytest.param([READ], None, False, id="switched off"),
    ],
)
def test_not_added(tools: list[dict[str, Any]], choice: object, enabled: bool) -> None:
    assert inject(tools, choice, enabled=enabled) == (tools, False)


def test_the_clients_list_is_not_changed() -> None:
    tools = [READ]
    inject(tools, None)
    assert tools == [READ]
