"""Out-of-sample evidence: stitched test spans, what they are held against, and the champion rule."""
