from dataclasses import replace

import numpy as np
import pytest

from engine.bars.synthetic import make_bars
from engine.errors import ForecastInputError
from engine.forecasts.baselines import HistoricalSimulation, fhs_spec
from engine.forecasts.cuts import REFIT_BARS, cut_positions, refit_groups, window_starts
from engine.forecasts.interface import DEFAULT_LEVELS
from engine.forecasts.local import local_spec
from engine.forecasts.running import requests
from engine.forecasts.training import cut_groups, history_needed, training_rows

SPEC = local_spec("1d", "observed", 1, DEFAULT_LEVELS)


def one_request(bars, as_of):
    starts = window_starts(bars.ts, bars.frame, bars.calendar, SPEC.lookback)
    (request,) = requests(bars, starts, np.array(as_of, dtype=np.int64), len(as_of), 1)
    return request


def test_a_cut_serves_its_whole_group_and_trains_on_nothing_after_itself():
    bars = make_bars(1, 1500)
    as_of = list(range(1200, 1500))
    cuts = cut_positions(refit_groups(bars.ts, "1d", "observed"))
    starts = window_starts(bars.ts, "1d", "observed", SPEC.lookback)
    groups = cut_groups(one_request(bars, as_of), np.arange(300), SPEC)
    assert len(groups) == len(set(cuts[as_of].tolist()))
    for group in groups:
        served = [as_of[w] for w in group.windows]
        cut = int(cuts[served[0]])
        assert set(cuts[served].tolist()) == {cut}
        assert group.cut == cut - starts[served[0]] == 1000
        assert (group.as_of + starts[served[0]]).tolist() == served
        for step in (1, 7):
            rows = training_rows(group.prepared, group.cut, step)
            assert rows[-1] + step == group.cut
            assert len(rows) == 750 and rows[0] == group.cut - 750 - step + 1


def test_windows_of_two_histories_never_share_a_fit(change_bar):
    bars = make_bars(1, 700)
    request = one_request(bars, [690, 695, 699])
    values = request.bars.copy()
    values[1, -1] *= 1.01  # the middle window departs from the others at its last bar
    groups = cut_groups(replace(request, bars=values), np.arange(3), SPEC)
    assert sorted(g.windows.tolist() for g in groups) == [[1], [2, 0]]
    assert len({g.digest for g in groups}) == 1  # the history up to the cut is still one
    values[1, 300] *= 1.01
    groups = cut_groups(replace(request, bars=values), np.arange(3), SPEC)
    assert len({g.digest for g in groups}) == 2


def test_refuses_a_request_without_volume():
    request = one_request(make_bars(1, 300), [299])
    bare = replace(request, bars=request.bars[:, :, :4].copy(), columns=request.columns[:4])
    with pytest.raises(
        ForecastInputError, match="the local forecaster needs the columns open, .*, volume; the request had"
    ):
        cut_groups(bare, np.arange(1), SPEC)


@pytest.mark.parametrize("horizon", [1, 4])
def test_the_history_needed_is_the_longest_wait_for_a_first_answer(horizon):
    """Sixty-three series, each begun one weekday later, so that the cut falls at every distance."""
    bars, first = make_bars(3, 330), []
    for offset in range(REFIT_BARS):
        part = bars.slice(offset, offset + 265)
        spec = fhs_spec("1d", "observed", horizon, (0.5,))
        starts = np.zeros(len(part), dtype=np.int64)
        (request,) = requests(part, starts, np.arange(155, len(part)), len(part), 1)
        answered = [status == "ok" for status in HistoricalSimulation(spec).run(request).status]
        assert answered == sorted(answered)
        first.append(155 + answered.index(True) + 1)
    assert max(first) == history_needed(horizon)
    assert min(first) == history_needed(horizon) - REFIT_BARS + 1
