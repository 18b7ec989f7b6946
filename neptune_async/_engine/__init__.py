"""From a call to a commit: the queue, the worker of each store, exit and fork.

All code that waits for threads is here. Messages of these threads go through ``_messenger``.
"""
