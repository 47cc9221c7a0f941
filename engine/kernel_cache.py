"""Where compiled kernels are kept: a folder of its own for every version of the code.

numba notices a change in a kernel's own file, not in a function it calls from another file.
So the folder is named by the hash of all of the engine's code, and stale machine code can
never answer for new source. Call `use` before numba is imported.
"""

from __future__ import annotations

import hashlib
from collections.abc import MutableMapping
from pathlib import Path

MANY = ("atr", "rsi", "adx", "ema.close", "sma.close")  # computed for many lengths in one call
RARE = ("tr", "plus_di.n=14", "minus_di.n=14", "highest.n=20", "lowest.n=20", "roc.n=5", "volume_sma.n=20")


def use(data_dir: Path, environ: MutableMapping[str, str]) -> None:
    """Point numba at the folder of this code, and keep every library to one thread.

    Parameters
    ----------
    data_dir : Path
        The cache lies below it, in ``cache/numba-<hash>``.
    environ : mutable mapping
        The process environment. A cache folder that is set there gets the folder of this code below
        it; other settings there stay.
    """
    sha = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        sha.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    name = f"numba-{sha.hexdigest()[:12]}"
    given = environ.get("NUMBA_CACHE_DIR")
    if given is None or Path(given).name != name:
        environ["NUMBA_CACHE_DIR"] = str((data_dir / "cache" if given is None else Path(given)) / name)
    for library in ("NUMBA", "OMP", "MKL", "OPENBLAS"):
        environ.setdefault(f"{library}_NUM_THREADS", "1")


def warm() -> None:
    """Compile every kernel once, or load it from the cache."""
    import engine.search.levels.exact
    import engine.search.levels.exact_batch
    import engine.search.levels.smoothed
    import engine.simulation
    import engine.simulation.levels
    import engine.simulation.levels_batch
    from engine.bars.synthetic import make_bars
    from engine.config_sections import Features
    from engine.features.table import FeatureSet, expand
    from engine.strategies.registry import defaults, get

    engine.simulation.warm()
    engine.simulation.levels.warm()
    engine.simulation.levels_batch.warm()
    engine.search.levels.exact.warm()
    engine.search.levels.exact_batch.warm()
    engine.search.levels.smoothed.warm()
    bars = make_bars(0, 300)
    features = FeatureSet(bars, 0.01)
    for name in expand([*Features().columns, *RARE]):
        features.column(name)
    features.table_rows([f"{name}.n={n}" for name in MANY for n in (3, 4)])
    trend = get("trend")
    execution = engine.simulation.Execution(tick=0.01)
    engine.simulation.sweep(features, trend, [defaults(trend)], execution, start=0, stop=300)
