"""The fake's own time: real time plus an offset that tests move, so that nothing has to sleep.

Everything in the fake that ages (tokens, quota windows, limits, cached prefixes, device codes) asks this
clock; moving it ages the server only, never the program under test."""

from __future__ import annotations

import time


class Clock:
    """Epoch seconds that can be moved forward or stopped."""

    def __init__(self) -> None:
        self._offset = 0.0
        self._stopped: float | None = None

    def now(self) -> float:
        """Epoch seconds, as the fake sees them."""
        return (time.time() if self._stopped is None else self._stopped) + self._offset

    def advance(self, seconds: float) -> None:
        """Move the fake's time forward by `seconds`."""
        self._offset += seconds

    def stop(self, at: float | None = None) -> None:
        """Stop the clock at `at` (epoch seconds; default now); `advance` still moves it."""
        self._stopped = self.now() if at is None else at
        self._offset = 0.0
