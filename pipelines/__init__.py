"""The Dagster side of nightfold: thin assets, jobs, checks and a schedule over engine.stages."""

import os
import warnings
from pathlib import Path

from dagster import PreviewWarning

from engine import kernel_cache

ROOT = Path(__file__).resolve().parents[1]

# before anything imports numba: where compiled kernels lie, and one thread per process
kernel_cache.use(ROOT / "data", os.environ)

# partitions on asset checks are marked preview in the pinned Dagster version; a test holds them
warnings.filterwarnings("ignore", category=PreviewWarning)
