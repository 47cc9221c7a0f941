"""What the fork server imports once, so that each symbol's process starts ready."""

import atexit
import contextlib
import gc
import logging
import os

import dagster as dg
import duckdb  # noqa: F401
import optuna  # noqa: F401
import pandas  # noqa: F401
import scipy.signal  # noqa: F401
import scipy.stats  # noqa: F401
import torch

import pipelines.definitions  # noqa: F401
from engine import kernel_cache
from engine.lake.records import code_id
from engine.stages import chain  # noqa: F401
from engine.stages.common import STAGES

# Ctrl-C in a terminal is for the run's own process, which then ends the workers in order: a worker
# that ends by itself at that moment would leave Dagster's executor waiting for it for ever.
os.setpgid(0, 0)
torch.set_num_threads(1)
kernel_cache.warm()
for stage in STAGES:
    code_id(f"engine.stages._{stage}")

# a connection that an interrupt closes in a worker is nobody's concern
logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)

# what Dagster's storage imports (500 modules) comes here once, not in every symbol's process
with contextlib.suppress(dg.DagsterError), dg.DagsterInstance.get():  # no home: each brings it itself
    pass
gc.collect()
gc.freeze()  # no collection in a symbol's process walks over all this again, and copies its pages
atexit.register(gc.unfreeze)  # duckdb prints at exit what it believes was forgotten
