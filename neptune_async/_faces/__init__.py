"""The code that the synchronous and the awaited face share."""
