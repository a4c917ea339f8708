"""What a driver and the test say to each other: JSON, a line each.

In comes a job: {"api", "model", "text", "stream", "tool"}. Out go {"piece"} for each piece of streamed text, {"call"}
when the model calls the tool (the next line in is then {"output"}, the tool's result), and at last {"text"} or
{"error": {"classes", "status", "message"}}. The test is the tool, so it can do anything between two turns.

Runs in the client's environment: the standard library is all there is."""

import asyncio
import inspect
import json
import os
import sys
from dataclasses import dataclass

lines = os.fdopen(os.dup(1), "w")
sys.stdout = sys.stderr  # what a client prints must not get between the lines

PARAMETERS = {
    "type": "object",
    "properties": {"word": {"type": "string", "description": "The word."}},
    "required": ["word"],
    "additionalProperties": False,
}
DESCRIPTION = "What a word means."
FUNCTION = {"name": "lookup", "description": DESCRIPTION, "parameters": PARAMETERS, "strict": True}
"""The tool as the Responses API wants it but for its type; Chat Completions has the same one level deeper."""


@dataclass(frozen=True)
class Job:
    api: str
    model: str
    text: str
    stream: bool
    tool: bool


def say(**event):
    print(json.dumps(event), file=lines, flush=True)


def lookup(word: str) -> str:
    """What a word means."""
    say(call={"name": "lookup", "arguments": {"word": word}})
    return json.loads(sys.stdin.readline())["output"]


def call(name, arguments):
    """The tool, called by name with its arguments as JSON text."""
    assert name == "lookup", name
    return lookup(**json.loads(arguments))


def serve(answer):
    """Do jobs until the test has no more. `answer(job)` returns the text, at once or as a coroutine."""
    with asyncio.Runner() as runner:
        while line := sys.stdin.readline():
            try:
                text = answer(Job(**json.loads(line)))
                say(text=runner.run(text) if inspect.iscoroutine(text) else text)
            except Exception as error:
                say(error=told(error))


def told(error):
    classes = [f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__]
    return {"classes": classes, "status": getattr(error, "status_code", None), "message": str(error)}
