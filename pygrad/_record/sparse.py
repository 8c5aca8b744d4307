"""Sparse Jacobians and Hessians: only entries that may differ from zero are recorded.

Source: Griewank & Walther, Evaluating Derivatives (2nd ed., SIAM 2008), ch. 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pygrad._core.tree_nodes import register_tree_node
from pygrad._core.trees import elements, is_array, need_numpy
from pygrad._record.arrays import object_array
from pygrad._record.regions import Rows


def need_sparse() -> Any:
    """scipy.sparse. Raises an ImportError that says how to install it."""
    need_numpy()
    try:
        import scipy.sparse
    except ImportError:
        raise ImportError("sparse=True needs SciPy: pip install scipy") from None
    return scipy.sparse


class Pattern:
    """Where the entries of a matrix are, as in SciPy's CSR format."""

    def __init__(self, shape: tuple[int, int], starts: Any, columns: Any) -> None:
        np = need_numpy()
        self.shape = shape
        self.indptr, self.indices = np.array(starts, dtype=np.int32), np.array(columns, dtype=np.int32)

    def __reduce__(self) -> Any:
        return Pattern, (self.shape, self.indptr, self.indices)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Pattern):
            return NotImplemented
        same = need_numpy().array_equal
        return self.shape == other.shape and same(self.indptr, other.indptr) and same(self.indices, other.indices)

    def __hash__(self) -> int:
        return hash((self.shape, len(self.indices)))

    def matrix(self, data: Any) -> Any:
        """SciPy's matrix with these numbers."""
        sparse = need_sparse()
        kind = getattr(sparse, "csr_array", sparse.csr_matrix)
        return kind((data, self.indices.copy(), self.indptr.copy()), shape=self.shape)  # for the caller to change


class SparseArray:
    """A sparse matrix of Values, in the fields of scipy.sparse.csr_array: what sparse=True gives while recording."""

    def __init__(self, pattern: Pattern, data: Any) -> None:
        self.pattern, self.data = pattern, data  # the entries, row by row

    @property
    def shape(self) -> tuple[int, int]:
        return self.pattern.shape

    @property
    def indices(self) -> Any:
        """The column of each entry."""
        return self.pattern.indices

    @property
    def indptr(self) -> Any:
        """Where each row's entries start in `data`; at the end, their number."""
        return self.pattern.indptr

    def _entries(self) -> list[tuple[int, int, Any]]:
        rows = need_numpy().repeat(range(self.shape[0]), need_numpy().diff(self.indptr))
        return list(zip(rows.tolist(), self.indices.tolist(), elements(self.data)))

    def toarray(self) -> Any:
        """The dense matrix."""
        full: list[Any] = [0.0] * (self.shape[0] * self.shape[1])
        for i, j, value in self._entries():
            full[i * self.shape[1] + j] = value
        return object_array(full, self.shape)

    def __matmul__(self, other: Any) -> Any:
        """The product with a vector or a matrix."""
        shape: tuple[int, ...] = other.shape if is_array(other) else (len(other),)
        if len(shape) not in (1, 2) or shape[0] != self.shape[1]:
            raise ValueError(f"a matrix of shape {self.shape} times an array of shape {shape}")
        width = shape[1] if len(shape) == 2 else 1
        given = elements(other) if is_array(other) else list(other)
        out: list[Any] = [0.0] * (self.shape[0] * width)
        for i, j, value in self._entries():
            for k in range(width):
                out[i * width + k] = out[i * width + k] + value * given[j * width + k]
        return object_array(out, (self.shape[0], *shape[1:]))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"a sparse matrix has no {name!r} while it is recorded: it has data, indices, indptr, shape, toarray() and "
            "J @ x; return it for SciPy's"
        )


def _unflatten(pattern: Pattern, children: Sequence[Any]) -> Any:
    (data,) = children
    if len(getattr(data, "shape", (0,))) != 1:
        raise TypeError("sparse=True within a vmap or another derivative: return the matrix's .data, or .toarray()")
    is_numbers = is_array(data) and getattr(data, "dtype", None) == need_numpy().float64
    return pattern.matrix(data) if is_numbers else SparseArray(pattern, data)


register_tree_node(SparseArray, lambda x: ((x.data,), x.pattern), _unflatten)


def sparse_array(rows: Rows, shape: tuple[int, int]) -> SparseArray:
    need_sparse()
    return SparseArray(Pattern(shape, rows.starts, rows.columns), object_array(rows.values, (len(rows.values),)))


def mirrored(rows: Rows) -> Rows:
    """The symmetric matrix with these entries on and below its diagonal."""
    np = need_numpy()
    n = len(rows.starts) - 1
    i, j = np.repeat(np.arange(n), np.diff(rows.starts)), np.array(rows.columns, dtype=int)
    above = np.flatnonzero(i != j)
    row, column = np.concatenate([i, j[above]]), np.concatenate([j, i[above]])
    source = np.concatenate([np.arange(len(i)), above])
    order = np.lexsort((column, row))
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n))])
    return Rows(starts, column[order], [rows.values[k] for k in source[order].tolist()])
