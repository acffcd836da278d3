"""What people read: tables, the console, the dry run."""
