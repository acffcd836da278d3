"""Folders of runs and searches: their paths, their locks, and how files are written into them."""
