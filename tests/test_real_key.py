"""Which keys are worth passing on to api.openai.com, and what is answered without one."""

from __future__ import annotations

import json

import pytest

from addon.protocol.real_key import bearer, is_ours, looks_real
from addon.protocol.unserved import KNOWN, answer, target

REAL = "sk-proj-Ab3dE5gH1jK2mN4pQ6rS8tU0"


@pytest.mark.parametrize(
    "key",
    [
        REAL,
        "sk-svcacct-Ab3dE5gH1jK2mN4pQ6rS",
        "sk-admin-Ab3dE5gH1jK2mN4pQ6rS",
        "sk-Ab3dE5gH1jK2mN4pQ6rS",
        "sk-abcdefghijklmnopqrst",  # exactly 20 characters
    ],
)
def test_a_key_of_openais_form_looks_real(key: str) -> None:
    assert looks_real(key)


@pytest.mark.parametrize(
    "key",
    [
        None,
        "",
        "any",
        "sk-",
        "sk-short",
        "sk-abcdefghijklmnopqrs",  # 19 characters
        "sk-Ab3dE5gH1jK2mN4pQ6r S",
        "sk-Ab3dE5gH1jK2mN4pQ6rS!",
        "SK-Ab3dE5gH1jK2mN4pQ6rS",
        "xsk-Ab3dE5gH1jK2mN4pQ6rS",
        "Ab3dE5gH1jK2mN4pQ6rS8tU0",
        "sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "sk-proj-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "sk-aaaaaaaaaaaaaaaaaaaaaaaaa",
        "sk-proj-0000000000000000000000",
        "sk-dummy-Ab3dE5gH1jK2mN4pQ6rS",
        "sk-DUMMY-Ab3dE5gH1jK2mN4pQ6rS",
        "sk-test-Ab3dE5gH1jK2mN4pQ6rS",
        "sk-fake-Ab3dE5gH1jK2mN4pQ6rS",
        "sk-none",
        "sk-local-Ab3dE5gH1jK2mN4pQ6rS",
        "sk-proxy",
        "sk-proxy-Ab3dE5gH1jK2mN4pQ6rS",
        "sk-placeholder-Ab3dE5gH1jK2mN4pQ6rS",
        "sk-1234567890abcdef1234567890abcdef",
        "sk-no-key-required",
        "sk-no-key-required-at-all-here",
        "oa-Ab3dE5gH1jK2mN4pQ6rS8tU0vW1x",
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ1c2VyIn0.c2ln",  # an OAuth token
    ],
)
def test_everything_else_does_not(key: str | None) -> None:
    assert not looks_real(key)


def test_our_own_keys_and_the_placeholder_are_ours() -> None:
    assert is_ours("oa-whatever")
    assert is_ours("sk-proxy")
    assert not is_ours(REAL)
    assert not is_ours(None)


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer a", "a"),
        ("bearer  a ", "a"),
        ("Basic a", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("", None),
        (None, None),
    ],
)
def test_a_bearer_token_is_found_however_it_is_written(header: str | None, token: str | None) -> None:
    assert bearer(header) == token


def status(
    method: str, path: str, key: str | None, *, direct: bool = True, policy: str = "auto"
) -> int | None:
    """What we answer; None if it is passed on."""
    header = None if key is None else f"Bearer {key}"
    given = answer(method, path, header, direct=direct, policy=policy)  # type: ignore[arg-type]
    return None if given is None else given.status


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize(
    ("policy", "key", "expected"),
    [
        ("auto", REAL, None),
        ("auto", "any", 400),
        ("auto", "sk-proxy", 400),
        ("auto", "oa-1", 400),
        ("auto", None, 400),
        ("pass", REAL, None),
        ("pass", "any", None),
        ("pass", "sk-proxy", 400),
        ("pass", "oa-1", 400),
        ("error", REAL, 400),
        ("error", "any", 400),
    ],
)
def test_the_setting_and_the_key_decide(
    policy: str, key: str | None, expected: int | None, direct: bool
) -> None:
    assert status("POST", "/v1/embeddings", key, direct=direct, policy=policy) == expected


def test_without_a_key_only_those_pass_who_spoke_to_openai_themselves() -> None:
    assert status("GET", "/v1/files", None, direct=False, policy="pass") is None
    assert status("GET", "/v1/files", None, direct=True, policy="pass") == 400


@pytest.mark.parametrize("known", KNOWN, ids="/".join)
def test_a_known_route_is_a_400_that_names_it_and_must_not_be_retried(known: tuple[str, ...]) -> None:
    path = "/v1/" + "/".join(known) + "/some/id"
    given = answer("POST", f"{path}?secret=1", "Bearer any", direct=True, policy="auto")
    assert given is not None
    assert given.status == 400
    assert given.headers["x-should-retry"] == "false"
    error = json.loads(given.body)["error"]
    assert error["code"] == "unsupported_endpoint"
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith(f"POST {path} is not available on a ChatGPT subscription")
    assert "real OpenAI API key" in error["message"]
    assert "secret" not in error["message"]


def test_an_unknown_route_is_a_404() -> None:
    assert status("POST", "/v1/teleport", "any") == 404
    assert status("POST", "/v1/embeddings2", "any") == 404
    assert status("POST", "*", "any") == 404


def test_traces_of_openai_agents_vanish_quietly_without_a_real_key() -> None:
    for policy in ("auto", "error"):
        assert status("POST", "/v1/traces/ingest", "any", policy=policy) == 204
    assert status("POST", "/v1/traces/ingest", "sk-proxy", policy="pass") == 204
    assert status("POST", "/v1/traces/ingest", REAL) is None
    assert status("GET", "/v1/traces/ingest", "any") == 400


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/", 200), ("/v1", 200), ("/v1/", 200), ("/health", 200), ("/healthz", 200), ("/favicon.ico", 204)],
)
def test_a_person_or_a_monitor_on_our_own_port_finds_a_page(path: str, expected: int) -> None:
    given = answer("GET", path, None, direct=True, policy="auto")
    assert given is not None
    assert given.status == expected
    head = answer("HEAD", path, None, direct=True, policy="auto")
    assert head is not None
    assert (head.status, head.body) == (expected, b"")
    assert status("GET", path, None, direct=False) in (404, 400)  # there it is api.openai.com that was asked


def test_a_preflight_is_answered_without_opening_the_door_to_web_pages() -> None:
    given = answer("OPTIONS", "/v1/responses", None, direct=True, policy="pass")
    assert given is not None
    assert given.status == 204
    assert not [name for name in given.headers if name.startswith("access-control")]
    assert status("OPTIONS", "/v1/embeddings", None, direct=False, policy="pass") is None


@pytest.mark.parametrize(
    ("asked", "there"),
    [
        ("/v1/embeddings?a=b", "/v1/embeddings?a=b"),
        ("/embeddings?a=b", "/v1/embeddings?a=b"),
        ("//v1/embeddings", "//v1/embeddings"),
        ("/other", "/other"),
    ],
)
def test_a_base_url_without_v1_finds_the_real_path(asked: str, there: str) -> None:
    assert target(asked) == there
