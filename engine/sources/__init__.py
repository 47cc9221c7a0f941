"""Where bars come from: `load` for any source, `sample("AAPL")` for the committed series."""

from engine.sources.base import FileFormat, RawBatch, SymbolSource
from engine.sources.loading import Loaded, load, sample

__all__ = ["FileFormat", "Loaded", "RawBatch", "SymbolSource", "load", "sample"]
