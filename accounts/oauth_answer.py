"""What an answer of the OAuth issuer means: its error code, its words, and whether trying again can help.

The one idea: an issuer's refusal is judged once, here, by code and status as the official client 0.169
judges it, and travels on as an `OAuthError` that carries the verdict.

The rule that must not be broken: the issuer's words are shown only on one line, cut short, and with
everything that was sent to it blotted out; an issuer that echoes a token must not put it into a log.
"""

from __future__ import annotations

import email.utils
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from accounts.models import AccountsError, Secret

LOGIN_AGAIN = "log in again with `openai-auth login`"
REFUSED_REFRESH = {
    "refresh_token_expired": "the login has expired",
    "refresh_token_reused": "the refresh token was already used, by another program that shares this login",
    "refresh_token_invalidated": "the login was revoked (a sign-out, or a changed password)",
}
"""The error codes after which a refresh token never works again, whatever the status."""

CODE = re.compile(r"[\w.:-]{1,80}", re.ASCII)
MAX_WORDS = 200
"""Characters shown of what the issuer says."""


class OAuthError(AccountsError):
    """The issuer refused a call, answered nonsense, or could not be reached.

    `permanent`: only a new login helps. `code`: the OAuth error code, if the issuer gave one. `status`: its
    HTTP status, None if there was no answer. `retry_after`: seconds the issuer asked to wait.
    """

    def __init__(
        self,
        message: str,
        *,
        permanent: bool = False,
        code: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.code = code
        self.status = status
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """One answer: `body` is its JSON object, {} if it was anything else. No repr: the body holds tokens."""

    status: int
    headers: Mapping[str, str]
    body: dict[str, Any]
    received_at: float

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def code(self) -> str | None:
        """`error.code`, else `error` if that is a string, else `code`; None if it looks like no code."""
        error = self.body.get("error")
        code = text(error.get("code") if isinstance(error, dict) else error) or text(self.body.get("code"))
        return code if code and CODE.fullmatch(code) else None

    @property
    def retry_after(self) -> float | None:
        """Seconds, from a number or an HTTP date; None when absent, past or unreadable."""
        value = self.headers.get("retry-after", "")
        try:
            moment = email.utils.parsedate_to_datetime(value).timestamp()
        except (ValueError, OverflowError):
            return seconds(value)
        return moment - self.received_at if moment > self.received_at else None

    def text(self, member: str) -> str | None:
        return text(self.body.get(member))

    def secret(self, member: str) -> Secret | None:
        value = self.text(member)
        return Secret(value) if value else None

    def seconds(self, member: str) -> float | None:
        return seconds(self.body.get(member))

    def detail(self, sent: Collection[str]) -> str:
        """Status and the issuer's own words, without anything of `sent`."""
        error = self.body.get("error")
        inner = error if isinstance(error, dict) else {}
        words = text(self.body.get("error_description")) or text(inner.get("message")) or text(error)
        words = words or self.code or ""
        for secret in filter(None, sent):
            words = words.replace(secret, "***")
        words = one_line(words)
        return f"{self.status}: {words}" if words else str(self.status)

    def error(self, message: str, *, permanent: bool, code: str | None = None) -> OAuthError:
        """An error with this answer's code (unless another is given), status and retry-after."""
        return OAuthError(
            message,
            permanent=permanent,
            code=code or self.code,
            status=self.status,
            retry_after=self.retry_after,
        )


def refused_refresh(answer: Answer, issuer: str, sent: Collection[str]) -> OAuthError:
    """Permanent: the three refresh-token codes, any other 401, 400 `invalid_grant`. Else transient."""
    code, detail = answer.code, answer.detail(sent)
    known = REFUSED_REFRESH.get(code or "")
    if known:
        return answer.error(f"{known}: {LOGIN_AGAIN}", permanent=True)
    if answer.status == 401 or (answer.status == 400 and code == "invalid_grant"):
        return answer.error(f"{issuer} refused to renew the login ({detail}): {LOGIN_AGAIN}", permanent=True)
    return answer.error(
        f"{issuer} could not renew the login now ({detail}): it is tried again later", permanent=False
    )


def refused(what: str, answer: Answer, issuer: str, sent: Collection[str]) -> OAuthError:
    """Any other call: transient for 429 and 5xx, else permanent."""
    transient = answer.status == 429 or answer.status >= 500
    advice = (
        "try again later" if transient else "start over, and if it happens again check the issuer's address"
    )
    return answer.error(
        f"{issuer} refused the {what} ({answer.detail(sent)}): {advice}", permanent=not transient
    )


def one_line(words: str) -> str:
    """Somebody else's words, fit for one line of a terminal: printable, and cut short."""
    return " ".join("".join(c if c.isprintable() else " " for c in words).split())[:MAX_WORDS]


def text(value: object) -> str | None:
    """A non-empty string, else None."""
    return value if isinstance(value, str) and value else None


def seconds(value: object) -> float | None:
    """A positive number of seconds, written as number or as string (the issuer's `interval` is a string)."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number > 0 else None
