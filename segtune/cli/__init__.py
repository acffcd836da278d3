"""What the three scripts share: flags, and how errors become exit statuses."""
