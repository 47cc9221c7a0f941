import hashlib
import json
import math
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from engine.bars.synthetic import make_bars
from engine.forecasts.cuts import window_starts
from engine.forecasts.interface import DEFAULT_LEVELS, ForecasterSpec
from engine.forecasts.keys import STARTED, STILL_NONE, STOPPED, input_hashes, model_key, scale_free, spec_json
from engine.forecasts.local import local_spec

SPEC = local_spec("1d", "observed", 1, DEFAULT_LEVELS)
OTHER = {
    str: lambda value: value + "x", int: lambda value: value + 1, type(None): lambda _: 7,
    tuple: lambda value: (*value[:-1], 0.99) if value else (("model.safetensors", "00"),),
}  # fmt: skip


@pytest.mark.parametrize("name", [f.name for f in fields(ForecasterSpec)])
def test_any_change_of_the_specification_changes_the_model_key(name):
    value = getattr(SPEC, name)
    other = replace(SPEC, **{name: OTHER[type(value)](value)})
    assert model_key(other) != model_key(SPEC)


def test_the_order_of_fields_does_not_enter_the_model_key():
    shuffled = json.dumps(
        dict(reversed(json.loads(spec_json(SPEC)).items())), sort_keys=True, separators=(",", ":")
    )
    assert hashlib.sha256(shuffled.encode()).hexdigest()[:16] == model_key(SPEC)


def test_two_processes_agree_on_the_model_key():
    code = (
        "from engine.forecasts.keys import model_key; from engine.forecasts.local import local_spec;"
        f"print(model_key(local_spec('1d', 'observed', 1, {DEFAULT_LEVELS})))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == model_key(SPEC)


def plain_hash(bars, start, stop):
    """Return the input hash of bars start..stop-1, written out row by row."""
    numbers = []
    for t in range(start, stop):
        row = [int(bars.ts[t])]
        for price in (bars.open[t], bars.high[t], bars.low[t]):
            row.append(round(1e6 * math.log(price / bars.close[t])))
        if t == start:
            row += [0, 0]
        else:
            now, before = bars.volume[t], bars.volume[t - 1]
            row.append(round(1e6 * math.log(bars.close[t] / bars.close[t - 1])))
            if now > 0 and before > 0:
                row.append(round(1e6 * math.log(now / before)))
            else:
                row.append(STILL_NONE if now == before else STARTED if now > 0 else STOPPED)
        numbers += row
    return hashlib.blake2b(np.array(numbers, dtype="<i8").tobytes(), digest_size=16).hexdigest()


@hypothesis_settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 90), st.integers(0, 40))
def test_hashes_equal_a_plain_computation(seed, n, lookback):
    bars = make_bars(seed, n) if n else make_bars(seed, 1).slice(0, 0)
    starts = window_starts(bars.ts, "1d", "observed", lookback)
    assert input_hashes(bars, starts) == [plain_hash(bars, int(starts[t]), t + 1) for t in range(n)]


def test_a_volume_of_zero_is_coded():
    bars = make_bars(0, 5)
    bars = replace(bars, volume=np.array([5.0, 0.0, 0.0, 3.0, 3.0]))
    assert scale_free(bars)[:, 5].tolist() == [0, STOPPED, STILL_NONE, STARTED, 0]


@pytest.mark.parametrize("ratio", [2.0, 7.0, 0.05])
def test_a_split_leaves_every_hash_as_it_was(split, ratio):
    bars = make_bars(3, 400)
    starts = window_starts(bars.ts, "1d", "observed", 100)
    assert input_hashes(split(bars, ratio), starts) == input_hashes(bars, starts)


def test_a_changed_bar_changes_exactly_the_windows_that_hold_it(change_bar):
    bars, at = make_bars(3, 600), 200
    starts = window_starts(bars.ts, "1d", "observed", 100)
    before, after = input_hashes(bars, starts), input_hashes(change_bar(bars, at), starts)
    differs = [t for t in range(600) if before[t] != after[t]]
    assert differs == [t for t in range(600) if starts[t] <= at <= t]


def test_bars_older_than_the_window_do_not_enter_its_hash(change_bar):
    bars = make_bars(3, 600)
    starts = window_starts(bars.ts, "1d", "observed", 100)
    first = int(starts[-1])
    moved = change_bar(bars, first - 1, 1.05)  # the close before the window's first bar
    assert input_hashes(moved, starts)[-1] == input_hashes(bars, starts)[-1]
