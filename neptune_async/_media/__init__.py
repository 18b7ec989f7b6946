"""Encoders of what a file can be made of: pixels, samples, the rows of a table.

They need no library but the one that the values come from.
"""
