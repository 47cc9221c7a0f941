"""Indicators of one symbol: each value uses bars up to its own and is known at that bar's close.

Start with `table.FeatureSet` (columns by name), then `registry.feature` (how one is declared).
"""
