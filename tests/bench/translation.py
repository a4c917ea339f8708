"""What an event costs in the translators, in process and without sockets: `python -m tests.bench.translation`.

Each way gets the same bytes, an answer of the stand-in backend with thoughts, a tool call and a long text, in the same
chunks. Plain pass-through (find the frames, hand their bytes on) is what all others are measured by. Rounds are
interleaved and medians reported.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from addon.protocol.aggregate import ResponsesObject
from addon.protocol.asked import Asked
from addon.protocol.chat_object import ChatObject
from addon.protocol.chat_stream import ChatStream
from addon.protocol.output import Output
from addon.protocol.repair import ResponsesStream
from addon.protocol.sse import Decoder
from tests.codex_fake.answers import Answer
from tests.codex_fake.manners import Manners
from tests.codex_fake.plan import Item, Plan
from tests.codex_fake.quota import Quota

DELTAS = 2_000
MODEL = "gpt-5.5"
WORDS = [f" word{number % 97}" for number in range(DELTAS)]


def captured() -> list[bytes]:
    """An answer as it comes from the network, an event a chunk; its last event as bare as the
    backend sends it."""
    body = {"model": MODEL, "input": [], "reasoning": {"effort": "low", "summary": "auto"}}
    call = Item("function_call", ['{"path": ', '"README.md"}'], "read")
    plan = Plan([Item("message", WORDS), call], thinks="Thinking about it, step by step.")
    manners, quota = Manners(codex_events="none"), Quota("plus", None, None)
    answer = Answer(1, "acct-main", body, plan, (1000, 0), 1_800_000_000)
    return [manners.encode(event) for event in manners.dress(answer.events(), quota, 0.0, False, "")]


@dataclass(slots=True)
class Run:
    """One answer through one way: seconds, events, and how many of them left as the very bytes that came."""

    seconds: float
    events: int
    unchanged: int


def passed(chunks: Iterable[bytes]) -> Run:
    """Plain pass-through."""
    started = time.perf_counter()
    decoder, events = Decoder(), 0
    for chunk in chunks:
        for frame in decoder.feed(chunk):
            assert frame.raw
            events += 1
    return Run(time.perf_counter() - started, events, events)


def through(make: Callable[[], Output]) -> Callable[[Iterable[bytes]], Run]:
    """The way through a translator."""

    def run(chunks: Iterable[bytes]) -> Run:
        started = time.perf_counter()
        decoder, output = Decoder(), make()
        events = unchanged = 0
        for chunk in chunks:
            for frame in decoder.feed(chunk):
                unchanged += output.feed(frame) == frame.raw
                events += 1
        assert output.done
        assert output.finish() or output.stream
        return Run(time.perf_counter() - started, events, unchanged)

    return run


WAYS: dict[str, Callable[[Iterable[bytes]], Run]] = {
    "plain pass-through": passed,
    "repair (Responses, streamed)": through(lambda: ResponsesStream(Asked("responses", True, MODEL))),
    "repair, with our web_search to hide": through(
        lambda: ResponsesStream(Asked("responses", True, MODEL, anchored=True))
    ),
    "aggregation (Responses, whole)": through(lambda: ResponsesObject(Asked("responses", False, MODEL))),
    "chat translation, streamed": through(lambda: ChatStream(Asked("chat", True, MODEL, include_usage=True))),
    "chat translation, whole": through(lambda: ChatObject(Asked("chat", False, MODEL))),
}


def measure(rounds: int) -> dict[str, list[Run]]:
    """Every way once a round, after one round that does not count."""
    chunks = captured()
    found: dict[str, list[Run]] = {name: [] for name in WAYS}
    for number in range(rounds + 1):
        for name, way in WAYS.items():
            run = way(chunks)
            if number:
                found[name].append(run)
    return found


def table(found: dict[str, list[Run]]) -> str:
    """Markdown: medians."""
    lines = [
        "| per event, in process | events/s | µs | : plain | left as it came |",
        "| --- |" + " ---: |" * 4,
    ]
    plain = 0.0
    for name, runs in found.items():
        each = statistics.median(run.seconds / run.events for run in runs)
        plain = plain or each
        share = runs[0].unchanged / runs[0].events
        lines.append(f"| {name} | {1 / each:,.0f} | {each * 1e6:.2f} | {each / plain:.2f} | {share:.0%} |")
    return "\n".join(lines)


def report(rounds: int) -> str:
    """Measure, and the table of it."""
    return table(measure(rounds))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.translation", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50, help="interleaved rounds (default 50)")
    print(report(parser.parse_args().rounds))
