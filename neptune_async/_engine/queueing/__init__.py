"""Where a call becomes an operation: checks, the variables that are known, the queue."""
