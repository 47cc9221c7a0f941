"""nightfold's engine: pure computation, usable from a notebook or the command line alone."""
