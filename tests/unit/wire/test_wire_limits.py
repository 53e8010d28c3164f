"""Token buckets and rate-limited log lines; time is a number here."""

from __future__ import annotations

import logging

import pytest

from helix.wire.limits import KeyedBuckets, RateLimit, TokenBucket


def test_burst_is_granted_then_the_wait_is_told() -> None:
    bucket = TokenBucket(burst=30, rate=2)
    assert all(bucket.take(100.0) == 0 for _ in range(30))
    assert bucket.take(100.0) == pytest.approx(0.5)
    assert bucket.take(100.5) == 0
    assert bucket.take(100.5) == pytest.approx(0.5)


def test_refused_take_costs_nothing() -> None:
    bucket = TokenBucket(1, 1)
    bucket.take(0.0)
    for _ in range(100):
        assert bucket.take(0.5) > 0
    assert bucket.take(1.0) == 0


def test_bucket_never_holds_more_than_its_burst() -> None:
    bucket = TokenBucket(2, 1000)
    bucket.take(0.0)
    assert [bucket.take(1e6) == 0 for _ in range(3)] == [True, True, False]


def test_clock_that_steps_back_adds_nothing() -> None:
    bucket = TokenBucket(1, 1)
    assert bucket.take(100.0) == 0
    assert bucket.take(50.0) > 0
    assert bucket.take(100.5) > 0
    assert bucket.take(101.0) == 0


def test_request_larger_than_the_burst_is_delayed_not_starved() -> None:
    bucket = TokenBucket(10, 1)
    assert bucket.take(0.0, 15) == 0
    assert bucket.take(0.0) == pytest.approx(6.0)
    assert bucket.take(6.0) == 0


@pytest.mark.parametrize(("burst", "rate"), [(0, 1), (1, 0), (-1, 1)])
def test_senseless_buckets_are_refused(burst: float, rate: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        TokenBucket(burst, rate)


def test_keys_do_not_share_and_the_oldest_are_forgotten() -> None:
    buckets = KeyedBuckets(burst=1, rate=1, keys_max=2)
    assert buckets.take("a", 0.0) == 0
    assert buckets.take("b", 0.0) == 0
    assert buckets.take("a", 0.0) > 0
    assert buckets.take("c", 0.0) == 0  # b goes
    assert len(buckets) == 2
    assert buckets.take("a", 0.0) > 0


def test_log_is_cut_off_after_the_burst_and_says_later_how_much_was_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limit = RateLimit(logging.getLogger("t"), burst=2, rate=0.1)
    with caplog.at_level(logging.WARNING, "t"):
        for _ in range(1000):
            limit.warning("k", 0.0, "bad %s", "frame")
        assert len(caplog.records) == 2
        limit.warning("other", 0.0, "fine")
        assert limit.warning("k", 11.0, "bad %s", "frame")
    assert limit.suppressed == 998
    assert caplog.records[-1].getMessage() == "bad frame (998 more like this were not logged)"
