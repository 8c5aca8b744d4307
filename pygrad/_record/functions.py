"""NumPy's functions on arrays of Values that its own code for objects gets wrong, or not at all.

Each has NumPy's signature and takes plain arrays of objects. Functions that are not here are NumPy's own, which moves
objects and calls their operators; `REFUSED` says what to write instead of those that can't record.
"""

from __future__ import annotations

import math
import sys
from typing import Any, Callable, NoReturn

import numpy

from pygrad._core.errors import RecordingError, users_line
from pygrad._record import linear
from pygrad._record.elementwise import SCALARS, is_nan, truth
from pygrad._record.linear import objects
from pygrad.engine import Value, as_value
from pygrad.math import chosen

np: Any = numpy  # whose types do not know arrays of objects


def _objects(x: Any) -> Any:
    return np.asarray(x, dtype=object)


def _along(function: Callable[[list[Any]], Any], a: Any, axis: Any, keepdims: bool = False) -> Any:
    """`function` of the lists of numbers along an axis, or of all: it returns a scalar or a list."""
    a = _objects(a)
    if axis is None:
        shape, a, axis = (1,) * a.ndim, a.ravel(), -1
    else:
        shape = (*a.shape[: axis % a.ndim], 1, *a.shape[axis % a.ndim + 1 :])
    a = np.moveaxis(a, axis, -1)
    parts = [function(row.tolist()) for row in a.reshape(-1, a.shape[-1])]
    if parts and isinstance(parts[0], list):
        return np.moveaxis(objects([x for part in parts for x in part], (*a.shape[:-1], len(parts[0]))), -1, axis)
    found = objects(parts, a.shape[:-1])
    return found.reshape(shape) if keepdims else found[()]


def _flat(a: Any, axis: Any) -> tuple[Any, Any]:
    """The array with the axes of a tuple joined at the end, and that axis."""
    a = _objects(a)
    if not isinstance(axis, tuple):
        return a, axis
    axes = [x % a.ndim for x in axis]
    rest = [i for i in range(a.ndim) if i not in axes]
    return a.transpose([*rest, *axes]).reshape([a.shape[i] for i in rest] + [-1]), -1


def where(condition: Any, *choices: Any) -> Any:
    if not choices:
        _refuse("numpy.where of a condition alone", _POSITIONS)
    return _elementwise(chosen, condition, *choices)


def _elementwise(function: Callable[..., Any], *args: Any) -> Any:
    return np.frompyfunc(function, len(args), 1)(*map(_objects, args))


def select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    for condition, choice in zip(reversed(list(condlist)), reversed(list(choicelist))):
        default = where(condition, choice, default)
    return default


def clip(a: Any, a_min: Any = None, a_max: Any = None, out: Any = None, *, min: Any = None, max: Any = None) -> Any:
    _only_new("clip", out)
    low, high = a_min if min is None else min, a_max if max is None else max
    if low is not None:
        a = _elementwise(SCALARS["maximum"], a, low)
    return a if high is None else _elementwise(SCALARS["minimum"], a, high)


def _only_new(name: str, out: Any) -> None:
    if out is not None:
        _refuse(f"out= of numpy.{name}", "assign the result to a name")


# What changes nothing in a reduction; of the others, it is what they are given to start with.
_NEUTRAL = {"add": 0.0, "multiply": 1.0, "logical_and": True, "logical_or": False}


