"""Below Value: the operand layer, the table of operations, errors, numbers, trees, scopes."""
