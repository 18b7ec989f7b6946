"""Which processes have an experiment open, and whether they live."""
