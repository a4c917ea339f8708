"""What an account has left: snapshots put together, and the questions routing asks of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts import quota
from accounts.models import Mark, Quota, Window
from tests.quota_world import FIVE_HOURS, NOW, WEEK, snapshot, window


class TestMerge:
    def test_the_newer_number_wins_whatever_the_order(self) -> None:
        old = snapshot(window(FIVE_HOURS, 10, seen=1), seen=1)
        new = snapshot(window(FIVE_HOURS, 20, seen=2), seen=2)
        assert quota.merge(old, new) == quota.merge(new, old) == new

    def test_a_window_that_an_incomplete_snapshot_does_not_mention_stays(self) -> None:
        old = snapshot(window(FIVE_HOURS, 10), window(WEEK, 50))
        new = snapshot(window(FIVE_HOURS, 20, seen=2), seen=2, complete=False)
        assert quota.merge(old, new).windows == (window(FIVE_HOURS, 20, seen=2), window(WEEK, 50))

    def test_a_newer_complete_snapshot_retires_what_it_lacks(self) -> None:
        old = snapshot(window(FIVE_HOURS, 10), window(WEEK, 50))
        new = snapshot(window(WEEK, 51, seen=2), seen=2)
        assert quota.merge(old, new).windows == (window(WEEK, 51, seen=2),)

    def test_a_late_snapshot_does_not_bring_a_retired_window_back(self) -> None:
        late = snapshot(window(FIVE_HOURS, 10), window(WEEK, 50))
        current = snapshot(window(WEEK, 51, seen=2), seen=2)
        assert quota.merge(current, late) == current

    def test_an_answer_about_the_plan_does_not_retire_the_limit_of_a_model(self) -> None:
        spark = window(FIVE_HOURS, 9, limit="codex_bengalfox", name="Spark", source="usage")
        old = snapshot(window(FIVE_HOURS, 10, source="usage"), spark)
        new = snapshot(window(FIVE_HOURS, 20, seen=2), seen=2)
        assert spark in quota.merge(old, new).windows

    def test_a_usage_answer_speaks_for_every_limit(self) -> None:
        old = snapshot(window(FIVE_HOURS, 10), window(FIVE_HOURS, 9, limit="codex_bengalfox"))
        new = snapshot(window(FIVE_HOURS, 20, seen=2, source="usage"), seen=2)
        assert quota.merge(old, new) == new

    def test_a_model_limit_is_one_window_whether_it_is_called_by_id_or_by_name(self) -> None:
        old = snapshot(window(FIVE_HOURS, 9, limit="codex_bengalfox", name="GPT-5.3-Codex-Spark"))
        new = snapshot(
            window(FIVE_HOURS, 11, seen=2, limit="GPT-5.3-Codex-Spark", name="GPT-5.3-Codex-Spark"),
            seen=2,
            complete=False,
        )
        assert [each.used_percent for each in quota.merge(old, new).windows] == [11]

    def test_numbers_of_another_identity_replace_everything(self) -> None:
        old = snapshot(window(WEEK, 99), plan="plus", reset_credits=3)
        new = snapshot(window(FIVE_HOURS, 1, seen=2), seen=2, complete=False, account_id="acct-2")
        assert quota.merge(old, new) == new

    def test_a_late_answer_of_the_former_identity_is_dropped(self) -> None:
        current = snapshot(window(FIVE_HOURS, 1, seen=2), seen=2, account_id="acct-2")
        assert quota.merge(current, snapshot(window(WEEK, 99))) == current

    def test_what_only_usage_answers_know_is_kept(self) -> None:
        old = snapshot(plan="plus", reset_credits=3, reset_credits_applicable=2)
        merged = quota.merge(old, snapshot(window(WEEK, 1, seen=2), seen=2))
        assert (merged.plan, merged.reset_credits, merged.reset_credits_applicable) == ("plus", 3, 2)
        assert quota.merge(old, snapshot(seen=3, reset_credits=0)).reset_credits == 0


windows = st.builds(
    window,
    st.sampled_from([FIVE_HOURS, WEEK, None]),
    st.floats(0, 100),
    limit=st.sampled_from(["codex", "other"]),
)


@st.composite
def snapshots(draw: st.DrawFn, seen: int) -> Quota:
    unique = draw(st.lists(windows, unique_by=lambda each: (each.minutes, each.limit_id), max_size=4))
    stamped = (replace(each, seen_at=NOW + seen) for each in unique)
    return snapshot(*stamped, seen=seen, complete=draw(st.booleans()))


@given(st.data(), st.permutations([1, 2]))
def test_merging_two_snapshots_gives_the_same_in_either_order(data: st.DataObject, order: list[int]) -> None:
    first, second = (data.draw(snapshots(seen)) for seen in order)
    assert quota.merge(first, second) == quota.merge(second, first)


@given(st.data(), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_no_merge_replaces_a_number_by_an_older_one(data: st.DataObject, times: list[int]) -> None:
    merged: Quota | None = None
    newest: dict[tuple[str, int | None], float] = {}
    for seen in times:
        new = data.draw(snapshots(seen))
        merged = quota.merge(merged, new)
        for each in merged.windows:
            key = (each.limit_id, each.minutes)
            assert each.seen_at >= newest.get(key, 0)
            newest[key] = each.seen_at


class TestExhausted:
    @pytest.mark.parametrize(
        ("windows", "until"),
        [
            ([window(FIVE_HOURS, 99.9)], None),
            ([window(FIVE_HOURS, 100, 60)], 60),
            ([window(FIVE_HOURS, 100, -1)], None),
            ([window(FIVE_HOURS, 100, None)], None),
            ([window(FIVE_HOURS, 100, 60), window(WEEK, 100, 9000)], 9000),
            ([window(FIVE_HOURS, 100, 60), window(WEEK, 20, 9000)], 60),
            ([window(FIVE_HOURS, 100, 60, limit="spark")], None),
            ([], None),
        ],
    )
    def test_until_the_last_used_up_window_resets(self, windows: list[Window], until: float | None) -> None:
        found = quota.exhausted_until(snapshot(*windows), NOW)
        assert found == (None if until is None else NOW + until)

    @pytest.mark.parametrize("model", ["gpt-5.3-codex-spark", "GPT-5.3-Codex-Spark"])
    def test_a_model_with_a_limit_of_its_own_is_metered_by_that(self, model: str) -> None:
        spark = window(FIVE_HOURS, 3, limit="codex_bengalfox", name="GPT-5.3-Codex-Spark")
        seen = snapshot(window(FIVE_HOURS, 100, 60), spark)
        assert quota.exhausted_until(seen, NOW, model) is None
        assert quota.exhausted_until(seen, NOW, "gpt-5.4") == NOW + 60


class TestMarks:
    SEEN = snapshot(window(FIVE_HOURS, 50, 600), window(WEEK, 50, 9000))

    @pytest.mark.parametrize(
        ("reset", "label", "lasts"),
        [
            (3600, "primary", 3600),
            (None, "primary", 600),
            (None, "secondary", 9000),
            (-5, "secondary", 9000),
            (None, "usage_limit_reached", 60),
            (None, None, 60),
        ],
    )
    def test_how_long_a_signal_holds(self, reset: float | None, label: str | None, lasts: float) -> None:
        own = None if reset is None else NOW + reset
        assert quota.mark_until(NOW, reset=own, label=label, windows=self.SEEN.windows) == NOW + lasts

    def test_a_past_reset_is_not_borrowed(self) -> None:
        seen = snapshot(window(FIVE_HOURS, 50, -1))
        assert quota.mark_until(NOW, reset=None, label="primary", windows=seen.windows) == NOW + 60

    @pytest.mark.parametrize(
        ("windows", "holds"),
        [
            ([window(FIVE_HOURS, 99, seen=1), window(WEEK, 0, seen=1)], False),
            ([window(FIVE_HOURS, 100, seen=1), window(WEEK, 0, seen=1)], True),
            ([window(FIVE_HOURS, 10, seen=1), window(FIVE_HOURS, 100, limit="spark", seen=1)], False),
            ([window(FIVE_HOURS, 10, limit="spark", seen=1)], True),
            ([window(FIVE_HOURS, 10), window(WEEK, 0)], True),
            ([window(FIVE_HOURS, 10, seen=1), window(WEEK, 100)], False),
            ([], True),
        ],
    )
    def test_a_mark_holds_until_a_later_number_of_its_limit_shows_room(
        self, windows: list[Window], holds: bool
    ) -> None:
        assert quota.holds(Mark(NOW + 60, "limit", NOW), snapshot(*windows), NOW) is holds

    def test_a_mark_of_a_clock_that_was_ahead_does_not_hold(self) -> None:
        assert not quota.holds(Mark(NOW + 9000, "limit", NOW + 61), None, NOW)

    SPARK = window(FIVE_HOURS, 100, limit="codex_bengalfox", name="GPT-5.3-Codex-Spark")

    @pytest.mark.parametrize(
        ("own", "model", "named", "limit"),
        [
            (SPARK, "gpt-5.3-codex-spark", "codex_bengalfox", "gpt-5-3-codex-spark"),
            (SPARK, "gpt-5.3-codex-spark", "premium", "gpt-5-3-codex-spark"),
            (SPARK, "gpt-5.3-codex-spark", None, "gpt-5-3-codex-spark"),
            (SPARK, "gpt-5.3-codex-spark", "codex", "codex"),
            (replace(SPARK, used_percent=7), "gpt-5.3-codex-spark", "premium", "codex"),
            (SPARK, "gpt-5.5", "codex_bengalfox", "gpt-5-3-codex-spark"),
            (SPARK, "gpt-5.5", "premium", "codex"),
        ],
    )
    def test_which_limit_a_refusal_is_about(
        self, own: Window, model: str, named: str | None, limit: str
    ) -> None:
        assert quota.refused_limit(snapshot(window(FIVE_HOURS, 20), own), model, named) == limit
        assert quota.refused_limit(None, model, named) == "codex"
