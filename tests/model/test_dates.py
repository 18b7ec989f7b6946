"""Dates that people and other programs write, the same on every Python."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neptune_async._model.dates import date_of

DAY = datetime(2026, 11, 1)
NOON = datetime(2026, 11, 1, 12)
PRECISE = datetime(2026, 11, 1, 12, 0, 5, 123456)
PLUS = timezone(timedelta(hours=5, minutes=30))


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('2026-11-01', DAY),
        ('20261101', DAY),
        ('2026-11-01T12', NOON),
        ('2026-11-01 12:00', NOON),
        ('20261101T1200', NOON),
        ('2026-11-01T12:00:05.123456', PRECISE),
        ('20261101T120005.123456', PRECISE),
        ('2026-11-01 12:00:05.123456789', PRECISE),  # pandas writes nanoseconds
        ('2026-11-01T12:00:05,1', datetime(2026, 11, 1, 12, 0, 5, 100_000)),
        ('2026-11-01T12:00Z', NOON.replace(tzinfo=timezone.utc)),
        ('2026-11-01T12:00+00', NOON.replace(tzinfo=timezone.utc)),
        ('2026-11-01T12:00+0530', NOON.replace(tzinfo=PLUS)),
        ('2026-11-01T12:00+05:30', NOON.replace(tzinfo=PLUS)),
    ],
)
def test_a_date_in_iso_8601_is_understood(text: str, expected: datetime) -> None:
    found = date_of(text)
    assert found == expected and found.utcoffset() == expected.utcoffset()


@given(
    st.datetimes(
        timezones=st.none()
        | st.integers(-86399, 86399).map(lambda seconds: timezone(timedelta(seconds=seconds)))
    )
)
def test_a_datetime_that_was_written_is_read_again(moment: datetime) -> None:
    found = date_of(moment.isoformat())
    assert found == moment and found.utcoffset() == moment.utcoffset()
    assert date_of(moment.isoformat(' ', 'microseconds')) == found


@pytest.mark.parametrize(
    'text',
    [
        '', 'soon', '2026', '2026-11', '202611', '2026-1101', '202611-01', '2026-W44-7', '2026-305',
        '2026-11-31', '2026-13-01', '0000-01-01', '2026-11-01T', '2026-11-01x12:00',
        '2026-11-01T24:00', '2026-11-01T12:60', '2026-11-01T12:0000', '2026-11-01T12:00:05.',
        '2026-11-01Z', '2026-11-01T12:00+24:00', '2026-11-01T12:00+01:75', ' 2026-11-01',
        '2026-11-01\n', '\u0662026-11-01',
    ],
)  # fmt: skip
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match='is no date in ISO 8601'):
        date_of(text)
