"""What the official Codex programs get that SDKs do not."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from addon.protocol import codex_cli, errors
from addon.protocol.errors import Cause, Failure

NOW = 1_000_000.0
LIMIT = Failure(429, "No account may serve.", "rate_limit_exceeded", "rate_limit_exceeded", None, Cause.LIMIT)


@pytest.mark.parametrize("cause", [Cause.MODEL, Cause.VERSION])
def test_a_refused_model_is_a_400_because_a_404_is_sent_six_times(cause: Cause) -> None:
    refused = Failure(404, "No such model.", "invalid_request_error", "model_not_found", None, cause)
    assert codex_cli.failure(refused, now=NOW) == replace(refused, status=400)


@pytest.mark.parametrize("wait", [None, 61.0, 7 * 86_400.0])
def test_a_limit_that_lasts_ends_the_turn_instead_of_being_waited_for(wait: float | None) -> None:
    told = codex_cli.failure(replace(LIMIT, resets_at=None if wait is None else NOW + wait), now=NOW)
    assert (told.status, told.type) == (429, "usage_limit_reached")
    shown = orjson.loads(errors.body(told))["error"]
    assert shown.get("resets_at") == (None if wait is None else int(NOW + wait))


@pytest.mark.parametrize("short", [{"resets_at": NOW + 5}, {"retry_after": 60.0}])
def test_a_short_limit_is_waited_for(short: dict[str, float]) -> None:
    limited = replace(LIMIT, **short)
    assert codex_cli.failure(limited, now=NOW) == limited


def test_other_failures_stay() -> None:
    failure = errors.refuse(404, "Not here.").failure
    assert codex_cli.failure(failure, now=NOW) == failure
