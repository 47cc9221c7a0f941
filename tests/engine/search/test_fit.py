from dataclasses import fields

import pytest

from engine.bars.synthetic import make_bars
from engine.search.fit import bars_sha


def test_the_hash_of_bars_covers_every_column_up_to_the_stop_and_nothing_after(with_bar):
    bars = make_bars(1, 50)
    assert bars_sha(bars, 30) == bars_sha(bars.slice(0, 30), 30) == bars_sha(with_bar(bars, 30), 30)
    assert bars_sha(bars, 30) != bars_sha(bars, 29)


@pytest.mark.parametrize("name", ["ts", "open", "high", "low", "close", "volume", "adj", "dividend"])
def test_a_change_in_any_column_changes_the_hash(name):
    from dataclasses import replace

    bars = make_bars(1, 50)
    assert name in [field.name for field in fields(bars)]
    column = getattr(bars, name).copy()
    column[29] += 1
    assert bars_sha(replace(bars, **{name: column}), 30) != bars_sha(bars, 30)
