"""Derivatives with many entries or of second order: jacobian, jacrev, jacfwd, hessian, hvp, as in JAX; sparsity."""

from __future__ import annotations

import functools
from typing import Any, Callable

from pygrad._core.trees import is_array, need_numpy, tree_flatten, tree_leaves, tree_unflatten
from pygrad._record.arrays import like, object_array
from pygrad._record.derivatives import Argnums, _gradient, _push, _selected, _split
from pygrad._record.function import Function
from pygrad._record.recording import recordings
from pygrad._record.regions import Rows, jacobian as entries, jacobian_by_rows, jvp, take, vjp
from pygrad._record.sparse import mirrored, sparse_array
from pygrad._record.unknowns import jacobian_by_tangents
from pygrad.engine import Value, as_value

MANY = 32  # results and arguments; a pass for each would go through all nodes each time


def _filled(rows: Rows, count: int, zero: Value) -> list[list[Value]]:
    """The rows of a sparse matrix, with zeros."""
    found = []
    for start, end in zip(rows.starts, rows.starts[1:]):
        row = [zero] * count
        for k in range(start, end):
            row[rows.columns[k]] = rows.values[k]
        found.append(row)
    return found


def _inline_jacobian(
    fn: Callable[..., Any], argnums: Argnums, has_aux: bool = False, mode: str | None = None
) -> Callable[..., Any]:
    def inline(*args: Any, **keywords: Any) -> Any:
        variables, copied = _selected(args, keywords, argnums, by_element=True)
        wrt = variables.nodes()
        with recordings.derived() as level:
            result, aux = _split(fn(*copied, **keywords), has_aux, "jacobian")
        take(level, wrt)
        roots = [as_value(value) for value in tree_leaves(result)]
        one, zero = Value(1.0), Value(0.0)
        found = None
        if mode is None and min(len(roots), len(wrt)) >= MANY:
            found = entries(roots, wrt, level) or jacobian_by_tangents(roots, wrt, level)
        if found is not None:
            rows = _filled(found, len(wrt), zero)
        elif mode == "reverse" or (mode is None and len(roots) <= len(wrt)):
            rows = [vjp([root], [one], wrt, level) for root in roots]
        else:
            units = [[one if j == i else zero for j in range(len(wrt))] for i in range(len(wrt))]
            columns = [jvp(wrt, unit, roots, level) for unit in units]
            rows = [list(row) for row in zip(*columns)] if columns else [[] for _ in roots]

        def chosen(block: tuple[Any, ...]) -> Any:
            return block[0] if isinstance(argnums, int) else tuple([block[i] for i in variables.order])

        matrix = _nest(result, variables.value, rows, chosen)
        return (matrix, aux) if has_aux else matrix

    return inline


def _inline_sparse(
    fn: Callable[..., Any], argnums: Argnums, has_aux: bool = False, is_symmetric: bool = False
) -> Callable[..., Any]:
    if not isinstance(argnums, int):
        raise TypeError(f"argnums={argnums!r}: sparse=True takes one argument, which may be a tree")

    def inline(*args: Any, **keywords: Any) -> Any:
        variables, copied = _selected(args, keywords, argnums, by_element=True)
        wrt = variables.nodes()
        with recordings.derived() as level:
            result, aux = _split(fn(*copied, **keywords), has_aux, "jacobian")
        take(level, wrt)
        roots = [as_value(value) for value in tree_leaves(result)]
        rows = entries(roots, wrt, level, is_symmetric)
        if rows is None:  # not half of them: a rule need not be the derivative of a function
            rows = jacobian_by_tangents(roots, wrt, level) or jacobian_by_rows(roots, wrt, level)
        elif is_symmetric:
            rows = mirrored(rows)
        matrix = sparse_array(rows, (len(roots), len(wrt)))
        return (matrix, aux) if has_aux else matrix

    return inline


def _nest(result: Any, x: Any, rows: list[list[Any]], chosen: Callable[[Any], Any]) -> Any:
    """The rows of a Jacobian, in the result's structure; each entry is `chosen` of one like `x`. Arrays are joined."""
    out, structure = tree_flatten(result)
    at = 0
    blocks = []
    for leaf in out:
        if not is_array(leaf):
            blocks.append(chosen(like(x, rows[at])))
            at += 1
            continue
        np = need_numpy()
        count = int(np.prod(leaf.shape, dtype=int))
        inner, inner_structure = tree_flatten(x)
        entries = [tree_flatten(like(x, row))[0] for row in rows[at : at + count]]
        at += count
        joined = []
        for k, part in enumerate(inner):
            shape = part.shape if is_array(part) else ()
            array = np.empty((count, *shape), dtype=object)
            for i in range(count):
                array[i] = entries[i][k]
            joined.append(object_array(array.ravel(), (*leaf.shape, *shape)))
        blocks.append(chosen(tree_unflatten(inner_structure, joined)))
    return tree_unflatten(structure, blocks)


def jacobian(
    fn: Callable[..., Any] | None = None,
    argnums: Argnums = 0,
    has_aux: bool = False,
    *,
    sparse: bool = False,
    record: bool = True,
    workers: int = 1,
) -> Any:
    """A function that returns fn's Jacobian, of shape result's shape + argument's shape, as jax.jacobian.

    Uses reverse or forward mode, whichever takes fewer passes: jacrev or jacfwd. If argnums is a sequence, there is a
    tuple of Jacobians for each scalar or array of the result. has_aux: fn returns (result, aux), and the function
    (Jacobian, aux). record, workers: see value_and_grad, jit. Source: Griewank & Walther, ch. 3.

    sparse=True returns a scipy.sparse.csr_array of shape (numbers in the result, numbers in the argument), in the order
    of tree_leaves. It holds the entries that may differ from zero, which are found while recording: time and memory are
    in proportion to their number. Within a recorded function you can use its data, indices, indptr, shape, toarray()
    and `@`. See sparsity. Raises TypeError for results that are not numbers and arrays.

    >>> jacobian(lambda x: [x[0] * x[1], x[0] ** 2])([2.0, 3.0])
    [[3.0, 2.0], [4.0, 0.0]]
    """
    if fn is None:
        return functools.partial(
            jacobian, argnums=argnums, has_aux=has_aux, sparse=sparse, record=record, workers=workers
        )
    make = _inline_sparse if sparse else _inline_jacobian
    return Function(make, fn, "jacobian", record, workers, argnums=argnums, has_aux=has_aux)


