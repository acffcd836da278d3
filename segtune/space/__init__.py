"""What a search space is, and how it is read."""
