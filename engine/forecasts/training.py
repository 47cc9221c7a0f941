"""The windows of a request, grouped by refit cut, and the rows a cut trains on.

All as-of bars of one group share one cut and one history up to it, so each (cut, step) is fitted
once for all of them. Windows are grouped by what they hold, not by position, so that a window's
answer never depends on what else the request holds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from engine.bars.model import Ints
from engine.errors import ForecastInputError
from engine.forecasts.cuts import REFIT_BARS, cut_positions, refit_groups
from engine.forecasts.interface import ForecasterSpec, ForecastRequest
from engine.forecasts.local_features import MEAN_LENGTHS, Prepared, prepare

COLUMNS = ("open", "high", "low", "close", "volume")
TRAINING_ROWS = 750
MIN_ROWS, MIN_FIT_ROWS = 100, 250  # fewer than these: skipped; historical simulation alone


def history_needed(horizon: int) -> int:
    """Return the bars after which the forecasters answer, wherever the refit cuts fall.

    Features are known from bar 66 on; a cut needs 100 such rows whose targets end at it; and the
    next cut may be 62 bars away.

    >>> history_needed(1)
    229
    """
    return max(MEAN_LENGTHS) + MIN_ROWS + horizon + REFIT_BARS - 1


@dataclass(frozen=True, eq=False)
class CutGroup:
    """As-of bars that one cut serves.

    Parameters
    ----------
    digest : bytes
        Names the history up to the cut.
    prepared : Prepared
        Of the longest window.
    cut : int
        Position of the cut in it.
    windows : int64 array, shape (n,)
        Which windows of the request.
    as_of : int64 array, shape (n,)
        Position of each window's last bar in ``prepared``.
    """

    digest: bytes
    prepared: Prepared
    cut: int
    windows: Ints
    as_of: Ints


def training_rows(prepared: Prepared, cut: int, step: int) -> Ints:
    """Return the rows that a cut trains on: known features, and the target's bar not after the cut.

    Returns
    -------
    int64 array, shape (n,), n <= 750
        Positions among cut-750-step+1 .. cut-step.
    """
    last = cut - step
    rows = np.arange(max(0, last - TRAINING_ROWS + 1), last + 1, dtype=np.int64)
    return rows[prepared.known[rows]]


def cut_groups(request: ForecastRequest, usable: Ints, spec: ForecasterSpec) -> list[CutGroup]:
    """Group the usable windows of a request by refit cut.

    Parameters
    ----------
    request : ForecastRequest
        B windows.
    usable : int64 array
        Which of them to take.
    spec : ForecasterSpec
        Its frame and calendar place the cuts.

    Returns
    -------
    list of CutGroup
        In the order of their first window.

    Raises
    ------
    ForecastInputError
        The request has no volume.
    """
    absent = [name for name in COLUMNS if name not in request.columns]
    if absent:
        raise ForecastInputError(
            f"the {spec.backend} forecaster needs the columns {', '.join(COLUMNS)}; "
            f"the request had {', '.join(request.columns)}"
        )
    order = [request.columns.index(name) for name in COLUMNS]
    windows: dict[int, tuple[bytes, bytes, int]] = {}
    longest_first: dict[bytes, list[int]] = {}
    for i in usable.tolist():
        real = request.mask[i]
        stamps = request.stamps[i, real]
        rows = np.column_stack([stamps.view(np.float64), request.bars[i, real][:, order]])
        cut = int(cut_positions(refit_groups(stamps, spec.frame, spec.calendar))[-1])
        digest = hashlib.blake2b(rows[: cut + 1].tobytes(), digest_size=16).digest()
        windows[i] = (request.symbols[i].encode() + digest, rows.tobytes(), cut)
        longest_first.setdefault(windows[i][0], []).append(i)

    groups = []
    for key, members in longest_first.items():
        left = sorted(members, key=lambda i: len(windows[i][1]), reverse=True)
        while left:  # once for windows of one history; again only for a window that departs from it
            content, cut = windows[left[0]][1], windows[left[0]][2]
            inside = [i for i in left if content.startswith(windows[i][1])]
            left = [i for i in left if i not in inside]
            rows = np.frombuffer(content).reshape(-1, 1 + len(COLUMNS))
            prices = [np.ascontiguousarray(column) for column in rows[:, 1:].T]
            stamps = np.ascontiguousarray(rows[:, 0]).view(np.int64)
            lengths = np.array([len(windows[i][1]) for i in inside], dtype=np.int64)
            groups.append(
                CutGroup(
                    key,
                    prepare(stamps, prices[0], prices[1], prices[2], prices[3], prices[4], spec.frame),
                    cut,
                    np.array(inside, dtype=np.int64),
                    lengths // (8 * rows.shape[1]) - 1,
                )
            )
    return groups
