"""The three sources of quota: headers, stream events and the usage endpoint, each read into one snapshot."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from accounts import quota
from accounts.models import Credits, Quota
from tests.quota_world import ACCOUNT, FIVE_HOURS, MONTH, NOW, WEEK, snapshot, window


def headers(**values: object) -> dict[str, str]:
    return {f"x-codex-{name.replace('_', '-')}": str(value) for name, value in values.items()}


def slot(name: str, used: object, minutes: object, reset: object) -> dict[str, str]:
    return headers(
        **{f"{name}_used_percent": used, f"{name}_window_minutes": minutes, f"{name}_reset_at": reset}
    )


BOTH = slot("primary", 42, FIVE_HOURS, NOW + 1200) | slot("secondary", 5.5, WEEK, NOW + 9000)
RETIRED = slot("secondary", 0, 0, "")


def read(values: dict[str, str]) -> Quota | None:
    return quota.from_headers(values, now=NOW, account_id=ACCOUNT)


def lengths(snapshot: Quota | None) -> list[int | None]:
    return [] if snapshot is None else [each.minutes for each in snapshot.windows]


class TestHeaders:
    def test_two_windows(self) -> None:
        assert read(BOTH) == snapshot(window(FIVE_HOURS, 42, 1200), window(WEEK, 5.5, 9000))

    def test_names_are_read_in_any_case(self) -> None:
        assert read({name.title(): value for name, value in BOTH.items()}) == read(BOTH)

    def test_a_weekly_window_in_the_primary_slot_is_a_weekly_window(self) -> None:
        seen = read(slot("primary", 0, WEEK, NOW + 604_800) | RETIRED)
        assert seen == snapshot(window(WEEK, 0, 604_800))

    def test_thirty_days(self) -> None:
        assert lengths(read(slot("primary", 1, MONTH, NOW + 5) | RETIRED)) == [MONTH]

    def test_all_slots_retired_is_a_complete_answer_without_windows(self) -> None:
        assert read(slot("primary", 0, 0, "") | RETIRED) == snapshot()

    @pytest.mark.parametrize("bad", ["", " ", "many", "-1", "100.1", "nan", "inf"])
    def test_one_invalid_used_percent_voids_the_family(self, bad: str) -> None:
        assert read(BOTH | headers(secondary_used_percent=bad)) is None

    @pytest.mark.parametrize(
        ("values", "exists"),
        [
            (headers(primary_used_percent=0), False),
            (headers(primary_used_percent=0, primary_window_minutes=0), False),
            (headers(primary_used_percent=0, primary_window_minutes=300), True),
            (headers(primary_used_percent=0, primary_reset_at=NOW + 5), True),
            (headers(primary_used_percent=3), True),
        ],
    )
    def test_a_window_exists_if_anything_but_a_zero_says_so(
        self, values: dict[str, str], exists: bool
    ) -> None:
        assert bool(lengths(read(values))) is exists

    def test_an_answer_that_names_one_slot_does_not_say_that_the_other_is_gone(self) -> None:
        seen = read(slot("primary", 100, FIVE_HOURS, NOW + 60))
        assert seen is not None
        assert not seen.complete

    def test_a_lone_zero_does_not_end_a_window(self) -> None:
        seen = read(slot("primary", 10, FIVE_HOURS, NOW + 60) | headers(secondary_used_percent=0))
        assert seen is not None
        assert not seen.complete

    def test_a_distance_serves_where_the_moment_is_missing(self) -> None:
        seen = read(
            headers(primary_used_percent=5, primary_window_minutes=300, primary_reset_after_seconds=90)
        )
        assert seen is not None
        assert seen.windows == (window(FIVE_HOURS, 5, 90),)

    def test_other_limits_keep_their_own_id_and_name(self) -> None:
        other = {
            "x-codex-bengalfox-primary-used-percent": "7",
            "x-codex-bengalfox-primary-window-minutes": "300",
            "x-codex-bengalfox-limit-name": "GPT-5.3-Codex-Spark",
        }
        seen = read(BOTH | other)
        assert seen is not None
        assert (
            window(FIVE_HOURS, 7, None, limit="codex_bengalfox", name="GPT-5.3-Codex-Spark") in seen.windows
        )
        assert len(seen.windows) == 3

    def test_a_broken_family_leaves_the_others_alone(self) -> None:
        assert lengths(read(BOTH | {"x-other-primary-used-percent": "x"})) == [FIVE_HOURS, WEEK]

    @pytest.mark.parametrize(
        ("has", "unlimited", "expected"),
        [
            ("True", "False", Credits(True, False, "12.5")),
            ("1", "0", Credits(True, False, "12.5")),
            ("true", "", None),
            ("", "", None),
        ],
    )
    def test_credits_need_both_flags(self, has: str, unlimited: str, expected: Credits | None) -> None:
        seen = read(
            BOTH | headers(credits_has_credits=has, credits_unlimited=unlimited, credits_balance="12.5")
        )
        assert seen is not None
        assert seen.credits == expected

    def test_the_plan(self) -> None:
        seen = read(headers(plan_type="team"))
        assert seen == snapshot(complete=False, plan="team")

    def test_an_answer_without_any_of_it_is_none(self) -> None:
        assert read({"content-type": "text/html"}) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1_781_625_766, 1_781_625_766.0),
        ("1781625766", 1_781_625_766.0),
        (1_781_625_766_000, 1_781_625_766.0),
        ("2026-06-16T16:02:46Z", 1_781_625_766.0),
        ("2026-06-16T16:02:46.000", 1_781_625_766.0),
        (0, 0.0),
        ("", None),
        (None, None),
        (True, None),
        ("soon", None),
        (-5, None),
        (1e30, None),
        (float("nan"), None),
    ],
)
def test_resets_come_as_seconds_milliseconds_text_or_dates(value: object, seconds: float | None) -> None:
    event = {"rate_limits": {"primary": {"used_percent": 1, "window_minutes": 300, "reset_at": value}}}
    seen = quota.from_frame(event, now=NOW, account_id=ACCOUNT)
    assert seen is not None
    assert seen.windows[0].resets_at == seconds


def frame(primary: object, secondary: object, **more: Any) -> dict[str, Any]:
    limits = {"allowed": True, "limit_reached": False, "primary": primary, "secondary": secondary}
    return {"type": "codex.rate_limits", "plan_type": "pro", "rate_limits": limits, **more}


def json_window(used: object, minutes: object = FIVE_HOURS, reset_in: float = 1200) -> dict[str, object]:
    return {"used_percent": used, "window_minutes": minutes, "reset_at": NOW + reset_in}


def read_frame(event: dict[str, Any]) -> Quota:
    seen = quota.from_frame(event, now=NOW, account_id=ACCOUNT)
    assert seen is not None
    return seen


class TestFrame:
    def test_two_windows_plan_and_credits(self) -> None:
        credits = {"has_credits": True, "unlimited": False, "balance": 3}
        seen = read_frame(frame(json_window(17), json_window(73, WEEK, 9000), credits=credits))
        assert seen == snapshot(
            window(FIVE_HOURS, 17, 1200, source="frame"),
            window(WEEK, 73, 9000, source="frame"),
            plan="pro",
            credits=Credits(True, False, "3"),
        )

    def test_a_null_window_is_gone(self) -> None:
        seen = read_frame(frame(json_window(17, WEEK), None))
        assert lengths(seen) == [WEEK]
        assert seen.complete

    @pytest.mark.parametrize("used", ["17", None, True, 101, -1, float("nan"), 10**400])
    def test_an_invalid_window_is_dropped_and_the_other_kept(self, used: object) -> None:
        seen = read_frame(frame(json_window(used), json_window(73, WEEK)))
        assert lengths(seen) == [WEEK]
        assert not seen.complete

    def test_a_frame_without_windows_wipes_nothing(self) -> None:
        assert not read_frame(frame(None, None)).complete

    @pytest.mark.parametrize(
        "additional",
        [
            {"GPT-5.3-Codex-Spark": {"primary": json_window(3)}},
            [{"limit_name": "GPT-5.3-Codex-Spark", "rate_limit": {"primary_window": json_window(3)}}],
        ],
    )
    def test_limits_of_single_models_come_as_object_or_list(self, additional: object) -> None:
        seen = read_frame(frame(json_window(17), None, additional_rate_limits=additional))
        assert lengths(seen) == [FIVE_HOURS, FIVE_HOURS]
        assert [each.limit_name for each in seen.windows] == [None, "GPT-5.3-Codex-Spark"]

    def test_a_frame_about_another_limit_says_nothing_of_the_plan(self) -> None:
        seen = read_frame(frame(json_window(17), None, metered_limit_name="codex_bengalfox"))
        assert seen.windows[0].limit_id == "codex_bengalfox"
        assert not seen.complete

    @pytest.mark.parametrize("event", [{}, {"rate_limits": None}, {"rate_limits": "x"}, {"rate_limits": []}])
    def test_nothing_in_it(self, event: dict[str, Any]) -> None:
        assert quota.from_frame(event, now=NOW, account_id=ACCOUNT) is None


class TestUsage:
    ANSWER: ClassVar[dict[str, Any]] = {
        "plan_type": "plus",
        "rate_limit": {
            "allowed": True,
            "primary_window": {"used_percent": 42, "limit_window_seconds": 18_000, "reset_at": NOW + 1200},
            "secondary_window": {"used_percent": 5, "limit_window_seconds": 604_800, "reset_at": NOW + 9000},
        },
        "credits": {"has_credits": False, "unlimited": False, "balance": "0"},
        "additional_rate_limits": [
            {
                "limit_name": "Some-Model",
                "metered_feature": "codex_bengalfox",
                "rate_limit": {"primary_window": {"used_percent": 9, "limit_window_seconds": 18_000}},
            }
        ],
        "rate_limit_reset_credits": {"available_count": 4, "applicable_available_count": 3},
    }

    def read(self, **change: object) -> Quota:
        return quota.from_usage(self.ANSWER | change, now=NOW, account_id=ACCOUNT)

    def test_everything(self) -> None:
        assert self.read() == snapshot(
            window(FIVE_HOURS, 42, 1200, source="usage"),
            window(WEEK, 5, 9000, source="usage"),
            window(FIVE_HOURS, 9, None, source="usage", limit="codex_bengalfox", name="Some-Model"),
            plan="plus",
            credits=Credits(False, False, "0"),
            reset_credits=4,
            reset_credits_applicable=3,
        )

    def test_null_windows_are_gone(self) -> None:
        seen = self.read(
            rate_limit={"primary_window": None, "secondary_window": None}, additional_rate_limits=None
        )
        assert seen.complete
        assert not seen.windows

    @pytest.mark.parametrize("limits", [None, {}, {"allowed": True}, "x"])
    def test_without_the_member_nothing_is_gone(self, limits: object) -> None:
        assert not self.read(rate_limit=limits).complete

    @pytest.mark.parametrize(
        ("counts", "known"),
        [
            ({"available_count": 0}, 0),
            ({"available_count": None}, None),
            ({"available_count": "4"}, None),
            ({"available_count": -1}, None),
            (None, None),
        ],
    )
    def test_reset_credits_are_real_numbers_or_unknown(self, counts: object, known: int | None) -> None:
        assert self.read(rate_limit_reset_credits=counts).reset_credits == known
