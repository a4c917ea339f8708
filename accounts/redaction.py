"""Taking secrets out of text and data, whatever they came in: messages, headers, URLs, exceptions, reprs.

The one idea: a secret is known by its form (a JWT, `sk-…`, an e-mail address, a UUID), by the name beside it
(`authorization: …`, `"access_token": "…"`), or because somebody said that it is one (`Known`). Forms and names
are those of the model project's log, and more of both.

The rules: numbers of tokens are no tokens (`input_tokens` stays); a text without anything suspicious costs no
more than a few substring tests; no pattern takes more than linear time, whatever the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from accounts.models import CLIENT_KEY_PREFIX

GONE = "***REDACTED***"
CIRCULAR = "[Circular]"
UNSERIALIZABLE = "[unserializable]"
DEEPEST = 20
"""Levels of nested data that are looked into; what lies deeper is left out."""
SHORTEST_KNOWN = 8
"""Characters; a shorter value would be found inside innocent words."""

_SECRET_NAMES = frozenset(
    {"authorization", "proxy-authorization", "cookie", "cookies", "set-cookie", "refresh", "access", "token"}
    | {"account_id"}
)
_SECRET_COMPACT = re.compile(r"chatgptaccountid$|.*apikey|.*(?:secret|password|passwd|token)$", re.DOTALL)

# Names as they stand in text. A quoted name is a name; a bare one may be a word of a sentence, so `refresh`,
# `access` and `token` alone count only before something that looks like a token.
_HEADER = r"(?i:(?:proxy-)?authorization|(?:set-)?cookies?|x-api-key|chatgpt-account-id)"
_WORD = r"(?i:refresh|access|token)"
_NAME = (
    r"(?i:chatgpt[-_]?account[-_]?id|account_id"
    r"|[\w-]{0,60}?api[-_]?key[\w-]{0,20}|[\w-]{0,60}?(?:secret|password|passwd)|[\w-]{1,60}?token)"
)
_START = r"(?<![\w-])"
_QUOTE = r"""["']"""
_UNQUOTE = r"""\\*+["']"""
_VALUE = (
    r"""(?:b?"(?:[^"\\]|\\.)*+"?|b?'(?:[^'\\]|\\.)*+'?"""  # quoted; a cut text may lack the end
    r"""|\\+"[^"]*+"?|\\+'[^']*+'?"""  # quoted inside of a quoted text
    r"""|[^\s,;&"'(){}\[\]<>]++)"""
)

_LOCAL = r"[\w.!#$%&*+/?^`{|}~-]"
"""A character of an e-mail address before its @. Quotes and `=` may be, but mostly stand around it."""

_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), replacement)
    for pattern, replacement in (
        # {"cookie": "a=b"}, [(b'cookie', b'a=b')], {\"access_token\": \"abc\"}
        (rf"({_QUOTE}{_HEADER}{_UNQUOTE}\s*[:=,]\s*){_VALUE}", rf"\1{GONE}"),
        (rf"({_QUOTE}(?:{_WORD}|{_NAME}){_UNQUOTE}\s*[:=]\s*){_VALUE}", rf"\1{GONE}"),
        # Cookie: a=b; c=d
        (rf"{_START}((?i:(?:set-)?cookies?)\s*[:=]\s*)[^\n\"'{{}}\[\]]++", rf"\1{GONE}"),
        # Authorization: Basic abc
        (
            rf"{_START}((?i:(?:proxy-)?authorization)\s*[:=]\s*)(?:[A-Za-z]{{1,20}}[ \t]++)?{_VALUE}",
            rf"\1{GONE}",
        ),
        (r"\b(Bearer\s+)[\w.~+/-]++=*", rf"\1{GONE}"),
        (r"\b((?i:bearer|basic)\s+)(?=[\w.~+/-]{0,40}[\d=])[\w.~+/-]{6,}+=*", rf"\1{GONE}"),
        # access_token=abc, api_key: abc
        (rf"{_START}({_NAME}\s*[:=]\s*){_VALUE}", rf"\1{GONE}"),
        (rf"{_START}({_WORD}=){_VALUE}", rf"\1{GONE}"),
        (rf"{_START}({_WORD}:\s*)(?=[\w.~+/=-]{{0,40}}[\dA-Z])[\w.~+/=-]{{12,}}+", rf"\1{GONE}"),
        # ?code=abc of a redirect, __cf_bm=abc
        (r"([?&](?:code|code_verifier|id_token)=)[^&\s\"']++", rf"\1{GONE}"),
        (rf"{_START}((?:__[\w.-]{{1,60}}|_?cf[\w-]{{1,60}}|oai-[\w-]{{1,60}})=)[^;\s\"']++", rf"\1{GONE}"),
        # user:password@ of an address
        (r"(://)[^/\s\"']{1,256}@", rf"\1{GONE}@"),
        # API keys, our own too, JWTs, refresh tokens and codes of the issuer, Fernet ciphertexts
        (rf"\b(?:sk-[\w-]+|{CLIENT_KEY_PREFIX}[\w-]{{16,}})", GONE),
        (r"\b(?:eyJ[\w.-]+|rt_[\w.-]{4,}|ac_[\w.-]{8,}|gAAAA[\w-]{16,}=*)", GONE),
        # E-mail addresses. A UUID is an account or a person, but for version 7: our own thread and turn ids.
        (rf"(?<!{_LOCAL}){_LOCAL}{{0,64}}+['=]{{0,2}}@[\w-]{{1,63}}(?:\.[\w-]{{1,63}})+", GONE),
        (
            r"(?i:\b[0-9a-f]{8}-[0-9a-f]{4}-[0-689a-f][0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b)",
            GONE,
        ),
        (r"\b(?:user|org)-[A-Za-z0-9]{16,}", GONE),
    )
)

