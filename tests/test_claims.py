"""What is read from tokens, and what is not believed."""

from __future__ import annotations

import pytest

from accounts.models import Login, Secret
from accounts.oauth import Claims, Grant, claims
from tests.scripted_issuer import (
    NOW,
    identity,
    jwt,
)

AUTH = "https://api.openai.com/auth"


def test_account_id_is_taken_from_the_top_level_first() -> None:
    token = jwt(
        chatgpt_account_id="top", organizations=[{"id": "org"}], **{AUTH: {"chatgpt_account_id": "in"}}
    )
    assert claims(token).account_id == "top"


def test_account_id_is_taken_from_the_auth_claim_before_the_organization() -> None:
    token = jwt(organizations=[{"id": "org"}], **{AUTH: {"chatgpt_account_id": "in"}})
    assert claims(token).account_id == "in"


@pytest.mark.parametrize("auth", [["chatgpt_account_id"], "x", None, {"chatgpt_account_id": ""}])
def test_account_id_is_the_first_organization_when_nothing_else_names_it(auth: object) -> None:
    assert claims(jwt(organizations=[{"id": "org"}, {"id": "2"}], **{AUTH: auth})).account_id == "org"


def test_plan_expiry_and_email_are_read() -> None:
    token = jwt(exp=1795000000, email="a@b", **{AUTH: {"chatgpt_plan_type": "promax"}})
    assert claims(token) == Claims(None, "a@b", "promax", 1795000000.0)


def test_email_falls_back_to_the_profile_claim() -> None:
    assert claims(jwt(**{"https://api.openai.com/profile": {"email": "p@b"}})).email == "p@b"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "sk-plain-key",
        "a.b",
        "a..c",
        "a.b.c.d",
        "a.!!!.c",
        "a.é.c",
        "a.bm90IGpzb24.c",
        "a.WzFd.c",  # [1]
        "a./////w.c",  # not UTF-8
        jwt(email="x" * 9000),
        jwt(email="a@b") + "x" * 16384,
    ],
)
def test_an_unreadable_token_says_nothing(token: str) -> None:
    assert claims(token) == Claims()


@pytest.mark.parametrize("value", [7, True, [], {}, None, "", "  ", "a\r\nset-cookie: b", "\x1b[31mred"])
def test_a_claim_that_is_no_clean_text_is_not_said(value: object) -> None:
    assert claims(jwt(email=value, chatgpt_account_id=value)) == Claims()


@pytest.mark.parametrize("exp", ["1795000000", True, None, {}])
def test_an_expiry_that_is_no_number_is_not_said(exp: object) -> None:
    assert claims(jwt(exp=exp)).expires_at is None


def test_a_grant_is_named_by_the_id_token_first_and_by_the_access_token_where_that_is_silent() -> None:
    access = Secret(
        jwt(email="access@b", **{AUTH: {"chatgpt_account_id": "acc", "chatgpt_plan_type": "pro"}})
    )
    grant = Grant(access, None, Secret(jwt(email="id@b")), NOW)
    assert grant.claims == Claims("acc", "id@b", "pro", NOW)


def test_a_grant_becomes_a_login_for_the_store() -> None:
    grant = Grant(Secret("a"), Secret("r"), Secret(identity()), NOW)
    login = grant.login("work")
    assert login == Login(
        type="oauth",
        access=Secret("a"),
        refresh=Secret("r"),
        expires_at=NOW,
        account_id="acc-1",
        email="me@example.com",
        plan="plus",
        label="work",
    )


def test_a_grant_does_not_show_its_tokens() -> None:
    shown = repr(Grant(Secret("hush-a"), Secret("hush-r"), Secret("hush-i"), NOW))
    assert "hush" not in shown
