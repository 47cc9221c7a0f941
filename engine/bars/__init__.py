"""One symbol's bars: the record, its checks, its events, and the generator of made bars."""
