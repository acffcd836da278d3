"""What the three scripts share: flags, the settings that they give, and exit statuses."""
