"""Forecasts: quantiles of the next bars' high, low and close, stored once and never inferred twice.

`engine.forecasts.infer.infer` is the way in. Importing this package loads neither torch nor scipy.
"""
