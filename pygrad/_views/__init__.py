"""Views of a graph: its table, folded, drawn, as text and data, step by step."""
