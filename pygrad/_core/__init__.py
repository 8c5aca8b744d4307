"""Below Value: the operand layer, the table of operations, errors, numbers, trees, scopes."""

from pygrad._core import support  # noqa: F401  (first of all: it refuses what can't work)
