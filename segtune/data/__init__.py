"""Data: from a folder of files to batches of augmented tiles, and the demo data set."""