_HINTS = (
    *("auth", "cookie", "bearer", "basic", "token", "key", "secret", "passw", "account", "refresh", "access"),
    *("sk-", CLIENT_KEY_PREFIX, "eyj", "rt_", "ac_", "gaaaa", "@", "?code", "&code", "cf", "__", "oai-"),
    *("user-", "org-"),
)
"""Each secret has one of these in its surroundings, lower-cased, or else is a UUID."""
_DASHES_OF_A_UUID = 4


class Known:
    """Secrets that may have no form of their own, such as account ids and API keys: each is blotted out anywhere."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        longest_first = sorted({v for v in values if len(v) >= SHORTEST_KNOWN}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def redact(self, text: str) -> str:
        return self._pattern.sub(GONE, text) if self._pattern else text


NOTHING_KNOWN = Known()


def redact(text: str, known: Known = NOTHING_KNOWN) -> str:
    """The text without its secrets; the same text if it has none."""
    text = known.redact(text)
    lowered = text.lower()
    if not any(hint in lowered for hint in _HINTS) and text.count("-") < _DASHES_OF_A_UUID:
        return text
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def is_secret_name(name: str) -> bool:
    """Whether the value under this name is a secret, whatever it looks like.

    A bare `accountId` is none: other programs write their own ids under it.
    """
    lowered = name.lower()
    return lowered in _SECRET_NAMES or bool(_SECRET_COMPACT.match(lowered.replace("-", "").replace("_", "")))


def redact_data(value: object, known: Known = NOTHING_KNOWN) -> Any:
    """Data for JSON without its secrets: strings in it, and whatever stands under a secret's name.

    Goes through mappings, lists, tuples and sets; any other object becomes its text.
    """
    return _data(value, known, ())


def _data(value: object, known: Known, above: tuple[int, ...]) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if not isinstance(value, Mapping | list | tuple | set | frozenset):
        return redact(_text(value), known)
    if id(value) in above or len(above) >= DEEPEST:
        return CIRCULAR
    above = (*above, id(value))
    if isinstance(value, Mapping):
        return {
            redact(_text(key), known): GONE if is_secret_name(_text(key)) else _data(item, known, above)
            for key, item in value.items()
        }
    if isinstance(value, tuple) and len(value) == 2 and is_secret_name(_text(value[0])):
        return (redact(_text(value[0]), known), GONE)  # a header among others
    items = [_data(item, known, above) for item in value]
    return tuple(items) if isinstance(value, tuple) else items


def _text(value: object) -> str:
    if isinstance(value, bytes | bytearray):
        return value.decode("utf-8", "replace")
    try:
        return str(value)
    except Exception:
        return UNSERIALIZABLE
