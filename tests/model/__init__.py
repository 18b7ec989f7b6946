"""The rules of paths, values and operations: pure functions, without a store or a worker."""
