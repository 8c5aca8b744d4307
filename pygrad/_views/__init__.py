"""Views of a graph: tables, folding, drawings, text and data formats, the explorer."""
