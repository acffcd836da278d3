"""Reports for people: tables, the console, and the dry run."""
