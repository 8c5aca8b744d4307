"""Programs, which C runs: what they are made of, as text, as C, as files."""
