"""After the settings changed, no command shows an order of the settings before as current."""

import json

import pytest

SAID = "BBB trend: settings changed since its last fit; run nightfold run BBB"


def strategies_with_orders(text, symbol):
    lines = (line.split() for line in text.splitlines() if line.startswith(f"  {symbol} "))
    return {line[1] for line in lines}


@pytest.mark.parametrize(
    "old, new, line",
    [
        ("  - strategy: trend\n", "  - strategy: trend\n    symbols: [AAA]\n", SAID),
        ("high: 10}", "high: 11}", SAID),
        ("search: {screen: 0", "seed: 7\nsearch: {screen: 0", SAID),
    ],
    ids=["left the symbol", "other bounds", "other seed"],
)
def test_champions_export_and_report_leave_old_orders_out_and_say_so(done, old, new, line):
    before = done("champions").stdout
    assert strategies_with_orders(before, "BBB") == {"trend", "levels_entry_exit"} and line not in before
    done.edit(old, new)
    shown, page = done("champions"), done.data / "reports" / "index.html"
    assert shown.exit_code == 0, shown.stderr
    assert "trend" not in strategies_with_orders(shown.stdout, "BBB") and line in shown.stdout
    found = json.loads(done("export").stdout)
    kept = {(order["symbol"], order["strategy"]) for order in found["next_orders"]}
    assert ("BBB", "trend") not in kept and line in found["not_current"]
    assert (("AAA", "trend") in kept) == ("symbols: [AAA]" in new)
    assert done("report").exit_code == 0 and line in page.read_text()


def test_the_runs_end_says_it_of_symbols_that_were_not_run_until_they_are(done):
    done.edit("  - strategy: trend\n", "  - strategy: trend\n    symbols: [AAA]\n")
    ran = done("run", "AAA")
    assert ran.exit_code == 0 and "trend" in strategies_with_orders(ran.stdout, "AAA")
    assert SAID in (done.data / "reports" / "index.html").read_text()
    ended = done("run", "--stage", "leaderboard")
    assert SAID in ended.stdout and strategies_with_orders(ended.stdout, "BBB") == {"levels_entry_exit"}
    whole = done("run", "BBB")
    assert whole.exit_code == 0 and SAID not in whole.stdout + done("champions").stdout
    assert strategies_with_orders(whole.stdout, "BBB") == {"levels_entry_exit"}


def test_an_entry_that_is_no_longer_fitted_every_night_has_no_order_of_its_last_nightly_fit(done):
    """Else the line would ask for a run that mends nothing."""
    done.edit("  - strategy: trend\n", "  - strategy: trend\n    folds: {reoptimize: when_due}\n")
    assert SAID in done("champions").stdout
    assert done("run", "BBB").exit_code == 0
    after = done("champions", "BBB").stdout
    assert SAID not in after and strategies_with_orders(after, "BBB") == {"levels_entry_exit"}
