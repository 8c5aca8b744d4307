"""Programs, which C runs: their parts, and how they become text, C and files."""
