"""The forward record: each night's fit on the bars that came after it, once, from the position it left."""

import ast
import inspect
import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from engine.features.table import FeatureSet
from engine.lake.publish import rows_of
from engine.search.levels_fit import LevelsFitter
from engine.simulation import adjusted_tick
from engine.simulation.levels import trades
from engine.stages import _decisions, _forward
from engine.stages.common import median_forecasts, procedure_hash, read_bars
from engine.stages.next_orders import next_orders
from engine.strategies import registry
from engine.validation import champion

SYMBOL, CASH = "ALFA", 100_000.0
NAMES = ("levels_always_on", "levels_entry_exit", "trend")
KNOWN = 889, 890, 892  # bars of three nights after the first; the night of bar 891 is skipped


@pytest.fixture(scope="module")
def nights(_early_lake, alfa, tmp_path_factory):
    """The lake after three more nights; ``records`` are the rows after each, the first night's first."""
    bench = _early_lake.copy_to(tmp_path_factory.mktemp("nights") / "data")
    bench.records = [bench.rows("forward")]
    for count in KNOWN:
        bench.write(alfa(count))
        bench.chain()
        bench.records.append(bench.rows("forward"))
    return bench


@pytest.fixture(scope="module")
def record(small_lake):
    """Make nights of the trend strategy at will; ask for its rows and orders on the first n bars."""
    return Record(small_lake)


class Record:
    """Made nights of `trend`: every fit is another set of parameters."""

    first, last = 600, 680

    def __init__(self, bench, bars=None):
        settings = bench.settings
        self.bench, self.instrument = bench, settings.instrument(SYMBOL)
        self.bars = bars or read_bars(bench.lake, self.instrument)
        self.entry = next(e for e in settings.entries(SYMBOL) if e.label == "trend")
        self.procedure = procedure_hash(self.entry, self.instrument, settings)

    def night(self, t, **changes):
        """Return the fit of the night whose last bar is t."""
        draw = np.random.default_rng(t)
        params = {"fast": int(draw.integers(2, 9)), "slow": int(draw.integers(12, 40)), "adx_min": 0.0,
                  "stop_atr": float(draw.uniform(1, 3)), "target_atr": float(draw.uniform(1, 4))}  # fmt: skip
        ts = self.bars.ts
        return {
            "strategy": "trend", "policy": "", "asof": int(ts[t]), "train_start": int(ts[t - 400]),
            "params": json.dumps(params), "status": "ok", "selected": True, "procedure": self.procedure,
            "model_key": "", **changes,
        }  # fmt: skip

    def part(self, n, bars=None):
        bars = (bars or self.bars).slice(0, n)
        return bars, FeatureSet(bars, adjusted_tick(bars, self.instrument.tick))

    def rows(self, n, nights, known=(), bars=None):
        args = self.bench.lake, *self.part(n, bars), self.instrument, self.entry, self.procedure
        self.said = []
        return _forward.score_nights(*args, nights, known, progress=self.said.append)

    def orders(self, n, night, before, bars=None):
        args = self.bench.lake, *self.part(n, bars), self.instrument, self.entry
        return next_orders(*args, [night], before)


def test_the_first_night_has_no_row_and_each_later_one_a_row_a_strategy(nights):
    stamps = nights.table("bars")["ts"].to_pylist()
    assert [len(rows) for rows in nights.records] == [0, 3, 6, 9]
    for name in NAMES:
        rows = [row for row in nights.records[-1] if row["strategy"] == name]
        assert [row["asof"] for row in rows] == [stamps[i] for i in (887, 888, 889)]
        assert [row["start"] for row in rows] == [stamps[i] for i in (888, 889, 890)]
        assert [row["bars"] for row in rows] == [1, 1, 2]  # the skipped night makes one longer row
        assert {row["label"] for row in rows} == {"clean"}
        for before, after in pairwise(rows):
            assert after["position_in"] == before["position_out"]
    for before, after in pairwise(nights.records):
        assert [row for row in after if row in before] == before


def test_an_unchanged_night_writes_nothing_and_a_lost_table_comes_back(nights):
    before = nights.files()
    assert nights.chain()["backtests"].unchanged and nights.files() == before
    for name in ("next_orders", "forward"):  # as where a run was killed between two tables; then all of it
        (nights.data_dir / "lake" / name / f"{SYMBOL}.parquet").unlink()
        nights.chain()
        assert nights.files() == before, name


