"""What survives a kill: journals and spill files."""
