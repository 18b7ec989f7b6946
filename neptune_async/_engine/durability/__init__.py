"""What survives a kill: journals and spill files. Recovery stores what is in them."""
