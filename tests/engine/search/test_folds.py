import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config_sections import Folds
from engine.search.folds import Fold, bars_needed, inner_spans, nightly_window, walk_forward
from engine.sources import sample

TREND = Folds()  # the defaults: 250 + 1000, test 125
LEVELS = Folds(train_bars=500, test_bars=20)


def _settings(**sizes):
    return Folds(**{"warmup_bars": 10, "train_bars": 20, "test_bars": 5, "inner_folds": 2, **sizes})


TABLE = [
    # bars, settings, purge, (train_from, train_to, test_from, test_to, open) of each fold
    (34, _settings(), 0, [(10, 30, 30, 34, True)]),
    (30, _settings(), 0, [(10, 30, 30, 30, True)]),
    (29, _settings(), 0, []),
    (35, _settings(), 0, [(10, 30, 30, 35, False), (15, 35, 35, 35, True)]),
    (41, _settings(), 0, [(10, 30, 30, 35, False), (15, 35, 35, 40, False), (20, 40, 40, 41, True)]),
    (41, _settings(scheme="anchored"), 0,
     [(10, 30, 30, 35, False), (10, 35, 35, 40, False), (10, 40, 40, 41, True)]),
    (41, _settings(), 3, [(10, 30, 33, 38, False), (15, 35, 38, 41, True)]),
    (41, _settings(scheme="anchored"), 3, [(10, 30, 33, 38, False), (10, 35, 38, 41, True)]),
    (32, _settings(warmup_bars=0), 1,
     [(0, 20, 21, 26, False), (5, 25, 26, 31, False), (10, 30, 31, 32, True)]),
]  # fmt: skip


@pytest.mark.parametrize("bars, settings, purge, expected", TABLE)
def test_settings_give_these_indices(bars, settings, purge, expected):
    assert walk_forward(bars, settings, purge) == [Fold(k, *row) for k, row in enumerate(expected)]


@st.composite
def cuts(draw):
    test = draw(st.integers(1, 30))
    settings = Folds(
        scheme=draw(st.sampled_from(["rolling", "anchored"])),
        warmup_bars=draw(st.integers(0, 40)),
        train_bars=draw(st.integers(2, 80)),
        test_bars=test,
        inner_folds=2,
        min_folds=draw(st.integers(1, 4)),
    )
    return draw(st.integers(0, 400)), settings, draw(st.integers(0, 20))


@given(cuts())
def test_no_training_bar_or_its_outcome_reaches_into_a_test(case):
    bars, settings, purge = case
    folds = walk_forward(bars, settings, purge)
    for fold in folds:
        assert fold.train_to - 1 + purge < fold.test_from
        assert (
            settings.warmup_bars <= fold.train_from < fold.train_to <= fold.test_from <= fold.test_to <= bars
        )
        rolling = settings.scheme == "rolling"
        assert fold.train_to - fold.train_from == settings.train_bars if rolling else True
        assert fold.open == (fold.test_to - fold.test_from < settings.test_bars)
    for before, after in zip(folds, folds[1:], strict=False):
        assert before.test_to <= after.test_from and not before.open


@given(cuts(), st.integers(1, 40))
def test_new_bars_move_no_fold_and_only_fill_the_open_one(case, more):
    bars, settings, purge = case
    before, after = walk_forward(bars, settings, purge), walk_forward(bars + more, settings, purge)
    assert len(after) >= len(before)
    for old, new in zip(before, after, strict=False):
        assert (old.number, old.train_from, old.train_to, old.test_from) == (
            new.number, new.train_from, new.train_to, new.test_from
        )  # fmt: skip
        assert old == new if not old.open else new.test_to >= old.test_to


@given(cuts())
def test_bars_needed_are_exactly_those_of_the_least_number_of_full_tests(case):
    _, settings, purge = case
    needed = bars_needed(settings, purge)
    full = [sum(not f.open for f in walk_forward(n, settings, purge)) for n in (needed - 1, needed)]
    assert full == [settings.min_folds - 1, settings.min_folds]


@pytest.mark.parametrize(
    "key, settings, full, open_bars, needed",
    [
        ("AAPL", TREND, 16, 20, 1750),
        ("GOOG", TREND, 7, 23, 1750),
        ("AAPL", LEVELS, 126, 0, 830),
        ("GOOG", LEVELS, 69, 18, 830),
    ],
)
def test_the_sample_has_these_folds(key, settings, full, open_bars, needed):
    folds = walk_forward(len(sample(key)), settings, 0)
    assert sum(not fold.open for fold in folds) == full
    assert (folds[-1].open, folds[-1].test_to - folds[-1].test_from) == (True, open_bars)
    assert bars_needed(settings, 0) == needed


@pytest.mark.parametrize(
    "scheme, bars, window",
    [("rolling", 100, (80, 100)), ("rolling", 25, (10, 25)), ("anchored", 100, (10, 100))],
)
def test_tonights_window_ends_at_the_last_bar(scheme, bars, window):
    assert nightly_window(bars, _settings(scheme=scheme)) == window


def test_tonights_window_is_that_of_a_fold_that_begins_now():
    settings = _settings()
    fold = walk_forward(40, settings, 0)[-1]
    assert (fold.train_from, fold.train_to) == nightly_window(40, settings)


@given(st.integers(0, 50), st.integers(2, 400), st.integers(2, 20))
def test_inner_spans_cover_the_training_part_once(start, length, count):
    spans = inner_spans(start, start + length, count)
    assert len(spans) == count
    assert [a for a, _ in spans] + [start + length] == [start] + [b for _, b in spans]
    sizes = [b - a for a, b in spans]
    assert max(sizes) - min(sizes) <= 1
