"""What the next requests get instead of, or on top of, an ordinary answer.

A `Behaviour` says what happens and how often; a `Script` is the queue of one account (or of the issuer).
Behaviours wait in line by route, so that a failure meant for the usage endpoint never hits a generation
request."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from . import replies
from .gates import Gate, Hold
from .replies import Reply

Json = dict[str, Any]
Form = Literal["failed", "error", "flat", "wrapped", "label"]

_MESSAGES = {
    "usage_limit_reached": "The usage limit has been reached",
    "rate_limit_exceeded": "Rate limit reached for gpt-5.5. Please try again in 1.5s.",
    "insufficient_quota": "You exceeded your current quota, please check your plan and billing details.",
    "usage_not_included": "To use Codex with your ChatGPT plan, upgrade to Plus.",
    "context_length_exceeded": "Your input exceeds the context window of this model.",
    "server_is_overloaded": "Our servers are currently overloaded. Please try again later.",
    "slow_down": "Please slow down.",
    "token_invalidated": "Your authentication token has been invalidated. Please try signing in again.",
    "cyber_policy": "This request was flagged by our cyber policy.",
}


@dataclass(slots=True, eq=False)
class Behaviour:
    """One thing that goes wrong (or is scripted). Positions: `after` = events written (`counting="events"`)
    or delta events written (`"deltas"`); None = before the response headers."""

    times: int | None = 1
    delay: float = 0.0  # seconds before the response headers
    reply: Reply | None = None
    events: Sequence[Json] | None = None
    failure: Sequence[Json] | None = None
    cut: bool = False  # abort the TCP connection
    end: bool = False  # end the body properly, without a terminal event
    gate: Gate | None = None
    hold: Hold | None = None
    pace: float = 0.0  # seconds between events
    after: int | None = None
    counting: Literal["events", "deltas"] = "events"
    carried_out: bool = False  # the request takes effect although its answer is lost
    omit: tuple[str, ...] = ()  # members left out of a token answer

    @property
    def mild(self) -> bool:
        """Changes the pace only: rules and limits still decide the answer."""
        return (
            self.reply is None and self.events is None and self.failure is None and not (self.cut or self.end)
        )


class Script:
    """The behaviours that wait for the requests of one account."""

    def __init__(self) -> None:
        self._queues: dict[str, list[Behaviour]] = defaultdict(list)

    def add(self, behaviour: Behaviour, on: str) -> None:
        self._queues[on].append(behaviour)

    def take(self, on: str) -> Behaviour | None:
        """The behaviour for this request on the route `on`, counted down: those that come a number of times
        in their order, then the latest of those that stay."""
        queue = self._queues.get(on)
        if not queue:
            return None
        counted = next((behaviour for behaviour in queue if behaviour.times is not None), None)
        if counted is None or counted.times is None:
            return queue[-1]
        counted.times -= 1
        if counted.times <= 0:
            queue.remove(counted)
        return counted

    def clear(self) -> None:
        self._queues.clear()


class Scripted:
    """The methods that put behaviours on a script. `times=None` means until `heal()`; `on` is the route:
    `responses`, `compact`, `models`, `usage`, `credits`, `consume`, `images`, `transcribe`, `accounts`."""

    def __init__(self) -> None:
        self.script_queue = Script()

    def heal(self) -> None:
        """Drop everything scripted."""
        self.script_queue.clear()

    def fail(
        self,
        status: int,
        body: Any = None,
        headers: dict[str, str] | None = None,
        *,
        times: int | None = 1,
        on: str = "responses",
        delay: float = 0.0,
    ) -> None:
        """Answer with this status and body (dict → JSON, str → text or HTML)."""
        shown = {"detail": f"status {status}"} if body is None else body
        self.script_queue.add(
            Behaviour(times=times, reply=Reply(status, shown, headers or {}), delay=delay), on
        )

    def refuse(
        self,
        name: str,
        *args: Any,
        times: int | None = 1,
        on: str = "responses",
        headers: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Answer with one of the known refusals (`replies.NAMED`), e.g. `refuse("unsupported_parameter",
        "text")`."""
        reply = replies.NAMED[name](*args, **kwargs)
        reply = Reply(reply.status, reply.body, {**reply.headers, **(headers or {})})
        self.script_queue.add(Behaviour(times=times, reply=reply), on)

    def script(self, events: Sequence[Json], *, times: int | None = 1, pace: float = 0.0) -> None:
        """Answer 200 with exactly these events and nothing else."""
        self.script_queue.add(Behaviour(times=times, events=list(events), pace=pace), "responses")

    def fail_in_stream(
        self,
        code: str | None,
        message: str | None = None,
        *,
        form: Form = "failed",
        after_deltas: int = 0,
        first: bool = False,
        times: int | None = 1,
        **more: Any,
    ) -> None:
        """Answer 200 and fail inside. With `after_deltas=0` before the first output item (with `first` even
        before `response.created`), else after that many delta events. `more` goes into the error object
        (`resets_at`, `plan_type`, …); `status` and `headers` in it belong to the wrapped form."""
        text = message if message is not None else _MESSAGES.get(code or "", f"It failed: {code}")
        self.script_queue.add(
            Behaviour(
                times=times,
                failure=[failure_event(code, text, form, more)],
                after=0 if first else after_deltas,
                counting="events" if first else "deltas",
            ),
            "responses",
        )

    def cut(self, after: int | None = None, *, clean: bool = False, times: int | None = 1) -> None:
        """Abort the TCP connection before the headers (None) or after that many events; `clean` ends the body
        as if it were complete instead."""
        self.script_queue.add(Behaviour(times=times, cut=not clean, end=clean, after=after), "responses")

    def lose_answer(self, on: str = "consume", status: int | None = None, *, times: int | None = 1) -> None:
        """Carry the request out but lose its answer: the connection is cut, or this status comes instead."""
        reply = None if status is None else Reply(status, {"detail": f"status {status}"})
        self.script_queue.add(Behaviour(times=times, reply=reply, cut=reply is None, carried_out=True), on)

    def stall(self, after: int | None = None, *, times: int | None = 1, on: str = "responses") -> Gate:
        """Stand still before the headers (None) or after that many events, until the gate is released."""
        gate = Gate()
        self.script_queue.add(Behaviour(times=times, gate=gate, after=after), on)
        return gate

    def hold(self) -> Hold:
        """The next answer leaves event by event, each on a `await hold.step()`."""
        hold = Hold()
        self.script_queue.add(Behaviour(hold=hold), "responses")
        return hold

    def slow(self, pace: float, *, times: int | None = None) -> None:
        """Leave `pace` seconds between the events."""
        self.script_queue.add(Behaviour(times=times, pace=pace), "responses")


