"""Special functions that can be recorded, as jax.scipy.special and scipy.special name them."""

from __future__ import annotations

from typing import Any, Callable

from pygrad._core.trees import need_numpy
from pygrad._record.elementwise import SCALARS
from pygrad._record.function import jit
from pygrad._record.universal import elementwise, has_values, run
from pygrad.engine import as_value

__all__ = ["digamma", "erf", "erfc", "erfinv", "expit", "gamma", "gammaln", "log_ndtr", "log_softmax", "logit"]
__all__ += ["logsumexp", "ndtr", "ndtri", "polygamma", "softmax", "xlog1py", "xlogy"]


@elementwise
def erf(x: Any) -> Any:
    """Error function.

    >>> erf(0.5)
    0.5204998778130465
    """
    return as_value(x).erf()


@elementwise
def erfc(x: Any) -> Any:
    """1 - erf(x), accurate where it is near 0.

    >>> erfc(10.0) > 0
    True
    """
    return as_value(x).erfc()


@elementwise
def erfinv(x: Any) -> Any:
    """Inverse of erf, on (-1, 1).

    >>> round(erfinv(erf(0.5)), 12)
    0.5
    """
    return as_value(x).erfinv()


@elementwise
def gamma(x: Any) -> Any:
    """Gamma function.

    >>> gamma(5.0)
    24.0
    """
    return as_value(x).gamma()


@elementwise
def gammaln(x: Any) -> Any:
    """Logarithm of the absolute value of the gamma function.

    >>> round(gammaln(5.0), 12)
    3.178053830348
    """
    return as_value(x).lgamma()


@elementwise
def digamma(x: Any) -> Any:
    """Derivative of gammaln.

    >>> round(digamma(1.0), 12)  # Euler's constant, negative
    -0.577215664902
    """
    return as_value(x).digamma()


@elementwise
def polygamma(n: Any, x: Any) -> Any:
    """Derivative of digamma of order n, a whole number that is a constant.

    >>> round(polygamma(1, 1.0), 12)  # pi ** 2 / 6
    1.644934066848
    """
    return as_value(n).polygamma(x)


@elementwise
def ndtr(x: Any) -> Any:
    """Distribution function of the standard normal distribution.

    >>> ndtr(0.0)
    0.5
    """
    return as_value(x).ndtr()


@elementwise
def log_ndtr(x: Any) -> Any:
    """log(ndtr(x)), accurate where ndtr(x) is tiny.

    >>> round(log_ndtr(-50.0), 6)
    -1254.831361
    """
    return as_value(x).log_ndtr()


@elementwise
def ndtri(p: Any) -> Any:
    """Quantile of the standard normal distribution, the inverse of ndtr, on (0, 1).

    >>> round(ndtri(0.975), 12)
    1.95996398454
    """
    return as_value(p).ndtri()


@elementwise
def expit(x: Any) -> Any:
    """Logistic function, 1 / (1 + exp(-x)).

    >>> expit(0.0)
    0.5
    """
    return as_value(x).sigmoid()


@elementwise
def logit(x: Any) -> Any:
    """log(x / (1 - x)), the inverse of expit, on (0, 1).

    >>> logit(0.5)
    0.0
    """
    return as_value(x).logit()


@elementwise
def xlogy(x: Any, y: Any) -> Any:
    """The product x * log(y), and 0 where both are 0.

    >>> xlogy(0.0, 0.0)
    0.0
    """
    return SCALARS["xlogy"](x, y)


@elementwise
def xlog1py(x: Any, y: Any) -> Any:
    """The product x * log1p(y), and 0 where x is 0 and y is -1.

    >>> xlog1py(0.0, -1.0)
    0.0
    """
    return SCALARS["xlog1py"](x, y)


def _recorded(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of a recorded array; for numbers it is recorded by itself, for each shape."""
    programs: dict[Any, Any] = {}

    def function_of(a: Any, axis: Any, *more: Any) -> Any:
        if has_values(a):
            return function(a, axis, *more)
        key = (axis, *more)
        if key not in programs:
            programs[key] = jit(lambda a: function(a, axis, *more))
        return run(programs[key], [need_numpy().asarray(a, dtype=float)])

    return function_of


def _log_sum(a: Any, axis: Any, keepdims: bool) -> Any:
    np = need_numpy()
    most = np.max(a, axis=axis, keepdims=True)
    # An infinite maximum can't be subtracted: inf - inf is nan.
    most = np.where(np.isfinite(most), most, 0.0)
    total = np.log(np.sum(np.exp(a - most), axis=axis, keepdims=True)) + most
    return total if keepdims else np.squeeze(total, axis=axis)


_total = _recorded(_log_sum)


def logsumexp(a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    """log(sum(exp(a))) along an axis, a tuple of them, or over all, without overflow.

    >>> round(logsumexp([1000.0, 1000.0]), 6)
    1000.693147
    """
    return _total(a, axis, keepdims)


_log_shares = _recorded(lambda a, axis: a - _log_sum(a, axis, True))
_shares = _recorded(lambda a, axis: need_numpy().exp(a - _log_sum(a, axis, True)))


def log_softmax(x: Any, axis: Any = None) -> Any:
    """log(softmax(x)), without underflow.

    >>> log_softmax([0.0, 1000.0]).tolist()
    [-1000.0, 0.0]
    """
    return _log_shares(x, axis)


def softmax(x: Any, axis: Any = None) -> Any:
    """exp(x), divided by its sum along an axis, or over all.

    >>> softmax([0.0, 0.0]).tolist()
    [0.5, 0.5]
    """
    return _shares(x, axis)
