"""Folders of runs and searches, and how files get there whole."""
