"""From calls to commits: the queue, the worker of each store, exit and fork.

The only part of the library that knows about threads.
"""
