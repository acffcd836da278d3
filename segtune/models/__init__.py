"""Networks: which ones exist, how they are built, saved and loaded, and on which device they run."""
