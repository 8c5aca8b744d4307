"""The normal distribution, of mean `loc` and standard deviation `scale`, as jax.scipy.stats.norm."""

from __future__ import annotations

import math
from typing import Any

from pygrad._record.universal import elementwise
from pygrad.engine import Value, as_value

__all__ = ["cdf", "isf", "logcdf", "logpdf", "logsf", "pdf", "ppf", "sf"]


def _standard(x: Any, loc: Any, scale: Any) -> Value:
    return as_value((x - as_value(loc)) / scale)


@elementwise
def logpdf(x: Any, loc: Any = 0.0, scale: Any = 1.0) -> Any:
    """Logarithm of the density.

    >>> round(logpdf(0.0), 12)
    -0.918938533205
    """
    z = _standard(x, loc, scale)
    return z * z * -0.5 - as_value(scale).log() - math.log(math.sqrt(2.0 * math.pi))


@elementwise
def pdf(x: Any, loc: Any = 0.0, scale: Any = 1.0) -> Any:
    """Density.

    >>> round(pdf(1.0, loc=1.0, scale=2.0), 12)
    0.199471140201
    """
    z = _standard(x, loc, scale)
    return (z * z * -0.5).exp() / (as_value(scale) * math.sqrt(2.0 * math.pi))


@elementwise
def cdf(x: Any, loc: Any = 0.0, scale: Any = 1.0) -> Any:
    """Distribution function.

    >>> cdf(3.0, 3.0, 5.0)
    0.5
    """
    return _standard(x, loc, scale).ndtr()


@elementwise
def logcdf(x: Any, loc: Any = 0.0, scale: Any = 1.0) -> Any:
    """Logarithm of the distribution function.

    >>> round(logcdf(-50.0), 6)
    -1254.831361
    """
    return _standard(x, loc, scale).log_ndtr()


@elementwise
def sf(x: Any, loc: Any = 0.0, scale: Any = 1.0) -> Any:
    """1 - cdf(x), accurate where it is near 0.

    >>> sf(10.0) > 0
    True
    """
    return (-_standard(x, loc, scale)).ndtr()


@elementwise
def logsf(x: Any, loc: Any = 0.0, scale: Any = 1.0) -> Any:
    """Logarithm of sf.

    >>> round(logsf(50.0), 6)
    -1254.831361
    """
    return (-_standard(x, loc, scale)).log_ndtr()


@elementwise
def ppf(q: Any, loc: Any = 0.0, scale: Any = 1.0) -> Any:
    """Quantile, the inverse of cdf.

    >>> round(ppf(0.975, 10.0, 2.0), 9)
    13.919927969
    """
    return as_value(q).ndtri() * scale + loc


@elementwise
def isf(q: Any, loc: Any = 0.0, scale: Any = 1.0) -> Any:
    """Inverse of sf.

    >>> round(isf(0.025, 10.0, 2.0), 9)
    13.919927969
    """
    return loc - as_value(q).ndtri() * scale
