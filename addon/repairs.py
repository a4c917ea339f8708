"""
What can be repaired of a refused request, so that the same account may be asked once more.

What the backend takes is known by observation, and it changes. When it names what it does not like, that one thing is
changed. Each repair is tried once, taking a member out up to three times; what is refused then is the answer.

The rule: what is learned of one request is used for others only where it means the same: a member for the same model,
a tier with the same value, an item type; never a position.
"""

import re
from collections.abc import Collection, Iterable

from addon.protocol import resend
from addon.protocol.errors import Cause, Failure

STRIPPED_NAMES = 3
"""Members that are taken out of one request, one refusal each."""
REMEMBERED_NAMES = 64
"""Members whose refusal is remembered; the backend has refused about thirty in all."""

_ITEM_ID = re.compile(r"input\[(\d+)\]\.id")
_TIER = "service_tier"


class Learned:
    """What the backend was seen to refuse or to demand, for the life of the process."""

    def __init__(self) -> None:
        self.id_types: set[str] = set()
        """Types of items that need an id."""
        self._refused: dict[tuple[str, str, str | None], None] = {}

    def refused(self, model: str) -> list[tuple[str, str | None]]:
        """Members that the model does not take, each with the value it was refused for (None: any)."""
        return [(name, value) for known, name, value in self._refused if known == model]

    def refuses(self, model: str, name: str, value: str | None) -> None:
        """Remember a refusal, and forget the oldest if there are too many."""
        self._refused[model, name, value] = None
        if len(self._refused) > REMEMBERED_NAMES:
            del self._refused[next(iter(self._refused))]


class Repairs:
    """The body of one request on its way to one account, and what was changed about it."""

    def __init__(self, body: bytes, model: str, learned: Learned) -> None:
        self.body = body
        self.fresh = False
        """Send on a connection of its own."""
        self.stripped: list[str] = []
        """Members that were left out because the backend refuses them."""
        self._model = model
        self._learned = learned
        self._tried: set[Cause | str] = set()
        self._refusals = 0
        self._strip(name for name, value in learned.refused(model) if value in (None, self._value(name)))
        if learned.id_types:
            self.body = resend.with_item_ids(self.body, learned.id_types)

    def repair(self, failure: Failure) -> bool:
        """Change what `failure` is about; False if nothing can be, or has been already."""
        match failure.cause:
            case Cause.PARAMETER:
                self._refusals += len(failure.names)
                if self._refusals > STRIPPED_NAMES:
                    return False
                changed = [self._refuse(name) for name in failure.names]
                return any(changed)
            case Cause.CIPHERTEXT:
                return self._once(failure.cause) and self._use(resend.without_ciphertexts(self.body, None))
            case Cause.CLOUDFLARE:
                self.fresh = True
                return self._once(failure.cause)
            case Cause.CLIENT if "developer messages are not allowed" in failure.message.lower():
                return self._once("developer") and self._use(resend.fold_developer(self.body))
            case Cause.CLIENT if found := _ITEM_ID.fullmatch(failure.param or ""):
                return self._name_items(resend.item_type(self.body, int(found[1])))
        return False

    def drop(self, foreign: Collection[str]) -> bool:
        """Take these ciphertexts out; whether any was there."""
        return bool(foreign) and self._use(resend.without_ciphertexts(self.body, foreign))

    def reconnect(self) -> bool:
        """Nothing was sent: once more, on a connection of its own."""
        again, self.fresh = not self.fresh, True
        return again

    def _once(self, repair: Cause | str) -> bool:
        first = repair not in self._tried
        self._tried.add(repair)
        return first

    def _refuse(self, name: str) -> bool:
        value = self._value(name)
        stripped = self._strip([name])
        if stripped and "[" not in name:
            self._learned.refuses(self._model, name, value)
        return stripped

    def _value(self, name: str) -> str | None:
        """The value on which it depends whether a member is refused; None if it does not."""
        return str(resend.value_of(self.body, name)) if name == _TIER else None

    def _strip(self, names: Iterable[str]) -> bool:
        """Take members out; whether any was there."""
        if not (wanted := list(names)):
            return False
        self.body, gone = resend.without(self.body, wanted)
        self.stripped += gone
        return bool(gone)

    def _name_items(self, kind: str | None) -> bool:
        """Give all items of a type their ids."""
        if kind is None or not self._use(resend.with_item_ids(self.body, {kind})):
            return False
        self._learned.id_types.add(kind)
        return True

    def _use(self, body: bytes) -> bool:
        """Take the changed body; a body that is the same object was not changed."""
        changed = body is not self.body
        self.body = body
        return changed
