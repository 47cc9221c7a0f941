"""The built-in trend follower: two exponential averages and a filter on the strength of the trend."""

from __future__ import annotations

from engine.strategies.params import Float, Int, Params
from engine.strategies.registry import Strategy, strategy
from engine.strategies.rules import Risk, Rules, adx, atr, ema


@strategy("trend")
class Trend(Strategy):
    """Long while the fast average is above the slow one in a trend, short mirrored.

    The entry is a state, not a cross, so that it re-enters after a stop. The exit is the state
    of the averages alone, so that no cross can be missed while an order waits for a bar with
    volume. The size depends on no parameter: 1 % of the equity per 2 ATR.
    """

    parameters = {
        "fast": Int(2, 100, default=20),
        "slow": Int(5, 250, default=100),
        "adx_min": Float(0.0, 60.0, default=20.0),
        "stop_atr": Float(0.5, 10.0, default=2.0),
        "target_atr": Float(0.5, 20.0, default=4.0),
    }
    relations = (("fast", "<", "slow"),)

    @staticmethod
    def rules(p: Params) -> Rules:
        """Return the rules for one set of parameters."""
        fast, slow = ema("close", p.fast), ema("close", p.slow)
        trending = adx(14) >= p.adx_min
        return Rules(
            enter_long=(fast > slow) & trending,
            enter_short=(fast < slow) & trending,
            exit_long=fast < slow,
            exit_short=fast > slow,
            stop=p.stop_atr * atr(14),
            targets=((p.target_atr * atr(14), 1.0),),
            size=Risk(0.01, atr=2.0),
        )
