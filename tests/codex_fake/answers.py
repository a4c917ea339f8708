"""From a plan to the events of the Responses stream, in the order and with the members of the real backend.

Events are made one at a time, when the socket wants the next one: an answer of any size costs no memory. The
terminal event is complete here; leaving things out of it is a matter of `manners`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from . import ciphertext
from .plan import Item, Plan

Json = dict[str, Any]

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


@dataclass(slots=True)
class Answer:
    """One generation. `number` makes its ids; `tokens` are (input, cached)."""

    number: int
    account_id: str
    body: Json
    plan: Plan
    tokens: tuple[int, int]
    created_at: int
    output: list[Json] = field(default_factory=list)
    _sequence: int = -1
    _output_tokens: int = 0
    _reasoning_tokens: int = 0

    @property
    def id(self) -> str:
        return f"resp_{self.number:048x}"

    def events(self) -> Iterator[Json]:
        """All events of the answer, the terminal one last."""
        yield self._event("response.created", response=self.response("in_progress"))
        yield self._event("response.in_progress", response=self.response("in_progress"))
        if (self.body.get("reasoning") or {}).get("effort") != "none":
            yield from self._reasoning()
        for item in self.plan.items:
            yield from self._item(item)
        if self.plan.incomplete:
            yield self._event("response.incomplete", response=self.response("incomplete"))
        else:
            yield self._event("response.completed", response=self.response("completed"))

    def response(self, status: str) -> Json:
        """The Response object as it stands."""
        body, done = self.body, status in ("completed", "incomplete")
        reasoning = body.get("reasoning") or {}
        details = {"reason": self.plan.incomplete} if status == "incomplete" else None
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created_at,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": details,
            "instructions": body.get("instructions"),
            "max_output_tokens": None,
            "max_tool_calls": None,
            "model": body["model"],
            "output": list(self.output) if done else [],
            "parallel_tool_calls": body.get("parallel_tool_calls", True),
            "previous_response_id": None,
            "prompt_cache_key": body.get("prompt_cache_key"),
            "reasoning": {"effort": reasoning.get("effort", "medium"), "summary": reasoning.get("summary")},
            "safety_identifier": "user-fake",
            "service_tier": "default" if done else "auto",
            "store": False,
            "temperature": 1.0,
            "text": {"format": {"type": "text"}, "verbosity": "medium", **(body.get("text") or {})},
            "tool_choice": body.get("tool_choice", "auto"),
            "tools": body.get("tools") or [],
            "top_logprobs": 0,
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": self._usage() if done else None,
            "user": None,
            "metadata": {},
        }

    def _usage(self) -> Json:
        given, cached = self.tokens
        return {
            "input_tokens": given,
            "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
            "output_tokens": self._output_tokens,
            "output_tokens_details": {"reasoning_tokens": self._reasoning_tokens},
            "total_tokens": given + self._output_tokens,
        }

    def _event(self, type: str, **members: Any) -> Json:
        self._sequence += 1
        return {"type": type, "sequence_number": self._sequence, **members}

    def _id(self, prefix: str) -> str:
        return f"{prefix}_{self.number:040x}{len(self.output):08x}"

    def _added(self, item: Json) -> Json:
        return self._event("response.output_item.added", output_index=len(self.output), item=item)

    def _done(self, item: Json) -> Json:
        event = self._event("response.output_item.done", output_index=len(self.output), item=item)
        self.output.append(item)
        return event

    def _reasoning(self) -> Iterator[Json]:
        item_id, index = self._id("rs"), len(self.output)
        self._reasoning_tokens += 32
        self._output_tokens += 32
        yield self._added({"id": item_id, "type": "reasoning", "summary": []})
        summary: list[Json] = []
        if (self.body.get("reasoning") or {}).get("summary"):
            text = self.plan.thinks
            where = {"item_id": item_id, "output_index": index, "summary_index": 0}
            part = {"type": "summary_text", "text": ""}
            yield self._event("response.reasoning_summary_part.added", **where, part=part)
            half = len(text) // 2
            for delta in (text[:half], text[half:]):
                yield self._event("response.reasoning_summary_text.delta", **where, delta=delta)
            yield self._event("response.reasoning_summary_text.done", **where, text=text)
            part = {"type": "summary_text", "text": text}
            yield self._event("response.reasoning_summary_part.done", **where, part=part)
            summary = [part]
        item: Json = {"id": item_id, "type": "reasoning", "summary": summary}
        if "reasoning.encrypted_content" in (self.body.get("include") or ()):
            item["encrypted_content"] = ciphertext.seal(self.account_id, item_id)
        yield self._done(item)

    def _item(self, item: Item) -> Iterator[Json]:
        match item.kind:
            case "message" | "refusal":
                return self._message(item)
            case "function_call":
                return self._call(
                    item, "fc", "function_call", "arguments", "response.function_call_arguments"
                )
            case "custom_tool_call":
                return self._call(item, "ctc", "custom_tool_call", "input", "response.custom_tool_call_input")
            case "web_search_call":
                return self._search(item)
            case "image":
                return self._image()
            case "compaction":
                sealed = ciphertext.seal(self.account_id, self._id("cmp"))
                made = {"id": self._id("cmp"), "type": "compaction", "encrypted_content": sealed}
                return iter((self._added(made), self._done(made)))

    def _message(self, item: Item) -> Iterator[Json]:
        item_id = self._id("msg")
        where: Json = {"item_id": item_id, "output_index": len(self.output), "content_index": 0}
        message: Json = {
            "id": item_id,
            "type": "message",
            "status": "in_progress",
            "role": "assistant",
            "content": [],
        }
        yield self._added(message)
        refusal = item.kind == "refusal"
        name = "refusal" if refusal else "output_text"
        more: Json = {} if refusal else {"logprobs": []}
        member = "refusal" if refusal else "text"
        part: Json = {"type": name, member: "", **({} if refusal else {"annotations": [], "logprobs": []})}
        yield self._event("response.content_part.added", **where, part=part)
        pieces = item.pieces
        if self.plan.pace:
            sent = []
            for _ in pieces:
                sent.append(f"{time.monotonic_ns()} ")
                yield self._event(f"response.{name}.delta", **where, delta=sent[-1], **more)
            pieces = sent
        else:
            for piece in pieces:
                yield self._event(f"response.{name}.delta", **where, delta=piece, **more)
        for number, annotation in enumerate(item.annotations):
            link = {"annotation_index": number, "annotation": annotation}
            yield self._event("response.output_text.annotation.added", **where, **link)
        text = "".join(pieces)
        self._output_tokens += len(text) // 4 + 1
        part = {"type": name, member: text}
        if not refusal:
            part |= {"annotations": item.annotations, "logprobs": []}
        yield self._event(f"response.{name}.done", **where, **{member: text}, **more)
        yield self._event("response.content_part.done", **where, part=part)
        yield self._done({**message, "status": "completed", "content": [part]})

    def _call(self, item: Item, prefix: str, kind: str, member: str, event: str) -> Iterator[Json]:
        item_id, text = self._id(prefix), "".join(item.pieces)
        call_id = f"call_{self.number:016x}{len(self.output):08x}"
        where = {"item_id": item_id, "output_index": len(self.output)}
        call = {"id": item_id, "type": kind, "status": "in_progress", "call_id": call_id, "name": item.name}
        yield self._added({**call, member: ""})
        for piece in item.pieces:
            yield self._event(f"{event}.delta", **where, delta=piece)
        yield self._event(f"{event}.done", **where, **{member: text})
        self._output_tokens += len(text) // 4 + 8
        yield self._done({**call, "status": "completed", member: text})

    def _search(self, item: Item) -> Iterator[Json]:
        item_id = self._id("ws")
        where = {"item_id": item_id, "output_index": len(self.output)}
        action = {"type": "search", "query": item.name}
        call = {"id": item_id, "type": "web_search_call", "status": "in_progress", "action": action}
        yield self._added(call)
        for state in ("in_progress", "searching", "completed"):
            yield self._event(f"response.web_search_call.{state}", **where)
        yield self._done({**call, "status": "completed"})

    def _image(self) -> Iterator[Json]:
        item_id = self._id("ig")
        where = {"item_id": item_id, "output_index": len(self.output)}
        call = {"id": item_id, "type": "image_generation_call", "status": "in_progress"}
        yield self._added(call)
        for state in ("in_progress", "generating", "completed"):
            yield self._event(f"response.image_generation_call.{state}", **where)
        yield self._done({**call, "status": "completed", "result": PIXEL, "output_format": "png"})