def masked(ufunc: Any, method: str, inputs: Any, keywords: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The inputs and keywords of a ufunc without where=: a reduction has what is neutral for what it leaves out."""
    name, mask = ufunc.__name__, keywords["where"]
    if method == "reduce":
        neutral = _NEUTRAL.get(name, keywords.get("initial"))
        if neutral is None:
            raise ValueError(f"numpy.{name}.reduce: where= needs initial=, the result where it leaves nothing")
        rest = {key: x for key, x in keywords.items() if key != "where"}
        return [_left(inputs[0], mask, neutral)], rest
    if "out" not in keywords or not _is_known(mask):
        _refuse(f"where= of numpy.{name}", f"write np.where(condition, np.{name}(...), what it is elsewhere)")
    return inputs, {**keywords, "where": np.asarray(mask, dtype=bool)}


def _left(a: Any, where: Any, neutral: Any) -> Any:
    """The array with `neutral` where a mask leaves an element out."""
    if where is True:
        return _objects(a)
    return _elementwise(chosen, np.broadcast_to(_objects(where), np.shape(a)), a, neutral)


# ---- Statistics ----------------------------------------------------------------------------------


def mean(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, **more: Any) -> Any:
    _only_new("mean", out)
    where = more.pop("where", True)
    return _total(a, axis, keepdims, where) / _total(np.ones(np.shape(a)), axis, keepdims, where)


def _total(a: Any, axis: Any, keepdims: Any, where: Any) -> Any:
    return np.add.reduce(_left(a, where, 0.0), axis=axis, keepdims=keepdims is True)


def var(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0, keepdims: Any = False, **more: Any
) -> Any:
    _only_new("var", out)
    ddof, where = more.pop("correction", ddof), more.pop("where", True)
    a = _left(a, where, 0.0)  # first, since the square of a nan would have no derivative
    distance = a - mean(a, axis, keepdims=True, where=where)
    square = _total(distance * distance, axis, keepdims, where)
    count = _total(np.ones(a.shape), axis, keepdims, where) - ddof
    return square / (np.maximum(count, 0.0) if where is True else _elementwise(SCALARS["maximum"], count, 0.0))


def std(a: Any, axis: Any = None, **keywords: Any) -> Any:
    found = var(a, axis, **keywords)
    # A single number has none, and no derivative: that of the root would be nan.
    return found * 0.0 if np.size(found) == np.size(a) else _elementwise(SCALARS["sqrt"], found)


def _without_nans(function: Callable[..., Any]) -> Callable[..., Any]:
    def of_numbers(a: Any, axis: Any = None, *, keepdims: Any = False, where: Any = True, **more: Any) -> Any:
        is_number = _elementwise(lambda x: SCALARS["logical_not"](is_nan(x)), a)
        return function(a, axis, keepdims=keepdims, where=_left(is_number, where, False), **more)

    return of_numbers


def sort(a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    """By a network of min and max, which serves every order; Batcher, Sorting networks and their applications, 1968."""
    return _along(_sorted, a, axis)


def _sorted(row: list[Any]) -> list[Any]:
    row, n = [as_value(x) for x in row], len(row)
    size = 1
    while size < n:
        step = size
        while step:
            for start in range(step % size, n - step, 2 * step):
                for i in range(start, min(start + step, n - step)):
                    if i // (2 * size) == (i + step) // (2 * size):
                        row[i], row[i + step] = row[i].min(row[i + step]), row[i].max(row[i + step])
            step //= 2
        size *= 2
    return row


def partition(a: Any, kth: Any, axis: Any = -1, **_: Any) -> Any:
    return sort(a, axis)


def median(a: Any, axis: Any = None, out: Any = None, overwrite_input: Any = False, keepdims: Any = False) -> Any:
    _only_new("median", out)
    return quantile(a, 0.5, axis, keepdims=keepdims)


def quantile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: Any = False,
    method: str = "linear",
    **more: Any,
) -> Any:
    _only_new("quantile", out)
    if method != "linear":
        _refuse(f"method={method!r} of numpy.quantile", "use method='linear', or np.sort")
    keepdims = more.get("keepdims") is True
    if np.ndim(q):
        return np.stack([_objects(quantile(a, x, axis, keepdims=keepdims)) for x in q])
    shape = [1 if axis is None or i in np.atleast_1d(axis) % np.ndim(a) else n for i, n in enumerate(np.shape(a))]
    a, axis = _flat(a, axis)

    def between(row: list[Any]) -> Any:
        row, place = _sorted(row), float(q) * (len(row) - 1)
        low = min(int(place), len(row) - 1)
        part = place - low
        return row[low] if part == 0.0 else row[low] + (row[low + 1] - row[low]) * part

    found = _along(between, a, axis)
    return _objects(found).reshape(shape) if keepdims else found


def percentile(a: Any, q: Any, *args: Any, **keywords: Any) -> Any:
    return quantile(a, np.asarray(q, dtype=float) / 100.0, *args, **keywords)


def _place_of(name: str, better: str) -> Callable[..., Any]:
    """Argmax or argmin: the first place of the extreme, or of a nan, as a number."""

    def place(row: list[Any]) -> Any:
        best, at = row[0], as_value(0.0)
        for k, x in enumerate(row[1:], 1):
            beats = (SCALARS[better](x, best) | is_nan(x)) & SCALARS["logical_not"](is_nan(best))
            best, at = chosen(beats, x, best), chosen(beats, float(k), at)
        return at

    def function(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Any:
        _only_new(name, out)
        return _along(place, a, axis, keepdims is True)

    return function


def _any_or_all(name: str) -> Callable[..., Any]:
    def function(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True) -> Any:
        _only_new(name, out)
        ufunc = np.frompyfunc(SCALARS[name], 2, 1, identity=_NEUTRAL[name])
        return ufunc.reduce(_left(_elementwise(truth, a), where, _NEUTRAL[name]), axis=axis, keepdims=keepdims is True)

    return function


def count_nonzero(a: Any, axis: Any = None, *, keepdims: Any = False) -> Any:
    return np.add.reduce(_elementwise(lambda x: 1.0 * truth(x), a), axis=axis, keepdims=keepdims)


# ---- Elementwise, but no ufuncs -------------------------------------------------------------------

_SINC = [(-1) ** k / math.factorial(2 * k + 1) for k in range(12)]


def sinc(x: Any) -> Any:
    """sin(pi x) / (pi x); near 0 by its series, which has all derivatives."""

    def one(x: Any) -> Any:
        y = as_value(x) * math.pi
        is_near = abs(y) < 1.0
        square, series = y * y, as_value(_SINC[-1])
        for c in reversed(_SINC[:-1]):
            series = series * square + c
        far = as_value(chosen(is_near, 1.0, y))
        return chosen(is_near, series, far.sin() / far)

    return _elementwise(one, x)


def interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Any:
    if period is not None:
        _refuse("period= of numpy.interp", "reduce x by % first, and repeat the first point at the end")
    xs, fs = _objects(xp).tolist(), _objects(fp).tolist()
    if len(xs) != len(fs) or not xs:
        raise ValueError("numpy.interp: xp and fp must have the same length, of at least 1")

    def one(x: Any) -> Any:
        found = fs[-1]
        for k in reversed(range(len(xs) - 1)):
            if isinstance(xs[k], float) and xs[k] == xs[k + 1]:  # a step
                continue
            line = fs[k] + (x - xs[k]) * ((fs[k + 1] - fs[k]) / (xs[k + 1] - xs[k]))
            found = chosen(x < xs[k + 1], line, found)
        found = chosen(x < xs[0], fs[0] if left is None else left, found)
        found = found if right is None else chosen(x > xs[-1], right, found)
        return chosen(is_nan(x), x, found)

    return _elementwise(one, x)


def rounded(a: Any, decimals: int = 0, out: Any = None) -> Any:
    _only_new("round", out)
    scale = 10.0 ** abs(decimals)
    if decimals > 0:
        return _elementwise(lambda x: (as_value(x) * scale).rint() / scale, a)
    return _elementwise(lambda x: (as_value(x) / scale).rint() * scale, a)


def nan_to_num(x: Any, copy: Any = True, nan: float = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    most = np.finfo(float).max
    high, low = most if posinf is None else posinf, -most if neginf is None else neginf
    return _elementwise(lambda x: chosen(is_nan(x), nan, chosen(x > most, high, chosen(x < -most, low, x))), x)


def average(a: Any, axis: Any = None, weights: Any = None, returned: Any = False, *, keepdims: Any = False) -> Any:
    a = _objects(a)
    if weights is None:
        weights = np.ones(a.shape if axis is None else [a.shape[i] for i in np.atleast_1d(axis)])
    w = _objects(weights)
    if w.shape != a.shape:
        if axis is None or w.ndim != 1:
            raise TypeError("numpy.average: weights must have the shape of a, or of its axis")
        w = np.moveaxis(np.broadcast_to(w, (*np.moveaxis(a, axis, -1).shape,)), -1, axis)
    total = np.add.reduce(w, axis=axis, keepdims=keepdims)
    found = np.add.reduce(a * w, axis=axis, keepdims=keepdims) / total
    return (found, total) if returned else found


def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    f = _objects(f)
    axes = range(f.ndim) if axis is None else np.atleast_1d(axis).tolist()
    spacings = [1.0] * len(axes) if not varargs else list(varargs) * (len(axes) if len(varargs) == 1 else 1)
    if edge_order != 1 or any(np.ndim(h) for h in spacings):
        _refuse("coordinates or edge_order=2 of numpy.gradient", "pass spacings, or divide np.diff(f) by np.diff(x)")

    def along(i: int, h: Any) -> Any:
        y = np.moveaxis(f, i, 0)
        found = np.concatenate([y[1:2] - y[:1], (y[2:] - y[:-2]) / 2.0, y[-1:] - y[-2:-1]]) / h
        return np.moveaxis(found, 0, i)

    parts = [along(i, h) for i, h in zip(axes, spacings)]
    return parts[0] if len(parts) == 1 else tuple(parts)


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: Any = False) -> Any:
    """Of vectors any order, of matrices those that need no singular values."""
    x = _objects(x)
    if axis is None and ord is None:
        total = np.add.reduce(x * x, axis=None, keepdims=keepdims)
        return _elementwise(SCALARS["sqrt"], total)
    axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    size = _elementwise(abs, x)
    if len(axes) == 2 and ord not in (None, "fro"):
        if ord not in (1, -1, math.inf, -math.inf):
            _refuse(f"order {ord!r} of numpy.linalg.norm", "singular values are not recorded; use 'fro', 1 or inf")
        first, second = axes if abs(ord) == 1 else axes[::-1]
        sums = np.add.reduce(size, axis=first, keepdims=True)
        found = _reduced("maximum" if ord > 0 else "minimum", sums, second, True)
        return found if keepdims else np.squeeze(found, axis=axes)[()]
    if ord in (math.inf, -math.inf):
        return _reduced("maximum" if ord > 0 else "minimum", size, axes, keepdims)
    if ord == 0:
        return np.add.reduce(_elementwise(lambda x: 1.0 * truth(x), x), axis=axes, keepdims=keepdims)
    if ord in (None, 2, "fro"):
        return _elementwise(SCALARS["sqrt"], np.add.reduce(x * x, axis=axes, keepdims=keepdims))
    powers = size if ord == 1 else size**ord
    total = np.add.reduce(powers, axis=axes, keepdims=keepdims)
    return total if ord == 1 else total ** (1.0 / ord)


def _reduced(name: str, x: Any, axis: Any, keepdims: Any) -> Any:
    for i in sorted(np.atleast_1d(axis) % np.ndim(x), reverse=True):
        x = np.frompyfunc(SCALARS[name], 2, 1).reduce(_objects(x), axis=i, keepdims=keepdims)
    return x


def vdot(a: Any, b: Any) -> Any:
    return np.dot(_objects(a).ravel(), _objects(b).ravel())


def cov(m: Any, y: Any = None, rowvar: bool = True, bias: bool = False, ddof: Any = None, **more: Any) -> Any:
    if any(x is not None for x in more.values()):
        _refuse("weights of numpy.cov", "multiply by their square roots first")
    x = np.atleast_2d(_objects(m)) if rowvar or np.ndim(m) < 2 else _objects(m).T
    if y is not None:
        x = np.concatenate([x, np.atleast_2d(_objects(y)) if rowvar or np.ndim(y) < 2 else _objects(y).T])
    distance = x - np.mean(x, axis=1, keepdims=True)
    count = x.shape[1] - ((0 if bias else 1) if ddof is None else ddof)
    return (np.dot(distance, distance.T) / count).squeeze()[()]


def corrcoef(x: Any, y: Any = None, rowvar: bool = True, **_: Any) -> Any:
    c = cov(x, y, rowvar)
    if not np.ndim(c):
        return c / c
    deviation = _elementwise(SCALARS["sqrt"], np.diag(c))
    return clip(c / deviation[:, None] / deviation[None, :], -1.0, 1.0)


def linspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None, axis: int = 0
) -> Any:
    step = (_objects(stop) - _objects(start)) / max(1, num - 1 if endpoint else num)
    weights = np.arange(num, dtype=float).reshape(-1, *[1] * np.ndim(step))
    found = np.moveaxis(_objects(start) + weights * _objects(step), 0, axis)
    return (found, step) if retstep else found


def full_like(
    a: Any, fill_value: Any, dtype: Any = None, order: Any = "K", subok: Any = True, shape: Any = None
) -> Any:
    found = np.empty(np.shape(a) if shape is None else shape, dtype=object)
    found[...] = fill_value
    return found


# ---- The tables -----------------------------------------------------------------------------------

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "where": where,
    "select": select,
    "clip": clip,
    "mean": mean,
    "var": var,
    "nansum": _without_nans(_total),
    "nanmean": _without_nans(mean),
    "nanvar": _without_nans(var),
    "nanstd": _without_nans(std),
    "std": std,
    "sort": sort,
    "partition": partition,
    "median": median,
    "quantile": quantile,
    "percentile": percentile,
    "argmax": _place_of("argmax", "greater"),
    "argmin": _place_of("argmin", "less"),
    "any": _any_or_all("logical_or"),
    "all": _any_or_all("logical_and"),
    "count_nonzero": count_nonzero,
    "sinc": sinc,
    "interp": interp,
    "round": rounded,
    "around": rounded,
    "fix": lambda x, out=None: _elementwise(SCALARS["trunc"], x),
    "nan_to_num": nan_to_num,
    "real": lambda x: x,
    "imag": lambda x: _elementwise(lambda _: 0.0, x),
    "angle": lambda z, deg=False: _elementwise(lambda x: as_value(0.0).atan2(x) * (180.0 / math.pi if deg else 1.0), z),
    "vdot": vdot,
    "average": average,
    "gradient": gradient,
    "linalg.norm": norm,
    "cov": cov,
    "corrcoef": corrcoef,
    "linspace": linspace,
    "full_like": full_like,
    "empty_like": lambda a, dtype=None, *args, **keywords: full_like(a, 0.0, None, *args, **keywords),
    "zeros_like": lambda a, dtype=None, *args, **keywords: full_like(a, 0.0, None, *args, **keywords),
    "ones_like": lambda a, dtype=None, *args, **keywords: full_like(a, 1.0, None, *args, **keywords),
    "einsum": lambda *args, optimize=None, **_: linear.einsum(*linear.with_letters(args)),
    "linalg.solve": lambda a, b: linear.solve(_objects(a), _objects(b)),
    "linalg.inv": lambda a: linear.inv(_objects(a)),
    "linalg.det": lambda a: linear.det(_objects(a)),
    "linalg.slogdet": lambda a: linear.slogdet(_objects(a)),
    "linalg.cholesky": lambda a, **keywords: linear.cholesky(_objects(a), **keywords),
}

_POSITIONS = (
    "positions depend on numbers that are not known: use np.where(condition, a, b), or multiply by the condition"
)
_ORDER = "an order of positions can't be an index: use np.sort for the values, np.max, np.min or np.where"
_NANS = "replace the nans first, np.where(np.isnan(x), y, x)"
_EIGEN = (
    "use np.linalg.solve, inv, det, slogdet or cholesky; or compute it from numbers outside the function and pass it "
    "as an argument"
)
REFUSED = {
    **dict.fromkeys(("nonzero", "flatnonzero", "argwhere", "extract", "compress", "place", "piecewise"), _POSITIONS),
    **dict.fromkeys(("argsort", "argpartition", "lexsort", "searchsorted", "unique", "digitize"), _ORDER),
    **dict.fromkeys(("histogram", "bincount", "histogram2d", "histogramdd", "unwrap"), _POSITIONS),
    **dict.fromkeys(("nanmax", "nanmin", "nanprod", "nanmedian", "nanpercentile", "nanquantile"), _NANS),
    **dict.fromkeys(("nancumsum", "nancumprod", "nanargmax", "nanargmin"), _NANS),
    **dict.fromkeys(
        ("svd", "svdvals", "eig", "eigh", "eigvals", "eigvalsh", "pinv", "matrix_rank", "cond", "lstsq", "qr"), _EIGEN
    ),
    "allclose": "use np.where(abs(a - b) <= tolerance, ...), or compare results outside of the function",
    "array_equal": "use np.all(a == b) as a condition of np.where",
}


def refuse(function: Any, error: Exception | None = None) -> None:
    """Raise RecordingError if `function` can't record, or has failed with `error` on Values."""
    name = function.__name__
    module = (getattr(function, "__module__", None) or "numpy").partition("._")[0]
    if getattr(sys.modules.get("scipy.special"), name, None) is function:  # a ufunc, which knows no module
        module = "scipy.special"
    if name in REFUSED:
        _refuse(f"{module}.{name}", REFUSED[name])
    if error is not None:
        _refuse(f"{module}.{name}", f"{error}. docs/arrays.md lists what can be recorded", error)


def refuse_index(index: Any, error: Exception) -> None:
    """Raise RecordingError if an index holds Values."""
    if not _is_known(index):
        _refuse("an index or mask that depends on the arguments", f"{_POSITIONS}, x * (np.arange(n) == i)", error)


def _refuse(what: str, instead: str, error: Exception | None = None) -> NoReturn:
    raise RecordingError(f"{users_line()}\n{what} cannot be recorded: {instead}") from error


def _is_known(index: Any) -> bool:
    if isinstance(index, tuple):
        return all(map(_is_known, index))
    if hasattr(index, "__array__") or isinstance(index, list):
        return not any(isinstance(x, Value) for x in np.asarray(index, dtype=object).flat)
    return not isinstance(index, Value)
