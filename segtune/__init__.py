"""Hyperparameter search for semantic segmentation of satellite and aerial tiles."""

__version__ = "0.1.0"
