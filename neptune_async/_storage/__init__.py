"""Where experiments are kept: one protocol, and an implementation for each kind of store."""
