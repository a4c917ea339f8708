"""What counts as a secret in text and data, and what does not."""

from __future__ import annotations

import string
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.redaction import CIRCULAR, GONE, Known, is_secret_name, redact, redact_data
from accounts.uuid7 import uuid7

URL_SAFE = string.ascii_letters + string.digits + "-_"
WORD = string.ascii_letters + string.digits


def some(alphabet: str, shortest: int, longest: int) -> st.SearchStrategy[str]:
    """Text that begins and ends with a letter or digit, as tokens do."""
    inner = st.text(alphabet, min_size=shortest, max_size=longest)
    return st.builds(lambda a, b, c: a + b + c, st.sampled_from(WORD), inner, st.sampled_from(WORD))


jwts = st.builds(lambda a, b, c: f"eyJ{a}.eyJ{b}.{c}", *(some(URL_SAFE, 10, 60) for _ in range(3)))
api_keys = some(URL_SAFE, 20, 60).map("sk-{}".format)
client_keys = some(URL_SAFE, 41, 41).map("oa-{}".format)
refresh_tokens = some(URL_SAFE, 20, 60).map("rt_{}".format)
account_ids = st.uuids(version=4).map(str)
addresses = st.emails(domains=st.just("example.com")).filter(lambda address: address[0] in WORD)
opaque = some(URL_SAFE, 20, 60)
cookies = st.builds(lambda a, b: f"__cf_bm={a}; oai-did={b}", opaque, opaque)
by_form = st.one_of(jwts, api_keys, client_keys, refresh_tokens, account_ids, addresses)
"""Secrets that show by themselves."""

prose = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="="), max_size=40)
in_prose = st.sampled_from(
    ["{}", "the token {} was refused", "[{}]", "{{'x': '{}'}}", "a={}&b=1", "<{}>", "{}: no", "({})", "{},"]
)


def parts(secret: str) -> list[str]:
    """What must not be left of it: the values, without names such as those of cookies."""
    return [pair.partition("=")[2] for pair in secret.split("; ")] if "; " in secret else [secret]


@given(secret=by_form, frame=in_prose, before=prose, after=prose)
def test_a_secret_with_a_form_of_its_own_is_gone_wherever_it_stands(
    secret: str, frame: str, before: str, after: str
) -> None:
    assert secret not in redact(f"{before} {frame.format(secret)} {after}")


passwords = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"], exclude_characters="/\"'"))


@given(name=opaque, password=passwords, frame=in_prose)
def test_a_name_and_password_before_a_host_are_gone_whatever_is_in_them(
    name: str, password: str, frame: str
) -> None:
    left = redact(frame.format(f"http://{name}:{password}@proxy:8080/x"))
    assert f"://{GONE}@proxy:8080" in left


NAMED = [
    "authorization: Bearer {}",
    "Authorization: Basic {}",
    "{{'Authorization': 'Bearer {}', 'accept': '*/*'}}",
    "Headers[(b'authorization', b'Bearer {}'), (b'accept', b'*/*')]",
    '{{"access_token": "{}", "expires_in": 3600}}',
    "access_token={}&expires_in=3600",
    "refresh={}",
    "'refresh': '{}'",
    "token: {}",
    '"x-api-key":"{}"',
    "OPENAI_API_KEY={}",
    "client_secret: {}",
    "password={}",
    '{{\\"refresh_token\\": \\"{}\\"}}',
    "chatgpt-account-id: {}",
    "{{'chatgpt_account_id': '{}'}}",
    "account_id={}",
    "GET /auth/callback?code={}&state=abc",
    "https://me:{}@proxy.example/",
]


@given(secret=opaque, frame=st.sampled_from(NAMED), before=prose, after=prose)
def test_an_opaque_secret_is_known_by_the_name_beside_it(
    secret: str, frame: str, before: str, after: str
) -> None:
    text = redact(f"{before} {frame.format(secret)} {after}")
    if frame != "token: {}" or any(letter in secret for letter in string.digits + string.ascii_uppercase):
        assert secret not in text


@given(
    cookie=cookies,
    frame=st.sampled_from(
        [
            "Cookie: {}",
            "Set-Cookie: {}; Path=/; HttpOnly",
            "cookie={}",
            "{{'cookie': '{}'}}",
            "(b'set-cookie', b'{}')",
            "Can not load cookies: {}",
            "{}",
        ]
    ),
)
def test_cookies_are_gone(cookie: str, frame: str) -> None:
    text = redact(frame.format(cookie))
    for value in parts(cookie):
        assert value not in text


