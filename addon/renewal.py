"""
Who renews tokens: the issuer that the settings name at that moment.

The rule: an issuer that is no longer named is sent nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from accounts.models import Secret
from accounts.oauth import Grant, Issuer
from accounts.online import user_agent
from accounts.settings import Settings


@dataclass(frozen=True, slots=True)
class Renewal:
    """A `Refresher`; `settings` is asked each time."""

    http: aiohttp.ClientSession
    settings: Callable[[], Settings]

    async def refresh(
        self, refresh: Secret, reason: str = "proactive_expiry", *, current: Secret | None = None
    ) -> Grant:
        """See `Issuer.refresh`."""
        settings = self.settings()
        issuer = Issuer(self.http, settings.issuer_url, user_agent=user_agent(settings))
        return await issuer.refresh(refresh, reason, current=current)
