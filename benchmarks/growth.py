"""Growth: the expression at 1,000 to 10 million nodes, and the memory that a graph takes while its root holds it."""

from expression import Workload as Workload

SIZES = tuple(10**k for k in range(3, 8))
