"""Where a call becomes an operation."""
