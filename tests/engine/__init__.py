"""The queue, the worker and the spill files, between the public API and the stores."""
