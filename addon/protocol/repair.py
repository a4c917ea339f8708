"""The backend's event stream, repaired into one that every OpenAI SDK accepts.

Every event goes through an `Aggregate`, which knows what was said of each item; the repair compares that with what the
client has been told, and tells it what is missing: events the SDKs' helpers need before others, texts that came only
in a done or terminal event. What nobody has to change leaves as the bytes that came in. In a run of deltas of one text
only the first is parsed; the rest is recognised by bytes.

The rule: the client is told nothing twice, nothing out of order, and nothing after the terminal event.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from addon.protocol.aggregate import FAILURES, LIFECYCLE, TERMINAL, Aggregated
from addon.protocol.asked import Asked
from addon.protocol.client_view import ADDED, DONE, ClientView, can_be_announced
from addon.protocol.errors import Failure, error_object
from addon.protocol.parts import DELTAS, DONES, OUTPUT_TEXT, Part
from addon.protocol.slots import Slot, Touched
from addon.protocol.sse import Frame

_ANNOTATION = "response.output_text.annotation.added"
_ABOUT_ITEMS = frozenset({ADDED, DONE, _ANNOTATION, *DELTAS, *DONES})
_ABOUT_PARTS = ("response.content_part.", "response.reasoning_summary_part.")
# Routing state of the Codex backend; OpenAI's API has no such event.
_INTERNAL = frozenset({"response.metadata"})

_MEMBER = re.compile(
    rb'"(?:(output_index|content_index|summary_index)"\s*:\s*\d+\s*[,}]|(sequence_number|logprobs)"\s*:)'
)
_DELTA = re.compile(rb'"delta"\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)"')
_PLAIN_DELTA = b'"delta":"'
_BRACE = ord("}")


def proves_success(type: str) -> bool:
    """True for an event that shows that generation began: an item, a delta, or the end.

    `response.created` and `response.in_progress` do not: refusals come after them too.
    """
    return type == ADDED or type.endswith(".delta") or type in TERMINAL


class _Run(NamedTuple):
    """A run of deltas of one text: the bytes by which its next delta is known, and where its text goes.

    A quotation mark inside a JSON string is escaped, so the bytes of a member's name with both its marks and the
    colon can only be the member itself.
    """

    marks: tuple[bytes, ...]
    part: Part

    @classmethod
    def after(cls, data: bytes, part: Part) -> _Run | None:
        """The run that this delta begins, None if its members cannot be found by bytes."""
        wanted = {"output_index", "sequence_number"}
        if part.kind.index is not None:
            wanted.add(part.kind.index)
        if part.kind is OUTPUT_TEXT:
            wanted.add("logprobs")
        marks = {
            name: found[0]
            for found in _MEMBER.finditer(data)
            if (name := (found[1] or found[2]).decode()) in wanted
        }
        return cls(tuple(marks.values()), part) if len(marks) == len(wanted) else None


def _escaped_delta(data: bytes) -> bytes | None:
    """The inside of the JSON string that a flat event has as its delta."""
    at = data.find(_PLAIN_DELTA) + len(_PLAIN_DELTA)
    end = data.find(b'"', at)
    if at >= len(_PLAIN_DELTA) and end >= 0:
        text = data[at:end]
        if text.find(b"\\") < 0:
            return text
    found = _DELTA.search(data)
    return found[1] if found else None


class ResponsesStream(Aggregated):
    """The answer of `/v1/responses` for a client that asked for a stream."""

    stream = True

    def __init__(self, asked: Asked) -> None:
        super().__init__(asked)
        self._view = ClientView(asked, self._aggregate)
        self._runs: dict[str, _Run] = {}

    def feed(self, frame: Frame) -> bytes:
        """The bytes that this frame makes for the client, b"" for none. Raises ProtocolError."""
        if self._runs and self._continues(frame):
            return frame.raw
        if not frame.data:
            return frame.raw if frame.is_comment else b""
        event = frame.json()
        if event and not self.done:
            kind = event.get("type")
            self._event(kind if isinstance(kind, str) and kind else frame.type, event, frame)
        return self._view.taken()

    def finish(self) -> bytes:
        """Nothing: a Responses stream ends with its terminal event and has no `[DONE]`."""
        return b""

    def fail(self, failure: Failure) -> bytes:
        """The end of a stream that broke, with what there was of the answer.

        Two events: raw iterators raise only for an `error` with an object, helpers and other SDKs look for
        `response.failed` and for flat members.
        """
        if self.done:
            return b""
        self._aggregate.cut()
        response = {
            **self._aggregate.result(self._asked),
            "status": "failed",
            "error": {"code": failure.code or failure.type, "message": failure.message},
        }
        self._view.send({"type": "response.failed", "response": response})
        error = error_object(failure)
        flat = {name: error[name] for name in ("code", "message", "param")}
        self._view.send({"type": "error", **flat, "error": error})
        self._runs.clear()
        return self._view.taken()

    # The hot path

    def _continues(self, frame: Frame) -> bool:
        """True for one more delta of a text whose deltas need no change; its text is noted for later."""
        run = self._runs.get(frame.type)
        if run is None:
            return False
        data = frame.data
        if data[-1] != _BRACE:
            return False
        for mark in run.marks:
            # Not `in`, which takes five times as long on bytes: it tries the mark as a number first.
            if data.find(mark) < 0:
                return False
        text = _escaped_delta(data)
        if text is None:
            return False
        run.part.add_escaped(text)
        self._view.last = frame
        return True

    # Events

    def _event(self, kind: str, event: dict[str, Any], frame: Frame) -> None:
        if kind in _INTERNAL or not (kind.startswith("response.") or kind in FAILURES):
            return
        if self._asked.anchored and kind.startswith("response.web_search_call."):
            return
        event = {**event, "type": kind}
        touched = self._aggregate.apply(kind, event)
        if touched and self._view.hides(touched.slot):
            self._view.renumber()
            self._runs.clear()
        elif kind in LIFECYCLE:
            self._lifecycle(kind, event, frame)
        elif kind in TERMINAL:
            self._terminal(event)
        elif kind in _ABOUT_ITEMS or kind.startswith(_ABOUT_PARTS):
            # Nothing touched: said before, or about nothing there is.
            if touched is not None:
                self._about(kind, event, frame, touched)
        elif touched is None:
            self._view.send(event, frame)
        elif self._view.announced(touched.slot):
            self._view.send(self._view.placed(event, touched.slot), frame)

    def _lifecycle(self, kind: str, event: dict[str, Any], frame: Frame) -> None:
        if kind == "response.created" and self._view.created:
            return
        status = "queued" if kind == "response.queued" else "in_progress"
        self._view.send({**event, "response": self._view.skeleton(status)}, frame)

    def _about(self, kind: str, event: dict[str, Any], frame: Frame, touched: Touched) -> None:
        slot, part = touched
        if kind == DONE:
            self._runs.clear()
            self._view.finish(slot, event, frame)
        elif kind == ADDED:
            # A call waits for its done event if its name or call id is missing.
            if slot.index is None and can_be_announced(slot):
                self._view.announce(slot, event, frame)
        elif part is None:
            self._unknown_part(kind, event, frame, slot)
        elif kind in DELTAS:
            self._runs.pop(kind, None)
            passed = self._view.ready(slot, part) and self._view.delta(slot, part, event, frame)
            run = _Run.after(frame.data, part) if passed else None
            if run is not None:
                self._runs[kind] = run
        elif kind in DONES:
            self._runs.clear()
            if self._view.ready(slot, part):
                self._view.text_done(slot, part, part.text, event, frame)
        elif kind == _ANNOTATION:
            if self._view.ready(slot, part):
                self._view.send(self._view.placed(event, slot, part), frame)
        elif kind.endswith(".added"):
            if self._view.announced(slot) and not self._view.knows_part(slot, part.key):
                self._view.add_part(slot, part, event, frame)
        elif self._view.ready(slot, part):
            self._runs.clear()
            self._view.part_done(slot, part, event, frame)

    def _unknown_part(self, kind: str, event: dict[str, Any], frame: Frame, slot: Slot) -> None:
        part = event.get("part")
        if not isinstance(part, dict) or not self._view.announced(slot):
            return
        number = event.get("content_index")
        key = (str(part.get("type")), number if isinstance(number, int) else 0)
        if kind.endswith(".added") and not self._view.knows_part(slot, key):
            self._view.add_unknown_part(slot, key, event, frame)
        elif kind.endswith(".done"):
            self._view.send(self._view.placed(event, slot), frame)

    def _terminal(self, event: dict[str, Any]) -> None:
        self._runs.clear()
        self._view.finish_all()
        response = self._conclude()
        self._view.send({**event, "type": f"response.{response['status']}", "response": response})