def failure_event(code: str | None, message: str, form: Form, more: Json) -> Json:
    """The event that ends a stream badly, in one of the spellings that were seen."""
    status, headers = more.pop("status", None), more.pop("headers", None)
    kind = more.pop(
        "type", code if code in ("usage_limit_reached", "usage_not_included") else "invalid_request_error"
    )
    if form in ("error", "wrapped") and code == kind:
        code = None  # the limits name themselves in `type` only
    if form == "flat":
        return {"type": "error", "code": code, "message": message, "param": None, **more}
    if form == "label":
        return {"type": "response.failed", "response": {"failed": {"rate_limit_reached_type": code}, **more}}
    if form == "failed":
        body = {"code": code, "message": message, **more}
        return {"type": "response.failed", "response": {"status": "failed", "error": body}}
    event: Json = {"type": "error", "error": {"type": kind, "code": code, "message": message, **more}}
    if form == "wrapped":
        event = {"type": "error", "status": status or 429, "error": event["error"], "headers": headers or {}}
    return event


async def stand(behaviour: Behaviour) -> None:
    """What a behaviour does before the response headers: wait."""
    if behaviour.delay:
        await asyncio.sleep(behaviour.delay)
    if behaviour.gate is not None and behaviour.after is None:
        await behaviour.gate.passing()