@given(text=st.text(max_size=300) | st.lists(st.one_of(by_form, prose, st.sampled_from(NAMED))).map(" ".join))
def test_redacting_twice_is_redacting_once(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@given(
    name=st.sampled_from(
        ["input_tokens", "output_tokens", "cached_tokens", "total_tokens", "max_output_tokens"]
    ),
    count=st.integers(0, 10**9),
    form=st.sampled_from(["{}={}", "{}: {}", '"{}": {}', "'{}': {}", '"{}":{}']),
)
def test_numbers_of_tokens_stay(name: str, count: int, form: str) -> None:
    text = "usage: " + form.format(name, count)
    assert redact(text) == text
    assert redact_data({name: count}) == {name: count}


@pytest.mark.parametrize(
    "text",
    [
        "main → work (streaming)",
        "the refresh token of work was already used: log in again with `openai-auth login`",
        "no access: denied",
        "token: it is renewed",
        "this proxy wants an Authorization header with a bearer token",
        "set OPENAI_API_KEY to any value, such as `any`",
        "GET https://api.openai.com/v1/models 200",
        "risk-free ask-me disk-full rt_ ac_1",
        "127.0.0.1:53211: client connect",
        "accountId: 3f9a2b1c0d4e",  # other programs' own ids stand under this name
        "thread 01a21bc6-9821-7915-94e5-d3e6d085c6a6",  # version 7: ours
        "x-codex-primary-used-percent: 42",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_a_known_secret_needs_no_form() -> None:
    known = Known(["acct-main-number-one", "short"])
    assert redact("acct-main-number-one is short of quota", known) == f"{GONE} is short of quota"


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("Authorization", True),
        ("x-api-key", True),
        ("apiKeyId", True),
        ("Set-Cookie", True),
        ("refresh", True),
        ("ACCESS", True),
        ("id_token", True),
        ("csrfToken", True),
        ("clientSecret", True),
        ("proxy_password", True),
        ("ChatGPT-Account-Id", True),
        ("account_id", True),
        ("input_tokens", False),
        ("tokens", False),
        ("accountId", False),
        ("accessed", False),
        ("model", False),
    ],
)
def test_names_of_secrets(name: str, secret: bool) -> None:
    assert is_secret_name(name) is secret


nested = st.recursive(
    by_form | st.integers() | st.none() | st.booleans(),
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(prose, inner) | st.sets(by_form)
    ),
    max_leaves=8,
)


def strings(data: Any) -> list[str]:
    if isinstance(data, dict):
        return [text for pair in data.items() for part in pair for text in strings(part)]
    if isinstance(data, list | tuple | set):
        return [text for part in data for text in strings(part)]
    return [data] if isinstance(data, str) else []


@given(secret=by_form, data=nested, name=st.sampled_from(["token", "Cookie", "api_key"]), value=opaque)
def test_data_loses_its_secrets_at_every_depth(secret: str, data: Any, name: str, value: str) -> None:
    left = " ".join(strings(redact_data({"a": [data, (secret, {secret: secret})], "b": {name: value}})))
    assert secret not in left
    assert value not in left


def test_data_keeps_its_shape() -> None:
    data = {
        "usage": {"input_tokens": 5},
        "list": [1, None, True],
        "pair": ("a", 2),
        "headers": [("cookie", "x=y")],
    }
    assert redact_data(data) == data | {"headers": [("cookie", GONE)]}


def test_data_that_holds_itself_has_an_end() -> None:
    data: dict[str, Any] = {"n": 1}
    data["self"] = data
    assert redact_data(data) == {"n": 1, "self": CIRCULAR}


def test_an_object_becomes_its_text_and_may_fail_at_it() -> None:
    class Holder:
        def __str__(self) -> str:
            return "holds sk-abcdef"

    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    assert redact_data([Holder(), Broken()]) == [f"holds {GONE}", "[unserializable]"]


HOSTILE = [
    "a@",
    "token ",
    "_",
    "-",
    "access_",
    "api_",
    "\\",
    '\\"',
    "'token\\",
    "'token'",
    "b'",
    "eyJ",
    "sk-",
    "cookie: ",
    "x=",
    "://a",
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_hostile_text_takes_no_more_than_linear_time(piece: str) -> None:
    """A pattern that tries every end from every start would need minutes for this."""
    assert redact(piece * (200_000 // len(piece)) + " token")  # a hint, else no pattern is tried


def test_version_7_is_ours_and_all_other_uuids_are_not() -> None:
    ours, theirs = str(uuid7()), str(uuid.uuid4())
    assert redact(f"{ours} {theirs.upper()}") == f"{ours} {GONE}"
