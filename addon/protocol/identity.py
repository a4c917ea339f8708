"""Who asks, and in which conversation: session key, turn, and the headers that carry them.

The backend's prompt cache follows the `session-id` header. Without a stable value about half of all cached
tokens are lost, with one about 99 % are found, by several independent measurements; so one thread id per
conversation stands in every place where the official client puts it, and clients that name no session get a
key derived from how their conversation begins.

The rule: one turn id per user turn. One that changes inside a tool loop, or stays over several turns, costs
cache hits. A resend of the same request, to another account too, keeps it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from addon.protocol.wire_json import dump

# What clients call a conversation, in the order of how sure we are of it. OpenCode sends the first four, the
# Codex CLI `session-id` and `thread-id`, pi `session_id`. `x-client-request-id` is not among them: it repeats one
# of these, or names a single request.
SESSION_HEADERS: Final = (
    "x-session-affinity",
    "x-opencode-session",
    "x-session-id",
    "session-id",
    "session_id",
    "conversation_id",
    "thread-id",
    "x-conversation-id",
)
_SESSION_METADATA: Final = ("sessionid", "threadid", "conversationid")
_SNAPSHOT: Final = re.compile(r"-(\d{4}-\d{2}-\d{2}|latest)\Z")
_INSTALLATION: Final = "x-codex-installation-id"
_WINDOW: Final = "x-codex-window-id"
# Entries of a native client's `client_metadata` that name its own turn; ours has another.
_CLIENTS_TURN: Final = frozenset(
    {
        "session_id",
        "thread_id",
        "turn_id",
        "root_turn_id",
        "parent_turn_id",
        "x-codex-parent-thread-id",
        "x-codex-turn-metadata",
        "x-codex-turn-state",
        "x-codex-ws-stream-request-start-ms",
    }
)


@dataclass(frozen=True, slots=True)
class Turn:
    """Where a request stands.

    thread_id: UUIDv7 of the conversation. turn_id: UUIDv7 of the user turn. started_ms: epoch milliseconds
    when that turn began. installation_id: UUIDv4 of this process.
    """

    thread_id: str
    turn_id: str
    started_ms: int
    installation_id: str

    @property
    def window_id(self) -> str:
        """The context window; always the first, since compaction is the client's."""
        return f"{self.thread_id}:0"


@dataclass(frozen=True, slots=True)
class Identity:
    """How this program names itself. `version` is the protocol version that decides which models are served;
    the originator is the first segment of the user agent. beta_features: a comma list, may be empty."""

    originator: str
    user_agent: str
    version: str
    beta_features: str = ""


def request_headers(
    turn: Turn, identity: Identity, *, lite: bool, kind: str = "turn", turn_state: str | None = None
) -> dict[str, str]:
    """The request headers, all but `authorization` and `chatgpt-account-id`, in the official client's order.

    kind: see `Shaped.kind`. turn_state: the `x-codex-turn-state` of an earlier answer of the same turn and
    account. Compression is declined: an event stream is repaired frame by frame, as it comes.
    """
    result = {
        "version": identity.version,
        "x-codex-beta-features": identity.beta_features,
        "x-codex-turn-state": turn_state or "",
        "x-codex-window-id": turn.window_id,
        "x-codex-turn-metadata": turn_metadata(turn, kind),
        "x-openai-internal-codex-responses-lite": "true" if lite else "",
        "x-client-request-id": turn.thread_id,
        "session-id": turn.thread_id,
        "thread-id": turn.thread_id,
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "originator": identity.originator,
        "user-agent": identity.user_agent,
    }
    return {name: value for name, value in result.items() if value}


def turn_metadata(turn: Turn, kind: str) -> str:
    """The JSON text of `x-codex-turn-metadata`, its members in the one order the backend has always seen."""
    return orjson.dumps(
        {
            "session_id": turn.thread_id,
            "thread_id": turn.thread_id,
            "thread_source": "user",
            "turn_id": turn.turn_id,
            "sandbox": "seccomp",
            "turn_started_at_unix_ms": turn.started_ms,
            "request_kind": kind,
            "window_id": turn.window_id,
        }
    ).decode()


