"""
What is passed around while a request looks for its answer: the call, one account's refusal, the answer that began.

The rule: a call is the same for every account that is asked; what one account needs differently is made for it alone.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

from accounts.models import Account
from addon.protocol import sse
from addon.protocol.asked import Shaped
from addon.protocol.errors import Failure, Refused
from addon.protocol.identity import Turn
from addon.protocol.output import Output
from addon.protocol.plain import Plain
from addon.sessions import Session
from addon.upstream.http_sse import Reply


@dataclass(slots=True)
class Attempt:
    """One account's refusal."""

    account: Account
    status: int
    failure: Failure
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Call:
    """One request, ready to be sent to any account."""

    shaped: Shaped
    session: Session
    turn: Turn
    body: bytes
    ciphertexts: list[str]
    """Digests of the encrypted reasoning in it: each belongs to the account that made it."""
    compactions: list[str]
    """Digests of the compacted histories in it, likewise; they cannot be left out."""
    client_version: str | None
    """The `version` a Codex client sent; newer than ours, it is passed on."""
    failed: Callable[[Attempt], object]
    """Told of every refusal that the client does not see."""
    completed: Callable[[Account, Output], object]
    """Told of the whole answer, while its last bytes are on their way."""
    speaks_codex: bool = False
    """A Codex program asks: it sends a 404 again, so a model that nobody has is a 400."""
    plain: Plain | None = None
    """The client's own request, for accounts that are API keys; None if they cannot serve it."""
    subscriptions: bool = True
    """Whether accounts that are subscriptions can serve it."""

    @property
    def model(self) -> str:
        """The model that is asked for upstream."""
        return str(self.shaped.body["model"])

    def suits(self, account: Account) -> bool:
        """Whether this kind of account can serve it."""
        return self.subscriptions if account.type == "oauth" else self.plain is not None

    @property
    def manner(self) -> str:
        return "streaming" if self.shaped.asked.stream else "not streaming"


@dataclass(slots=True)
class Opened:
    """An answer that has begun: what was held back, and where the rest comes from."""

    account: Account
    reply: Reply
    decoder: sse.Decoder
    frames: list[sse.Frame]
    verbatim: bool = False
    """It comes from the real API: the client gets its bytes as they are."""
    stripped: tuple[str, ...] = ()
    """Members that the backend refused, and that were left out."""
    attempts: list[Attempt] = field(default_factory=list)
    held: ExitStack = field(default_factory=ExitStack)
    """What is released with the answer: its place among the requests that run."""

    complete: bool = False
    """Its terminal event was read."""

    def close(self) -> None:
        """End the answer at once, if it has not ended by itself."""
        if self.complete:
            self.reply.release()
        else:
            self.reply.close()
        self.held.close()


class Unserved(Refused):
    """No account served the request; `attempts` says who was asked."""

    def __init__(self, failure: Failure, attempts: list[Attempt], *, final: bool) -> None:
        super().__init__(failure)
        self.attempts = attempts
        self.final = final
        """Every account was considered: a client that asks again at once gets the same answer."""
