"""The six stages: each reads tables from the lake, calls the engine, writes its own tables."""
