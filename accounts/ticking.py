"""Small work that is done again and again while the proxy runs, and that no failure ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from accounts.models import AccountsError

logger = logging.getLogger(__name__)


async def every(seconds: float, step: Callable[[], Coroutine[Any, Any, None]]) -> NoReturn:
    """Take a step, wait, and so on until cancelled. A failure that repeats is logged once."""
    trouble: str | None = None
    while True:
        try:
            await step()
            trouble = None
        except AccountsError as error:
            if str(error) != trouble:
                trouble = str(error)
                logger.warning("%s", error)
        except Exception:
            logger.exception("keeping the accounts current failed; it goes on")
        await asyncio.sleep(seconds)
