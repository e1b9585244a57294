"""How long ago a result was measured, in words. No time to speak of."""

from datetime import date

import pytest

from docs._ext.ages import in_words

TODAY = date(2026, 11, 28)


@pytest.mark.parametrize(
    ("day", "words"),
    [
        (date(2026, 11, 28), "today, on 28 November 2026"),
        (date(2026, 11, 27), "1 day ago, on 27 November 2026"),
        (date(2026, 9, 30), "59 days ago, on 30 September 2026"),
        (date(2025, 10, 28), "13 months ago, on 28 October 2025"),
    ],
)
def test_an_age_is_in_words(day: date, words: str) -> None:
    assert in_words(day, TODAY) == words
