"""Failures that a tracking client meets, each injected for real into a process of its own.

``harness`` runs the processes and judges what they leave, ``child`` is what their
scripts share. ``NEPTUNE_ASYNC_TRIALS=10`` runs ten times as many trials of what is
left to chance; ``pytest -v tests/faults`` ends with a table of all failures.
"""
