"""Both faces, by the same tests."""
