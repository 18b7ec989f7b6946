"""The thread that writes, its loop, and its connection to a store."""