def test_a_row_is_never_written_again(early, alfa, with_bar):
    """Neither where its prices were corrected since, nor where the code earns something else."""
    early.write(alfa(889))
    early.chain()
    rows = early.table("forward")
    wrong = rows.set_column(rows.column_names.index("net"), "net", pa.array([0.5] * len(rows)))
    early.lake.publish("forward", SYMBOL, wrong, {"result_id": "of other code"})
    early.write(with_bar(alfa(890), 886))
    early.chain()
    assert [row["net"] for row in early.rows("forward")].count(0.5) == 3
    assert len(early.rows("forward")) == 6
    net = {row["strategy"]: row["net"] for row in early.rows("forward")[1::2]}
    assert 0.5 not in net.values()


def test_levels_rows_are_the_trades_of_the_fit_on_the_bars_after_it(nights):
    bars = read_bars(nights.lake, nights.settings.instrument(SYMBOL))
    fits = {(row["strategy"], row["asof"]): row for row in nights.rows("nightly") if row["selected"]}
    seen = 0
    instrument = nights.settings.instrument(SYMBOL)
    for name in NAMES[:2]:
        entry = next(e for e in nights.settings.entries(SYMBOL) if e.label == name)
        high, low, key = median_forecasts(nights.lake, bars, entry.levels.level)
        fitter = LevelsFitter(bars, high, low, key, registry.get(name), entry, instrument)
        money = CASH
        for row, (start, stop) in zip(
            (r for r in nights.records[-1] if r["strategy"] == name), ((888, 889), (889, 890), (890, 892)),
            strict=True,
        ):  # fmt: skip
            params = json.loads(fits[name, row["asof"]]["params"])
            legs = trades(fitter.problem(start, stop), bars, params["u"], params["v"], "close")
            money += CASH * legs.net.sum()
            seen += len(legs.net)
            assert row["net"] == pytest.approx(legs.net.sum(), abs=1e-15)
            assert row["costs"] == pytest.approx(legs.costs.sum(), abs=1e-15)
            assert row["gross"] - row["costs"] == pytest.approx(row["net"], abs=1e-15)
            assert (row["fills"], row["position_out"]) == (2 * len(legs.net), 0.0)
            assert row["equity"] == pytest.approx(money, rel=1e-12)
    assert seen >= 4


def test_night_by_night_gives_the_rows_of_one_run_over_the_same_nights(record):
    every = [record.night(t) for t in range(record.first, record.last)]
    rows = []
    for count in range(1, len(every) + 1):
        rows += record.rows(record.first + count, every[:count], rows)
    assert rows == record.rows(record.last, every)
    assert len(rows) == len(every) - 1 and len({row["position_out"] for row in rows}) > 8
    equity = CASH
    for row in rows:
        assert row["equity"] == pytest.approx(equity * (1 + row["net"]), rel=1e-12)
        assert row["gross"] - row["net"] == pytest.approx(row["costs"], abs=1e-12)
        equity = row["equity"]
    skipped = record.rows(record.last, every[::3])
    assert [row["bars"] for row in skipped] == [3] * len(skipped)
    assert sum(row["bars"] for row in skipped) <= sum(row["bars"] for row in rows)


def test_what_a_row_does_at_the_open_is_the_order_of_the_night(record):
    """Every action is met; an order on a bar without volume waits for nobody: the next night decides."""
    nights = [record.night(t) for t in range(record.first, record.last)]
    nights[40]["status"] = nights[41]["status"] = "no_candidate"  # what is held then is sold
    rows, met = record.rows(record.last, nights), set()
    before = [None, *rows]
    for t, (night, row) in enumerate(zip(nights, rows, strict=False), start=record.first):
        orders = record.orders(t + 1, night, before[t - record.first])
        for order in orders:
            met.add(order["action"])
        actions = [order["action"] for order in orders]
        if record.bars.volume[t + 1] == 0.0:
            assert row["fills"] == 0
            continue
        share = (
            sum(order["quantity_per_100k"] for order in orders)
            * (before[t - record.first] or {"equity": CASH})["equity"]
            / 1e5
        )
        if actions == ["none"]:
            assert (row["fills"], row["position_in"], row["position_out"]) == (0, 0.0, 0.0)
        elif actions == ["enter"]:
            assert row["position_in"] == 0.0 and row["fills"] >= 1
            if row["fills"] == 1:
                assert abs(row["position_out"]) == pytest.approx(share, rel=0.1)  # the open is another price
                assert (row["position_out"] > 0) == (orders[0]["side"] == "long")
        elif actions == ["exit"]:
            assert row["position_out"] == 0.0 and abs(row["position_in"]) == pytest.approx(share, rel=1e-9)
        else:
            assert actions == ["hold"] and abs(row["position_in"]) == pytest.approx(share, rel=1e-9)
            held = json.loads(rows[t - record.first - 1]["carried"])
            outward = math.ceil if orders[0]["side"] == "long" else math.floor  # a sale up, a buy down
            for name in ("stop", "target"):
                assert orders[0][name] == pytest.approx(outward(held[name] * 100) / 100, abs=1e-9)
            low, high, side = record.bars.low[t + 1], record.bars.high[t + 1], np.sign(row["position_in"])
            stopped = low <= held["stop"] if side > 0 else high >= held["stop"]
            assert (row["fills"] == 1 and row["position_out"] == 0.0) if stopped else True
    assert met == {"none", "enter", "exit", "hold"}
    assert rows[40]["position_out"] == rows[41]["position_out"] == 0.0


