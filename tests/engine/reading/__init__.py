"""What reads make of what storage answers."""