def client_metadata(value: object) -> dict[str, str]:
    """The entries of a client's `client_metadata` that may travel on: texts that do not name its own turn."""
    if not isinstance(value, dict):
        return {}
    return {
        key: entry
        for key, entry in value.items()
        if isinstance(entry, str) and key not in _CLIENTS_TURN and not key.startswith("ws_request_header_")
    }


def own_metadata(turn: Turn) -> dict[str, str]:
    """Our entries of `client_metadata`."""
    return {_INSTALLATION: turn.installation_id, _WINDOW: turn.window_id}


def session_key(
    headers: Mapping[str, str], body: Mapping[str, Any], *, client: str, chain: str | None = None
) -> str:
    """The key of the conversation a request belongs to: 64 hex digits, whatever the client sent.

    headers: the client's, case-insensitive or in lower case; body: its parsed body, of any API; client: who it
    is (a digest of its key, or its address); chain: the session key stored with the response that
    `previous_response_id` names. Asked in the order of certainty: the chain, a session header, the prompt cache
    key, a conversation id, metadata, and last the beginning of the conversation.
    """
    if chain:
        return chain
    for name in SESSION_HEADERS:
        value = headers.get(name)
        if value and value.strip():
            return _hash(value.strip())
    for named in _named_in_body(body):
        if isinstance(named, str) and named.strip():
            return _hash(named.strip())
    return _fingerprint(body, client)


def _named_in_body(body: Mapping[str, Any]) -> Iterator[object]:
    yield body.get("prompt_cache_key")
    conversation = body.get("conversation")
    yield conversation.get("id") if isinstance(conversation, dict) else conversation
    metadata = body.get("metadata")
    if isinstance(metadata, dict):
        plain = {re.sub(r"[^a-z]", "", key.lower()): value for key, value in metadata.items()}
        for name in _SESSION_METADATA:
            yield plain.get(name)


def _fingerprint(body: Mapping[str, Any], client: str) -> str:
    """How a conversation begins. Two that begin alike share a key, which the cache does not mind."""
    given = body.get("input")
    items = given if given is not None else body.get("messages")
    if items is None:
        items = [{"role": "user", "content": body.get("prompt")}]
    elif isinstance(items, str):
        items = [{"role": "user", "content": items}]
    messages = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    first = next((message for message in messages if message.get("role") == "user"), {})
    system = []
    for message in messages:
        if message.get("role") not in ("system", "developer"):
            break
        system.append(_text(message.get("content")))
    model = body.get("model")
    family = _SNAPSHOT.sub("", model.lower()) if isinstance(model, str) else ""
    start = [client, family, body.get("instructions"), system, _tool_names(body), _text(first.get("content"))]
    return hashlib.sha256(dump(start)).hexdigest()


def _tool_names(body: Mapping[str, Any]) -> list[str]:
    """Sorted, for a client that lists its tools in changing order keeps its conversation."""
    given = body.get("tools") or body.get("functions")
    names = []
    for tool in given if isinstance(given, list) else ():
        if isinstance(tool, dict):
            inner = tool.get("function")
            name = (
                tool.get("name")
                or (inner.get("name") if isinstance(inner, dict) else None)
                or tool.get("type")
            )
            names.append(str(name))
    return sorted(names)


def _text(content: object) -> str:
    """The text of a message, however it is wrapped; its JSON when it has none (an image alone)."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]
    return "\n".join(texts) if texts else dump(content).decode()


def item_digests(input: list[Any]) -> list[int]:
    """A digest of each item, equal for items that are the same bytes upstream.

    Good in this process only: Python's own hash of the bytes, since a whole history is hashed with every request.
    Raises Refused (400) for an item nested too deeply.
    """
    return [hash(dump(item)) for item in input]


def adds_user_message(items: Sequence[dict[str, Any]]) -> bool:
    """Whether there is a message of the user or developer among the items that were added to a history."""
    return any(item.get("role") in ("user", "developer", "system") for item in items)


def _hash(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
