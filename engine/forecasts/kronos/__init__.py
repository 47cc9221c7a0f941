"""Kronos: a transformer over tokens of price bars, weight-compatible with the published checkpoints.

`forecaster.KronosForecaster` is the way in; it loads torch when it is built. Our own code, after
the published description and constants. Source: Shi et al. 2025, arXiv 2508.02739 (MIT licence).
"""
