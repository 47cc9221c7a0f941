"""Strategies: declared parameters and rules as data; nothing here trades.

Start with `trend` (a whole strategy), then `rules` (the language it is written in).
"""
