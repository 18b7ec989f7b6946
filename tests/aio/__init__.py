"""The awaited face, on each loop."""
