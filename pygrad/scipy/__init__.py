"""Functions of SciPy that record, with the names of jax.scipy: `special`, `stats.norm`. They do not need SciPy.

On numbers and arrays of numbers they return floats and arrays, on Values and recorded arrays Values.
"""

from pygrad.scipy import special, stats

__all__ = ["special", "stats"]
