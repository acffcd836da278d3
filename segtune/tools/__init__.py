"""Tools beside the scripts: ``python -m segtune.tools NAME``."""
