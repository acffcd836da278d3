"""Tiles, masks and predictions as pictures."""