def test_a_split_that_becomes_known_changes_no_share_held(record):
    """Bars on the basis after a 2:1 split, from the middle of the record on."""
    nights = [record.night(t) for t in range(record.first, record.last)]
    plain, half, cut = record.rows(record.last, nights), [], record.first + 40
    bars = record.bars
    late = replace(
        bars, **{name: getattr(bars, name) / 2 for name in ("open", "high", "low", "close", "dividend")},
        volume=bars.volume * 2, adj=np.where(np.arange(len(bars)) < cut, 2.0, 1.0),
    )  # fmt: skip
    half = record.rows(cut, nights[:40])
    half = half + record.rows(record.last, nights, half, late)
    for old, new in zip(plain, half, strict=True):
        factor = 1.0 if old["end"] <= bars.ts[cut] else 2.0
        assert new["position_out"] == pytest.approx(old["position_out"] * factor, rel=1e-9)
        assert new["net"] == pytest.approx(old["net"], abs=1e-9)


def test_changed_settings_begin_a_record_of_their_own_flat(record):
    nights = [record.night(t) for t in range(record.first, record.first + 30)]
    old = record.rows(record.first + 30, nights)
    later = [record.night(t, procedure="new") for t in range(record.first + 30, record.first + 40)]
    assert record.rows(record.first + 40, nights + later, old) == []  # the last night has no next one
    record.procedure, before = "new", record.procedure
    try:
        new = record.rows(record.first + 40, nights + later, old)
    finally:
        record.procedure = before
    assert len(new) == 9 and new[0]["position_in"] == 0.0
    assert new[0]["equity"] == pytest.approx(CASH * (1 + new[0]["net"]))


def test_settings_changed_and_changed_back_leave_nothing_held(record):
    nights = [record.night(t) for t in range(record.first, record.first + 40)]
    rows = record.rows(record.first + 40, nights)
    held = next(i for i, row in enumerate(rows[:-5]) if row["position_out"] != 0.0)
    gap = nights[: held + 1] + nights[held + 3 :]  # rows to `held` are known; two nights were another's
    new = record.rows(record.first + 40, gap, rows[: held + 1])
    assert (new[0]["asof"], new[0]["position_in"]) == (nights[held + 3]["asof"], 0.0)
    assert new[0]["equity"] == pytest.approx(rows[held]["equity"] * (1 + new[0]["net"]), rel=1e-12)


def test_the_record_decides_no_champion(nights):
    """Rows of a thousandfold gain leave every decision as it is; nothing that decides reads them."""
    before = rows_of(nights.lake.read("champions", "_all"))
    rows = nights.table("forward")
    decided = _decisions.decide_symbol(nights.lake, SYMBOL, nights.settings, before)
    path = nights.data_dir / "lake" / "forward" / f"{SYMBOL}.parquet"
    kept = path.read_bytes()
    rich = rows.set_column(rows.column_names.index("net"), "net", pa.array([1000.0] * len(rows)))
    nights.lake.publish("forward", SYMBOL, rich, {"result_id": "rich"})
    again = _decisions.decide_symbol(nights.lake, SYMBOL, nights.settings, before)
    path.write_bytes(kept)
    assert repr(again) == repr(decided) and len(decided[0]) == 3
    for module in (_decisions, champion):
        tree = ast.parse(inspect.getsource(module))
        words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        assert "forward" not in words


@pytest.mark.parametrize(("name", "value"), [("no_such_parameter", 1), ("stop_atr", 1e9)])
def test_a_night_whose_parameters_the_strategy_refuses_today_is_left_out_and_said(record, name, value):
    nights = [record.night(t) for t in (600, 610, 620)]
    refused = {**nights[1], "params": json.dumps({name: value})}
    without = record.rows(630, [nights[0], nights[2]])
    assert record.said == []
    rows = record.rows(630, [nights[0], refused, nights[2]])
    assert rows == without and len(rows) == 1
    (said,) = record.said
    assert said.startswith("forward record of trend: 1 nights are not scored, the first of ") and name in said


def test_an_accepted_revision_with_fewer_bars_takes_no_account_from_the_future(record):
    nights = [record.night(t) for t in (600, 610, 620, 630)]
    known = record.rows(640, nights)
    last = int(record.bars.ts[615])
    assert _forward.newest(known, last) == known[0] and _forward.newest(known[1:], last) is None
