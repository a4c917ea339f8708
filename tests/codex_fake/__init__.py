"""The stand-in for the ChatGPT Codex backend and the OAuth issuer, for tests, demo and benchmarks.

    server      CodexFake, the server and its switches: start reading there
    accounts    FakeAccount: scenario, quota, tokens, what it was sent
    rules, input_rules, replies   what is refused, and the texts
    plan, answers, manners        what is answered, in which events, how rudely
    issuer, issuer_pages          OAuth with rotating refresh tokens, consent and device pages
    control, process, __main__    the fake in a process of its own, driven over HTTP
    fast        ready-made streams for benchmarks

The rule: strict in what it takes, ruder than the real one in what it gives. What passes here must pass there.
"""

from .accounts import FakeAccount, Seen
from .gates import Gate, Hold
from .issuer import CLIENT_ID, Issuer
from .manners import Manners
from .process import FakeProcess
from .replies import Reply
from .server import CodexFake

__all__ = [
    "CLIENT_ID",
    "CodexFake",
    "FakeAccount",
    "FakeProcess",
    "Gate",
    "Hold",
    "Issuer",
    "Manners",
    "Reply",
    "Seen",
]
