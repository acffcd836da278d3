"""Networks: built, loaded, saved, and on which device."""
