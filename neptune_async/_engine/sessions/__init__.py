"""Which processes have an experiment open for writing, and whether they live."""
