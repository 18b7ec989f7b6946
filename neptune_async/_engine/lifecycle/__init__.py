"""The life of experiments and workers: opening, closing, exit, fork and signals."""
