"""`nightfold run` over a file of hours that is traded by the day."""

from markets import gapless

from engine.bars.synthetic import to_csv
from engine.lake.publish import Lake
from engine.stages.common import PER_SYMBOL

DAYS = 350


def test_a_file_of_hours_runs_to_a_leaderboard_of_days(fresh):
    fresh.edit("  BBB: {source: files}\n", "")
    fresh.edit("AAA: {source: files}", "AAA: {source: files, class: crypto, frame: 1d, base_frame: 1h}")
    bars = gapless(1, 24 * DAYS + 5, "1h", symbol="AAA", volatility=0.004)
    (fresh.inbox / "AAA.csv").write_text(to_csv(bars))
    result = fresh("run")
    assert result.exit_code == 0, result.output
    lake = Lake(fresh.data)
    rows = {table: lake.read(table, "AAA").num_rows for table in ("base_bars", "bars", "features")}
    assert rows == {"base_bars": 24 * DAYS + 5, "bars": DAYS, "features": DAYS}
    assert lake.read("equity", "AAA").num_rows > 0
    again = fresh("run")
    assert all(f"AAA {stage} unchanged" in again.stdout for stage in PER_SYMBOL)
    verified = fresh("explain", "AAA", "--verify")
    assert verified.exit_code == 0, verified.output
    assert f"bars AAA: equal, {DAYS} bars made of {24 * DAYS + 5} again" in verified.stdout
