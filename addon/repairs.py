"""
What can be repaired of a refused request, so that the same account may be asked once more.

What the backend takes is known by observation, and it changes. When it names what it does not like, that one thing is
changed. Each repair is tried once, taking a member out up to three times; what is refused then is the answer.
"""

import re
from collections.abc import Iterable

from addon.protocol import codex_request
from addon.protocol.errors import Cause, Failure

STRIPPED_NAMES = 3
"""Members that are taken out of one request, one refusal each."""

_ITEM_ID = re.compile(r"input\[(\d+)\]\.id")


class Repairs:
    """The body of one request on its way to one account, and what was changed about it."""

    def __init__(self, body: bytes, refused_before: Iterable[str]) -> None:
        self.body = body
        self.fresh = False
        """Send on a connection of its own."""
        self.stripped: list[str] = []
        """Members that were left out because the backend refuses them."""
        self._tried: set[Cause | str] = set()
        for name in sorted(refused_before):
            self._strip(name)

    def repair(self, failure: Failure) -> bool:
        """Change what `failure` is about; False if nothing can be, or has been already."""
        match failure.cause:
            case Cause.PARAMETER:
                if len(self.stripped) + len(failure.names) > STRIPPED_NAMES:
                    return False
                changed = [self._strip(name) for name in failure.names]
                return any(changed)
            case Cause.CIPHERTEXT:
                return self._once(failure.cause) and self._use(
                    codex_request.without_ciphertexts(self.body, None)
                )
            case Cause.CLOUDFLARE:
                self.fresh = True
                return self._once(failure.cause)
            case Cause.CLIENT if "developer messages are not allowed" in failure.message.lower():
                return self._once("developer") and self._use(codex_request.fold_developer(self.body))
            case Cause.CLIENT if found := _ITEM_ID.fullmatch(failure.param or ""):
                return self._use(codex_request.with_item_id(self.body, int(found[1])))
        return False

    def reconnect(self) -> bool:
        """Nothing was sent: once more, on a connection of its own."""
        again, self.fresh = not self.fresh, True
        return again

    def _once(self, repair: Cause | str) -> bool:
        first = repair not in self._tried
        self._tried.add(repair)
        return first

    def _strip(self, name: str) -> bool:
        if not self._use(codex_request.without(self.body, [name])):
            return False
        self.stripped.append(name)
        return True

    def _use(self, body: bytes) -> bool:
        """Take the changed body; a body that is the same object was not changed."""
        changed = body is not self.body
        self.body = body
        return changed