def jacrev(
    fn: Callable[..., Any] | None = None,
    argnums: Argnums = 0,
    has_aux: bool = False,
    *,
    record: bool = True,
    workers: int = 1,
) -> Any:
    """The Jacobian in reverse mode, a pass for each number of the result, as jax.jacrev.

    >>> jacrev(lambda x, y: x * y, argnums=(0, 1))(2.0, 3.0)
    (3.0, 2.0)
    """
    if fn is None:
        return functools.partial(jacrev, argnums=argnums, has_aux=has_aux, record=record, workers=workers)
    options: dict[str, Any] = {"argnums": argnums, "has_aux": has_aux, "mode": "reverse"}
    return Function(_inline_jacobian, fn, "jacrev", record, workers, **options)


def jacfwd(
    fn: Callable[..., Any] | None = None,
    argnums: Argnums = 0,
    has_aux: bool = False,
    *,
    record: bool = True,
    workers: int = 1,
) -> Any:
    """The Jacobian in forward mode, a pass for each number of the argument, as jax.jacfwd.

    >>> jacfwd(lambda x: [x, x ** 2])(3.0)
    [1.0, 6.0]
    """
    if fn is None:
        return functools.partial(jacfwd, argnums=argnums, has_aux=has_aux, record=record, workers=workers)
    options: dict[str, Any] = {"argnums": argnums, "has_aux": has_aux, "mode": "forward"}
    return Function(_inline_jacobian, fn, "jacfwd", record, workers, **options)


def _curvature(fn: Callable[..., Any], argnums: Argnums, has_aux: bool = False) -> Callable[..., Any]:
    return _inline_jacobian(_gradient(fn, argnums, has_aux), argnums, has_aux)


def _sparse_curvature(fn: Callable[..., Any], argnums: Argnums, has_aux: bool = False) -> Callable[..., Any]:
    return _inline_sparse(_gradient(fn, argnums, has_aux), argnums, has_aux, is_symmetric=True)


def hessian(
    fn: Callable[..., Any] | None = None,
    argnums: Argnums = 0,
    has_aux: bool = False,
    *,
    sparse: bool = False,
    record: bool = True,
    workers: int = 1,
) -> Any:
    """A function that returns the matrix of fn's second derivatives with respect to an argument, as jax.hessian.

    fn returns a scalar. The shape is the argument's, twice; if argnums is a sequence, the result is a tuple of tuples.
    has_aux, sparse: see jacobian. record, workers: see value_and_grad, jit. Raises TypeError if fn's result is not a
    scalar. Source: Griewank & Walther, ch. 5.

    >>> hessian(lambda x: x[0] ** 2 * x[1])([1.0, 2.0])
    [[4.0, 2.0], [2.0, 0.0]]
    """
    if fn is None:
        return functools.partial(
            hessian, argnums=argnums, has_aux=has_aux, sparse=sparse, record=record, workers=workers
        )
    return Function(
        _sparse_curvature if sparse else _curvature, fn, "hessian", record, workers, argnums=argnums, has_aux=has_aux
    )


def _hessian_product(fn: Callable[..., Any]) -> Callable[..., Any]:
    slope = _gradient(fn, 0)

    def inline(x: Any, v: Any, *args: Any, **keywords: Any) -> Any:
        return _push(lambda x: slope(x, *args, **keywords))((x,), (v,))[1]

    return inline


def hvp(fn: Callable[..., Any] | None = None, *, record: bool = True, workers: int = 1) -> Any:
    """A function of (x, v, *args): v times the Hessian of fn with respect to x, at (x, *args), without forming it.

    x and v have the same structure. SciPy calls its `hessp` with these arguments. Forward over reverse mode. record,
    workers: see value_and_grad, jit. Raises ValueError if v differs from x in structure or shapes. Source:
    Pearlmutter, Fast exact multiplication by the Hessian, Neural Computation 6(1), 1994.

    >>> hvp(lambda x, a: a * x[0] ** 2 * x[1])([1.0, 2.0], [1.0, 0.0], 0.5)
    [2.0, 1.0]
    """
    if fn is None:
        return functools.partial(hvp, record=record, workers=workers)
    return Function(_hessian_product, fn, "hvp", record, workers)


def sparsity(fn: Callable[..., Any], *args: Any, argnums: int = 0) -> Any:
    """Which entries of fn's Jacobian at args may differ from zero: a SciPy matrix of bools, of shape (m, n).

    fn returns m numbers, in any tree; argument number `argnums` holds n. See jacobian. The pattern of a Hessian is
    sparsity(grad(fn), x). Raises what jacobian raises.

    >>> import numpy as np
    >>> sparsity(lambda x: [x[0] * x[1], x[2]], np.ones(3)).toarray().astype(int).tolist()
    [[1, 1, 0], [0, 0, 1]]
    """
    found = jacobian(fn, argnums, sparse=True)(*args)
    entries = need_numpy().ones(found.nnz, dtype=bool)
    return type(found)((entries, found.indices, found.indptr), shape=found.shape)
