"""Batches are made and stored here, by one thread with an event loop for each store."""
