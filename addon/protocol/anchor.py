"""The web_search anchor: one hosted tool that keeps the backend's prompt cache from slipping.

With only function tools, requests that continue a tool loop lose the whole cached prefix now and then
(8–20 % of them, as measured by the model project, on every transport); one `web_search` tool, put last, cures
it. The client did not ask for it, so `Asked.anchored` tells the answer side to hide searches.

The rule: never where the model could pick the search instead of what the client wants. Hence not under
`tool_choice: "required"`, and not beside a function of the client's that is itself called web_search.
"""

from __future__ import annotations

from typing import Any, Final

ANCHOR: Final[dict[str, Any]] = {
    "type": "web_search",
    "external_web_access": False,
    "search_content_types": ["text", "image"],
}


def inject(
    tools: list[dict[str, Any]], tool_choice: object, *, enabled: bool = True
) -> tuple[list[dict[str, Any]], bool]:
    """`tools` with the anchor as last element and True, or the same list and False.

    tools: normalised tools, may be empty; tool_choice: the client's, None if absent.
    """
    if not enabled or not tools or tool_choice == "required":
        return tools, False
    for tool in tools:
        if tool.get("type") == "web_search" or tool.get("name") == "web_search":
            return tools, False
    return [*tools, ANCHOR], True
