"""Code that was written for other trackers."""
