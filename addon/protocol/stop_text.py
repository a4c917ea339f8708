"""Stop sequences, cut on our side.

The backend takes no `stop`. A client that sends one parses what comes before it, so the text is cut here at
the first match, and nothing of the match may ever be seen: while the end of the text could be the start of a
stop sequence, that end is held back.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopCutter:
    """Passes text on up to the first stop sequence. `hit` says that it was found."""

    __slots__ = ("_held", "_stops", "hit")

    def __init__(self, stops: Sequence[str]) -> None:
        """stops: at least one sequence, none empty."""
        self._stops = tuple(stops)
        self._held = ""
        self.hit = False

    def feed(self, piece: str) -> str:
        """What may be shown now; never more than the longest sequence less one character is held back."""
        if self.hit:
            return ""
        text = self._held + piece
        # The sequence that is complete first wins, as it would while the model writes; so the cut does not
        # depend on how the text came in pieces.
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.hit = True
            self._held = ""
            return text[: min(found)[1]]
        keep = max(self._unfinished(text, stop) for stop in self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """The text held back, once it is certain that no more comes."""
        held, self._held = self._held, ""
        return held

    @staticmethod
    def _unfinished(text: str, stop: str) -> int:
        """Length of the longest end of the text that is a start of the sequence."""
        for length in range(min(len(stop) - 1, len(text)), 0, -1):
            if text.endswith(stop[:length]):
                return length
        return 0
