"""How far every operation is from the exact result, in units in the last place.

    python tests/accuracy.py            measures, and writes docs/accuracy.md
    python tests/accuracy.py --print    .. and only prints it

Measures values and partials of eager Values, libm (Python's `math`) on the same points, and functions over points of
`vmap`, with each set of kernels that the machine has. test_accuracy.py holds the figures to bounds.
"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import math
import platform
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mpmath

mp = mpmath.mp.clone()
mp.prec = 320
SEED, POINTS = 20240229, 20_000

TINY, SMALLEST, HUGE = 5e-324, sys.float_info.min, sys.float_info.max
EPS = 2.0**-52


def _pow(a: float, b: float) -> float:
    """math.pow of Python 3.11, which knows what earlier ones refuse."""
    return math.inf if a == 0 and b == -math.inf else math.pow(a, b)


def _of_libm(name: str) -> Callable[[float], float]:
    """A function of libm's that PyPy's `math` has a version of its own of."""
    pythons = getattr(math, name)
    if platform.python_implementation() == "CPython":
        return pythons
    libms = getattr(ctypes.CDLL(ctypes.util.find_library("m")), name)
    libms.argtypes, libms.restype = [ctypes.c_double], ctypes.c_double

    def function(a: float) -> float:
        pythons(a)  # raises ValueError where it must
        return libms(a)

    return function


_erf, _erfc, _log2 = map(_of_libm, ("erf", "erfc", "log2"))

# ---- The ruler -----------------------------------------------------------------------------------------------------


def ulps(got: float, exact: Any) -> float:
    """The error of `got`, in units in the last place of `exact`; for subnormals, in the smallest normal's.

    Infinity counts as 2**1024, the number after the largest float64.
    """
    if math.isnan(got) or mp.isnan(exact):
        return 0.0 if math.isnan(got) and mp.isnan(exact) else math.inf
    end = mp.ldexp(1, 1024)
    exact = max(min(mp.mpf(exact), end), -end)
    given = math.copysign(1, got) * end if math.isinf(got) else mp.mpf(got)
    exponent = max(mp.mag(exact) - 1, -1022) if exact != 0 else -1022  # 2**exponent <= |exact|
    return float(abs(given - exact) / mp.ldexp(1, min(exponent, 1023) - 52))


# ---- Points --------------------------------------------------------------------------------------------------------

_SPOTS = [TINY, 3 * TINY, SMALLEST - TINY, SMALLEST, 1e-300, 1e-200, 1e-154, 1e-100, 1e-30, 1e-20, 2.0**-54, 2.0**-53]
_SPOTS += [EPS, 2.0**-28, 2.0**-27, 2.0**-26, 1e-5, 1e-3, 0.1, 0.25, 0.3, 0.5, 2 / 3, 1 - EPS / 2, 1.0, 1 + EPS, 1.5]
_SPOTS += [math.pi / 4, math.pi / 2, 2.0, math.e, 3.0, math.pi, 5.9, 10.0, 18.7, 19.1, 22.0, 26.5, 27.2, 36.7, 37.5]
_SPOTS += [100.0, 355.0, 700.0, 708.3, 709.7, 709.78, 710.4, 744.4, 745.1, 745.2, 746.0, 1e3, 1e4, 1e5, 2.0**27, 1e10]
_SPOTS += [2.0**52, 2.0**53, 1e22, 1e100, 1.3e154, 1.4e154, 1e160, 1e200, 1e300, HUGE / 2, HUGE]
GRID = [sign * x for x in _SPOTS for sign in (1.0, -1.0)]


def anywhere(rng: random.Random, low: float = TINY, high: float = HUGE) -> float:
    """A number of any magnitude."""
    return min(max(math.exp(rng.uniform(math.log(low), math.log(high))), low), high)


def signed(rng: random.Random, x: float) -> float:
    return x if rng.random() < 0.5 else -x


Points = Callable[[random.Random, int], Iterator[tuple[float, ...]]]


def line(
    low: float = -HUGE, high: float = HUGE, near: tuple[float, ...] = (), spans: Any = ((-1, 1), (-20, 20))
) -> Points:
    """Points from low to high: a grid, some near each of `near`, of any magnitude, and evenly over each of `spans`."""

    def draw(rng: random.Random, count: int) -> Iterator[tuple[float, ...]]:
        close = [
            x * (1 + sign * 2.0**-k) + sign * 2.0**-k * (x == 0) for x in near for k in range(1, 53) for sign in (1, -1)
        ]
        given = [*GRID, *near, *close]
        while count > 0:
            kind = rng.random()
            if given:
                x = given.pop()
            elif kind < 0.3:
                x = signed(rng, anywhere(rng))
            elif kind < 0.4 and near:
                x = rng.choice(near)
                x += signed(rng, anywhere(rng, 1e-17, 0.1)) * (abs(x) or 1)
            else:
                x = rng.uniform(*rng.choice(spans))
            if low <= x <= high and x != 0:
                yield (x,)
            count -= 1

    return draw


def plane(rng: random.Random, count: int) -> Iterator[tuple[float, ...]]:
    """Pairs of nonzero numbers: from the grid, of any magnitudes, of like magnitudes, and small."""
    for _ in range(count):
        kind = rng.randrange(5)
        if kind == 0:
            yield rng.choice(GRID), rng.choice(GRID)
        elif kind == 1:
            yield signed(rng, anywhere(rng)), signed(rng, anywhere(rng))
        elif kind == 2:
            a = anywhere(rng)
            yield signed(rng, a), signed(rng, min(a * anywhere(rng, 1e-20, 1e20), HUGE) or TINY)
        elif kind == 3:
            a = signed(rng, anywhere(rng, 1e-3, 1e3))
            yield a, a * rng.choice([1.0, -1.0, 1 + EPS, 1 - EPS])
        else:
            yield rng.uniform(-10, 10), rng.uniform(-10, 10)


def powers(rng: random.Random, count: int) -> Iterator[tuple[float, ...]]:
    """Bases and exponents whose powers reach just beyond overflow and underflow."""
    for _ in range(count):
        kind = rng.randrange(7)
        if kind == 0:  # a base near 1 and a large exponent
            a = 1 + signed(rng, 2.0 ** -rng.uniform(1, 52))
            b = rng.uniform(-745, 709) / math.log(a) if a != 1 else 1e300
        elif kind == 1:  # any base
            a = anywhere(rng)
            b = rng.uniform(-745, 709) / (math.log(a) or 1)
        elif kind == 2:
            a, b = (
                anywhere(rng),
                rng.choice([-2.0, -1.0, -0.5, -1 / 3, 0.1, 1 / 3, 0.5, 1.0, 1.5, 2.0, 3.0, 1e-5, -1e-20]),
            )
        elif kind == 3:
            a, b = signed(rng, rng.uniform(0.1, 10)), float(rng.randint(-300, 300))
        elif kind == 4:  # results that are subnormal, or whose neighbours' are
            a = anywhere(rng)
            b = rng.choice([rng.uniform(-745, -690), rng.uniform(690, 711)]) / (math.log(a) or 1)
        elif kind == 5:
            a, b = abs(rng.choice(GRID)), signed(rng, anywhere(rng, 1e-20, 1e4))
        else:
            a, b = rng.uniform(0, 10), rng.uniform(-10, 10)
        if a != 0 and b != 0 and abs(b) <= HUGE and -760 < b * math.log(abs(a)) < 720:
            yield a, b


def with_parameters(parameters: Iterable[float], fits: Callable[[float, float], bool] = lambda a, b: True) -> Points:
    """Numbers of any magnitude, each with one of the parameters."""
    listed = list(parameters)

    def draw(rng: random.Random, count: int) -> Iterator[tuple[float, ...]]:
        for i in range(count):
            a = [rng.choice(GRID), signed(rng, anywhere(rng)), rng.uniform(-20, 20), 1 + rng.uniform(-0.1, 0.1)][i % 4]
            b = rng.choice(listed)
            if fits(a, b):
                yield a, b

    return draw


EXPONENTS = [-300.0, -7.3, -3.0, -2.0, -1.5, -1.0, -2 / 3, -0.5, -0.1, 0.1, 0.3, 1 / 3, 0.5, 0.7, 1.0, 1.5, 2.0, 2.5]
EXPONENTS += [3.0, 4.0, 7.3, 10.0, 101.0, 1e5]


def _power_fits(a: float, b: float) -> bool:
    return a != 0 and (a > 0 or b.is_integer()) and -760 < b * math.log(abs(a)) < 720


# ---- The rows, exactly ---------------------------------------------------------------------------------------------


def _exp(x: Any) -> Any:
    """Of what is far beyond float64 there is nothing to know."""
    return mp.exp(max(min(x, mp.mpf(4000)), mp.mpf(-4000)))


def _clamp(f: Any) -> Any:
    return lambda x: f(max(min(x, mp.mpf(2000)), mp.mpf(-2000)))


def _sigmoid(x: Any) -> Any:
    e = _exp(-abs(x))
    return (1 if x >= 0 else e) / (1 + e)


def _slope(x: Any) -> Any:
    e = _exp(-abs(x))
    return e / (1 + e) ** 2


def _softplus(x: Any) -> Any:
    return max(x, mp.mpf(0)) + mp.log1p(_exp(-abs(x)))


def _sech2(x: Any) -> Any:
    e = _exp(-2 * abs(x))
    return 4 * e / (1 + e) ** 2


def _pow_da(a: Any, b: Any) -> Any:
    return b * mp.power(a, b - 1)


def _pow_db(a: Any, b: Any) -> Any:
    return mp.power(a, b) * mp.log(a) if a > 0 else mp.nan


def _asin_da(a: Any) -> Any:
    return mp.inf if abs(a) == 1 else 1 / mp.sqrt((1 - a) * (1 + a))


def _step(condition: bool) -> Any:
    return mp.mpf(1 if condition else 0)


def _share(a: Any, b: Any) -> Any:
    return mp.mpf(1) / 2 if a == b else _step(a > b)


def _silu_da(a: Any) -> Any:
    return _sigmoid(a) + a * _slope(a)


def _gelu(a: Any) -> Any:
    return a * _clamp(mp.erfc)(-a / mp.sqrt(2)) / 2


def _gelu_da(a: Any) -> Any:
    return _clamp(mp.erfc)(-a / mp.sqrt(2)) / 2 + a * _exp(-a * a / 2) / mp.sqrt(2 * mp.pi)


def _quotient_below(a: Any, b: Any) -> Any:
    """The largest whole number not above a / b, which may have thousands of bits."""
    with mp.workprec(4400):
        return mp.floor(a / b)


def _mod(a: Any, b: Any) -> Any:
    with mp.workprec(4400):
        return a - b * mp.floor(a / b)


@dataclass(frozen=True)
class Row:
    """One row of the table of operations: value and partials in mpmath, where to measure, and libm's function."""

    value: Callable[..., Any]
    partials: tuple[Callable[..., Any], ...]
    points: Points
    libm: Callable[..., float] | None = None


# Where plain formulas fail: a subnormal quotient, a square that overflows, an exponent less 1 that is rounded.
HARD: dict[str, list[tuple[float, ...]]] = {
    "div": [(5e-324, 9.667833291936212e-14)],
    "pow": [
        (3.158e-320, -1e-20),
        (5.906920989364569e-235, 1.344315803455473),
        (0.9999999999999531, 1.0168020480622296e16),
    ],
    "powc": [(1.4e154, -2 / 3), (0.9925474784311035, 1e5)],
    "atan": [(-1.4e154,), (1e160,)],
    "atan2": [(-2e304, -HUGE), (HUGE, 9e307), (5e-324, 2e-310), (1e-315, 1e-10)],
    "hypot": [(-6.1827e-320, 5e-324), (5e-324, 5e-324)],
    "erf": [(25.570376592008593,), (5.9,)],
    "tanh": [(0.867,), (-0.867,), (19.07453405708935,)],
    "silu": [(-1.2784645427610737,), (-1.278,), (-744.0,)],
    "gelu": [(-0.7517915246935645,), (-0.7517,), (-37.3,), (-30.1,)],
    "mod": [(1.0, 0.1), (-1e-20, 1.0), (5e-324, -HUGE), (HUGE, 3.0), (6.0, 3.0), (-6.0, 3.0), (2.0**53 + 2, 0.7)],
}


def _zero(*_: Any) -> Any:
    return mp.mpf(0)


def _one(*_: Any) -> Any:
    return mp.mpf(1)


def _minus_one(*_: Any) -> Any:
    return mp.mpf(-1)


def _cbrt(a: Any) -> Any:
    return mp.sign(a) * mp.cbrt(abs(a))


def _lgamma(a: Any) -> Any:
    return mp.loggamma(a).real


def _polygamma(n: Any, b: Any) -> Any:
    return mp.digamma(b) if n == 0 else mp.polygamma(int(n), b)


def _ndtr(a: Any) -> Any:
    return mp.erfc(-a / mp.sqrt(2)) / 2


def _density(a: Any) -> Any:
    return mp.exp(-a * a / 2) / mp.sqrt(2 * mp.pi)


def _lower_quantile(p: Any) -> Any:
    """The x at which ndtr(-x) is p, at most 1/2, by Newton's method for the logarithm, which is concave."""
    x = mp.sqrt(max(-2 * mp.log(2 * p), 0)) / 2
    for _ in range(200):
        step = (mp.log(_ndtr(-x)) - mp.log(p)) * _ndtr(-x) / _density(x)
        x += step
        if abs(step) <= mp.ldexp(abs(x), -250):
            return x
    raise AssertionError(p)


def _erfinv(a: Any) -> Any:
    if abs(a) < 1e-30:
        return a / _two_over_root_pi
    if abs(a) < 0.5:
        return mp.erfinv(a)
    return mp.sign(a) * _lower_quantile((1 - abs(a)) / 2) / mp.sqrt(2)


def orders(rng: random.Random, count: int) -> Iterator[tuple[float, ...]]:
    """Orders of polygamma, and arguments above 0."""
    for _ in range(count):
        x = rng.uniform(0, 12) if rng.random() < 0.6 else anywhere(rng, 1e-5, 1e6)
        yield float(rng.randint(0, 6)), x or 1.0


_two_over_root_pi = 2 / mp.sqrt(mp.pi)
_turns = tuple(k * math.pi / 2 for k in (1, 2, 3, 4, 11, 710, 1e5))
_circle = {"near": _turns, "spans": ((-7, 7), (-1000, 1000), (-1e7, 1e7))}
_above_0 = ((0, 3), (1, 2), (0, 20), (0, 1e3))
_to_700 = ((-1, 1), (-40, 40), (-746, 710))

ROWS: dict[str, Row] = {
    "add": Row(lambda a, b: a + b, (_one, _one), plane),
    "sub": Row(lambda a, b: a - b, (_one, _minus_one), plane),
    "mul": Row(lambda a, b: a * b, (lambda a, b: b, lambda a, b: a), plane),
    "div": Row(lambda a, b: a / b, (lambda a, b: 1 / b, lambda a, b: -a / (b * b)), plane),
    "pow": Row(mp.power, (_pow_da, _pow_db), powers, _pow),
    "powc": Row(mp.power, (_pow_da,), with_parameters(EXPONENTS, _power_fits), _pow),
    "neg": Row(lambda a: -a, (_minus_one,), line()),
    "exp": Row(_exp, (_exp,), line(-800, 709.78, spans=_to_700), math.exp),
    "log": Row(mp.log, (lambda a: 1 / a,), line(TINY, near=(1.0,), spans=((0, 2), (0, 1e3))), math.log),
    "log1p": Row(
        mp.log1p, (lambda a: 1 / (1 + a),), line(-1 + EPS / 2, near=(-1.0, 0.0), spans=((-1, 1), (0, 1e3))), math.log1p
    ),
    "expm1": Row(
        lambda a: mp.expm1(a) if a > -500 else _exp(a) - 1,
        (_exp,),
        line(high=709.78, near=(0.0,), spans=_to_700),
        math.expm1,
    ),
    "sqrt": Row(
        mp.sqrt, (lambda a: 1 / (2 * mp.sqrt(a)),), line(TINY, near=(1.0,), spans=((0, 4), (0, 1e9))), math.sqrt
    ),
    "abs": Row(abs, (mp.sign,), line(), math.fabs),
    "tanh": Row(
        _clamp(mp.tanh),
        (_sech2,),
        line(near=(0.0,), spans=((-1, 1), (-3, 3), (-20, 20))),
        math.tanh,
    ),
    "sigmoid": Row(_sigmoid, (_slope,), line(near=(0.0,), spans=_to_700)),
    "softplus": Row(_softplus, (_sigmoid,), line(near=(0.0,), spans=_to_700)),
    "relu": Row(lambda a: max(a, mp.mpf(0)), (lambda a: _step(a > 0),), line()),
    "leaky_relu": Row(
        lambda a, b: a if a > 0 else a * b,
        (lambda a, b: mp.mpf(1) if a > 0 else b,),
        with_parameters([0.01, 0.2, 1e-300, 0.0, -1.5]),
    ),
    "sin": Row(mp.sin, (mp.cos,), line(**_circle), math.sin),
    "cos": Row(mp.cos, (lambda a: -mp.sin(a),), line(**_circle), math.cos),
    "tan": Row(mp.tan, (lambda a: 1 / mp.cos(a) ** 2,), line(**_circle), math.tan),
    "asin": Row(mp.asin, (_asin_da,), line(-1, 1, (1.0, -1.0), ((-1, 1),)), math.asin),
    "acos": Row(mp.acos, (lambda a: -_asin_da(a),), line(-1, 1, (1.0, -1.0), ((-1, 1),)), math.acos),
    "atan": Row(mp.atan, (lambda a: 1 / (1 + a * a),), line(near=(1.0, -1.0)), math.atan),
    "sinh": Row(mp.sinh, (mp.cosh,), line(-710.4, 710.4, (0.0,), _to_700), math.sinh),
    "cosh": Row(mp.cosh, (mp.sinh,), line(-710.4, 710.4, (0.0,), _to_700), math.cosh),
    "atan2": Row(mp.atan2, (lambda a, b: b / (a * a + b * b), lambda a, b: -a / (a * a + b * b)), plane, math.atan2),
    "hypot": Row(mp.hypot, (lambda a, b: a / mp.hypot(a, b), lambda a, b: b / mp.hypot(a, b)), plane, math.hypot),
    "erf": Row(
        _clamp(mp.erf),
        (lambda a: _two_over_root_pi * _exp(-a * a),),
        line(near=(0.0,), spans=((-1, 1), (-6, 6), (-28, 28))),
        _erf,
    ),
    "min": Row(min, (lambda a, b: _share(b, a), lambda a, b: _share(a, b)), plane),
    "max": Row(max, (lambda a, b: _share(a, b), lambda a, b: _share(b, a)), plane),
    "sign": Row(mp.sign, (_zero,), line()),
    "less": Row(lambda a, b: _step(a < b), (_zero, _zero), plane),
    "less_equal": Row(lambda a, b: _step(a <= b), (_zero, _zero), plane),
    "equal": Row(lambda a, b: _step(a == b), (_zero, _zero), plane),
    "pick": Row(lambda a, b: b, (_zero, _one), plane),
    "keep": Row(lambda a, b: b, (_zero, _one), plane),
    "detach": Row(lambda a: a, (_zero,), line()),
    "log10": Row(
        mp.log10, (lambda a: 1 / (a * mp.ln10),), line(TINY, near=(1.0,), spans=((0, 2), (0, 1e3))), math.log10
    ),
    "log2": Row(
        lambda a: mp.log(a) / mp.ln2,
        (lambda a: 1 / (a * mp.ln2),),
        line(TINY, near=(1.0,), spans=((0, 2), (0, 1e3))),
        _log2,
    ),
    "asinh": Row(mp.asinh, (lambda a: 1 / mp.sqrt(1 + a * a),), line(near=(0.0,)), math.asinh),
    "acosh": Row(
        mp.acosh,
        (lambda a: 1 / mp.sqrt((a - 1) * (a + 1)) if a > 1 else mp.inf,),
        line(1, near=(1.0,), spans=((1, 2), (1, 1e3))),
        math.acosh,
    ),
    "atanh": Row(
        mp.atanh,
        (lambda a: 1 / ((1 - a) * (1 + a)),),
        line(EPS / 2 - 1, 1 - EPS / 2, (1.0, -1.0, 0.0), ((-1, 1),)),
        math.atanh,
    ),
    "erfc": Row(
        _clamp(mp.erfc),
        (lambda a: -_two_over_root_pi * _exp(-a * a),),
        line(near=(0.0,), spans=((-1, 1), (-6, 6), (-6, 28))),
        _erfc,
    ),
    "silu": Row(
        lambda a: a * _sigmoid(a), (_silu_da,), line(near=(0.0, -1.2784645427610737), spans=(*_to_700, (-3, 0)))
    ),
    "gelu": Row(_gelu, (_gelu_da,), line(near=(0.0, -0.7517915246935645), spans=((-3, 1), (-6, 6), (-40, 10)))),
    "elu": Row(
        lambda a, b: a if a > 0 else b * (mp.expm1(a) if a > -500 else _exp(a) - 1),
        (lambda a, b: mp.mpf(1) if a > 0 else b * _exp(a),),
        with_parameters([1.0, 0.5, 1.6732632423543772, -2.0]),
    ),
    "floor": Row(mp.floor, (_zero,), line(near=(1.0, -2.0, 2.0**52))),
    "mod": Row(_mod, (_one, lambda a, b: -_quotient_below(a, b)), plane, lambda a, b: a % b),
    "rint": Row(mp.nint, (_zero,), line(near=(0.5, -2.5, 2.0**52))),
    "exp2": Row(
        lambda a: mp.power(2, a), (lambda a: mp.ln2 * mp.power(2, a),), line(-1100, 1023.99, spans=((-1, 1), (-60, 60)))
    ),
    "cbrt": Row(_cbrt, (lambda a: 1 / (3 * _cbrt(a) ** 2),), line(spans=((-1, 1), (-30, 30)))),
    "logit": Row(
        lambda a: mp.log(a / (1 - a)),
        (lambda a: 1 / (a * (1 - a)),),
        line(TINY, 1 - EPS / 2, (0.25, 0.5, 0.75, 1.0), ((0, 1),)),
    ),
    "gamma": Row(
        mp.gamma,
        (lambda a: mp.gamma(a) * mp.digamma(a),),
        line(1e-300, 171.6, (1.0, 1.4616321449683622, 2.0), ((0, 3), (0, 20), (0, 171))),
    ),
    "lgamma": Row(_lgamma, (mp.digamma,), line(1e-300, 1e300, (1.4616321449683622,), _above_0)),
    "digamma": Row(
        mp.digamma, (lambda a: _polygamma(1, a),), line(1e-150, 1e150, (1.0, 1.4616321449683622, 3.0, 10.0), _above_0)
    ),
    "polygamma": Row(_polygamma, (_zero, lambda n, b: _polygamma(n + 1, b)), orders),
    "erfinv": Row(
        _erfinv,
        (lambda a: mp.exp(_erfinv(a) ** 2) / _two_over_root_pi,),
        line(EPS / 2 - 1, 1 - EPS / 2, (0.0, 0.5, -0.5, 1.0, -1.0), ((-1, 1), (-0.5, 0.5))),
    ),
    "ndtr": Row(_ndtr, (_density,), line(-38.4, 38, (0.0, -1.0), ((-2, 2), (-38, 9)))),
    "ndtri": Row(
        lambda a: -_lower_quantile(a) if a < 0.5 else _lower_quantile(1 - a),
        (lambda a: 1 / _density(_lower_quantile(min(a, 1 - a))),),
        line(1e-295, 1 - EPS / 2, (0.25, 0.5, 0.75, 1.0), ((0, 1), (0, 1e-3))),
    ),
    "log_ndtr": Row(
        lambda a: mp.log1p(-_ndtr(-a)) if a > 0 else mp.log(_ndtr(a)),
        (lambda a: _density(a) / _ndtr(a),),
        line(-1e6, 37, (0.0, -5.0, -20.0), ((-2, 2), (-10, 5), (-50, 0))),
    ),
    "gate": Row(lambda a, b: a if b > 0 else a * 0, (lambda a, b: _step(b > 0), _zero), plane),
}

# ---- Measuring -----------------------------------------------------------------------------------------------------


@dataclass
class Worst:
    """The largest error so far, and where."""

    ulps: float = 0.0
    at: tuple[float, ...] = ()

    def see(self, error: float, at: tuple[float, ...]) -> None:
        if error > self.ulps:
            self.ulps, self.at = error, at


@dataclass
class Measured:
    value: Worst = field(default_factory=Worst)
    libm: Worst = field(default_factory=Worst)
    worse: Worst = field(default_factory=Worst)  # the error less libm's, on one point
    partials: list[Worst] = field(default_factory=list)
    lanes: dict[str, Worst] = field(default_factory=dict)  # by kernels
    recorded: list[Worst] = field(default_factory=list)  # partials over points, with the best kernels
    tame: list[Worst] = field(default_factory=list)  # the same where operands are between 1e-3 and 1e3
    points: int = 0


def is_parameter(pg: Any, name: str) -> bool:
    """Whether the second argument is a constant."""
    lib, ffi = pg._core.layer.lib, pg._core.layer.ffi
    rows = (lib.pgr_op_row(op) for op in range(lib.PGR_OP_FIRST, lib.pgr_op_count()))
    return any(row.kind == lib.PGR_KIND_PARAM and ffi.string(row.name).decode() == name for row in rows)


def _or_infinity(function: Callable[..., float], args: tuple[float, ...], sign: float) -> float:
    """Its result; infinity where it raises OverflowError."""
    try:
        return function(*args)
    except OverflowError:
        return math.copysign(math.inf, sign)


def eager(pg: Any, name: str, args: tuple[float, ...]) -> tuple[float, list[float]]:
    """The value and the partials of an operation on Values."""
    values = [pg.Value(a) for a in args]
    parameter = is_parameter(pg, name)
    result = getattr(pg.Value, name)(values[0], *(args[1:] if parameter else values[1:]))
    result.backward()
    return result.data, [v.grad for v in (values[:1] if parameter else values)]


def recorded(pg: Any, name: str, args: tuple[float, ...]) -> tuple[float, list[float]]:
    """The same by recorded functions, over one point."""
    ((function, _, columns),) = _groups(pg, name, [args])
    slopes = over_points(pg, pg.grad(function, argnums=tuple(range(len(columns)))), columns, len(columns))
    return float(over_points(pg, function, columns, 1)[0][0]), [float(column[0]) for column in slopes]


def kernels(pg: Any) -> dict[str, int]:
    """The sets of kernels that this machine has, by name, the best last."""
    lib = pg._core.layer.lib
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    there = {"plain": lib.PGR_KERNELS_PLAIN}
    if platform.machine() == "x86_64" and "avx2" in flags and "fma" in flags:
        there["AVX2"] = lib.PGR_KERNELS_AVX2
        if all(f"avx512{part}" in flags for part in ("f", "dq", "vl")):
            there["AVX-512"] = lib.PGR_KERNELS_AVX512
    return there


def over_points(pg: Any, function: Any, columns: list[Any], results: int, which: int = 0) -> list[Any]:
    """The arrays that vmap(function) returns with one set of kernels."""
    import numpy as np

    ffi, lib = pg._core.layer.ffi, pg._core.layer.lib
    program = pg.vmap(function).program(*columns)
    out = [np.empty(len(columns[0])) for _ in range(results)]
    none = ffi.new("double[1]")
    status = lib.pgr_program_run(
        ffi.cast("pgr_program *", program._address),
        ffi.new("double *[]", [none, *(ffi.from_buffer("double[]", column) for column in columns)]),
        ffi.new("double *[]", [none, *(ffi.from_buffer("double[]", array) for array in out)]),
        ffi.new("pgr_run_options *", {"kernels": which}),
    )
    assert status == lib.PGR_OK
    return out


def _groups(pg: Any, name: str, points: list[tuple[float, ...]]) -> Iterator[tuple[Any, list[int], list[Any]]]:
    """A function of Values, the points that it is for, their columns: one, but for operations with a parameter."""
    import numpy as np

    method = getattr(pg.Value, name)
    if not is_parameter(pg, name):
        columns = [np.array(column) for column in zip(*points)]
        yield method, list(range(len(points))), columns
        return
    for b in sorted({point[1] for point in points}):
        which = [i for i, point in enumerate(points) if point[1] == b]
        yield lambda x, b=b: method(x, b), which, [np.array([points[i][0] for i in which])]


def measure(pg: Any, name: str, rng: random.Random, count: int, lanes: bool = True) -> Measured:
    """The worst errors of an operation on `count` points."""
    row, found = ROWS[name], Measured()
    points = HARD.get(name, []) + list(row.points(rng, count))
    exact = [tuple(f(*map(mp.mpf, args)) for f in (row.value, *row.partials)) for args in points]
    found.points = len(points)
    found.partials, found.recorded, found.tame = ([Worst() for _ in row.partials] for _ in range(3))
    method, parameter = getattr(pg.Value, name), is_parameter(pg, name)
    for args, (value, *slopes) in zip(points, exact):
        operands = [pg.Value(a) for a in args]
        try:
            result = method(operands[0], *(args[1:] if parameter else operands[1:]))
        except OverflowError:
            result = None
        error = ulps(math.copysign(math.inf, value) if result is None else result.data, value)
        found.value.see(error, args)
        if row.libm is not None:
            theirs = ulps(_or_infinity(row.libm, args, value), value)
            found.libm.see(theirs, args)
            found.worse.see(error - theirs, args)
        if result is None:
            continue
        result.backward()
        for worst, operand, slope in zip(found.partials, operands, slopes):
            worst.see(ulps(operand.grad, slope), args)
    if lanes:
        for function, which, columns in _groups(pg, name, points):
            for kernel, number in kernels(pg).items():
                (got,) = over_points(pg, function, columns, 1, number)
                worst = found.lanes.setdefault(kernel, Worst())
                for i, y in zip(which, got.tolist()):
                    worst.see(ulps(y, exact[i][0]), points[i])
            got = over_points(pg, pg.grad(function, argnums=tuple(range(len(columns)))), columns, len(columns))
            for j, column in enumerate(got):
                for i, y in zip(which, column.tolist()):
                    error = ulps(y, exact[i][1 + j])
                    found.recorded[j].see(error, points[i])
                    if all(1e-3 <= abs(x) <= 1e3 for x in points[i]):
                        found.tame[j].see(error, points[i])
    return found


# ---- Conventions ---------------------------------------------------------------------------------------------------

INF, NAN = math.inf, math.nan

# Operation, operands, value, partials, and PyTorch's partials where they differ. PyTorch 2.13 on a CPU.
CONVENTIONS: list[tuple[str, tuple[float, ...], float, list[float], list[float] | None]] = [
    ("relu", (0.0,), 0.0, [0.0], None),
    ("relu", (-0.0,), 0.0, [0.0], None),
    ("leaky_relu", (0.0, 0.2), 0.0, [0.2], None),
    ("abs", (0.0,), 0.0, [0.0], None),
    ("sign", (0.0,), 0.0, [0.0], None),
    ("max", (2.0, 2.0), 2.0, [0.5, 0.5], None),
    ("min", (2.0, 2.0), 2.0, [0.5, 0.5], None),
    ("max", (INF, INF), INF, [0.5, 0.5], None),
    ("min", (-INF, -INF), -INF, [0.5, 0.5], None),
    ("less", (1.0, 1.0), 0.0, [0.0, 0.0], []),
    ("less_equal", (1.0, 1.0), 1.0, [0.0, 0.0], []),
    ("equal", (1.0, 1.0), 1.0, [0.0, 0.0], []),
    ("pick", (0.0, 3.0), 0.0, [0.0, 0.0], []),
    ("keep", (0.0, 3.0), -0.0, [0.0, 0.0], []),
    ("gate", (3.0, 0.0), 0.0, [0.0, 0.0], []),
    ("sqrt", (0.0,), 0.0, [INF], None),
    ("asin", (1.0,), math.pi / 2, [INF], None),
    ("asin", (-1.0,), -math.pi / 2, [INF], None),
    ("acos", (1.0,), 0.0, [-INF], None),
    ("hypot", (0.0, 0.0), 0.0, [0.0, 0.0], [NAN, NAN]),
    ("atan2", (0.0, 0.0), 0.0, [0.0, 0.0], None),
    ("pow", (0.0, 0.0), 1.0, [0.0, 0.0], None),
    ("pow", (0.0, 0.5), 0.0, [INF, 0.0], None),
    ("pow", (0.0, 1.0), 0.0, [1.0, 0.0], None),
    ("pow", (0.0, 2.0), 0.0, [0.0, 0.0], None),
    ("pow", (-2.0, 3.0), -8.0, [12.0, NAN], None),
    ("powc", (0.0, 0.0), 1.0, [0.0], None),
    ("powc", (0.0, 0.1), 0.0, [INF], None),
    ("powc", (0.0, 0.5), 0.0, [INF], None),
    ("powc", (0.0, 1.0), 0.0, [1.0], None),
    ("powc", (NAN, 0.0), 1.0, [0.0], None),
    ("exp", (INF,), INF, [INF], None),
    ("exp", (-INF,), 0.0, [0.0], None),
    ("log", (INF,), INF, [0.0], None),
    ("tanh", (INF,), 1.0, [0.0], None),
    ("sigmoid", (-INF,), 0.0, [0.0], None),
    ("softplus", (INF,), INF, [1.0], None),
    ("softplus", (-INF,), 0.0, [0.0], None),
    ("relu", (INF,), INF, [1.0], None),
    ("atan", (-INF,), -math.pi / 2, [0.0], None),
    ("erf", (INF,), 1.0, [0.0], None),
    ("div", (1.0, INF), 0.0, [0.0, 0.0], None),
    ("div", (INF, 2.0), INF, [0.5, -INF], None),
    ("powc", (INF, -1.0), 0.0, [0.0], None),
    ("powc", (INF, 0.1), INF, [0.0], None),
    ("hypot", (INF, 1.0), INF, [NAN, 0.0], None),
    ("atan2", (INF, 1.0), math.pi / 2, [0.0, NAN], None),
    ("relu", (NAN,), NAN, [0.0], [1.0]),
    ("max", (NAN, 1.0), NAN, [0.5, 0.5], [1.0, 1.0]),
    ("min", (1.0, NAN), NAN, [0.5, 0.5], [1.0, 1.0]),
    ("abs", (NAN,), NAN, [NAN], [0.0]),
    ("tanh", (NAN,), NAN, [NAN], None),
    ("log2", (INF,), INF, [0.0], None),
    ("asinh", (-INF,), -INF, [0.0], None),
    ("acosh", (1.0,), 0.0, [INF], None),
    ("acosh", (INF,), INF, [0.0], None),
    ("erfc", (-INF,), 2.0, [0.0], None),
    ("silu", (INF,), INF, [NAN], None),
    ("silu", (-INF,), -0.0, [NAN], None),
    ("gelu", (INF,), INF, [NAN], None),
    ("gelu", (-INF,), -0.0, [NAN], None),
    ("elu", (0.0, 0.5), 0.0, [0.5], None),
    ("elu", (-INF, 1.0), -1.0, [0.0], None),
    ("elu", (INF, 1.0), INF, [1.0], None),
    ("floor", (2.0,), 2.0, [0.0], None),
    ("floor", (INF,), INF, [0.0], None),
    ("mod", (4.0, 2.0), 0.0, [1.0, -2.0], None),
    ("mod", (4.0, -2.0), -0.0, [1.0, 2.0], None),
    ("mod", (5.0, INF), 5.0, [1.0, 0.0], None),
    ("mod", (-5.0, INF), INF, [1.0, NAN], [1.0, 1.0]),
]

# ---- The report ----------------------------------------------------------------------------------------------------

REPORT = """# Accuracy

Errors of every operation against [mpmath](https://mpmath.org), in units in the last place (ulp) of the exact result.
A correctly rounded result has an error of at most 0.5. The ulp of a subnormal number is 2**-1074. Results beyond the
largest float64 should be infinite; infinity counts as 2**1024.

`tests/test_accuracy.py` bounds these figures on fewer points: values are as good as the platform's; partials of Values
and functions over points are within 4 ulp. Within 5: ndtri, and sigmoid and silu over points. Within 6: polygamma, and
the partials of gamma, ndtri and log_ndtr. Gamma functions are measured above 0; below 0, near their zeros, only the
absolute error is small.

To measure again:

```sh
pip install -e '.[test]' && python tests/accuracy.py
```

Platform: {platform}.

Points: up to {points} for an operation, seed {seed}. They are a grid with the edges of float64 and of the
domains, points that approach every cancellation, and random points, uniform and of any magnitude; `tests/accuracy.py`
lists them. mpmath works with {prec} bits.

## Values

The value, the same function in Python's `math` (the platform's libm) on the same points, and the partials of
`backward()`; each with its worst error and the point where it occurs.

{eager}

tanh's partial is micrograd's `1 - t*t` while t*t <= 0.5. Above, that formula cancels: from |a| = 19.07 on it would
return 0 instead of 1e-16. So the partial is computed from `exp(-2 |a|)` there.

gelu is worst at subnormal results, below a = -37.5; elsewhere it is within 4 ulp, and the tests check that.

## Functions over points

Recorded functions over points, with `vmap`: the value for each set of kernels on the machine, and the partials for the
best set. The last columns exclude points with an operand below 1e-3 or above 1e3 in magnitude.

{lanes}

Partials of Values use careful formulas; recorded partials use plain ones. Recorded partials lose digits

- if an intermediate result is subnormal or overflows (div, atan, atan2, hypot, pow);
- if `b - 1` is rounded, in the partial of `a ** b`;
- if `a * a` is rounded, in the partials of erf and erfc, by up to a*a ulp. The partials of erfinv, ndtr and ndtri use
  exp of a rounded square, too. The partial of log_ndtr far below 0 uses exp of the difference of two such squares, and
  also loses up to a*a ulp. In relative terms, its second derivative is
  wrong by 2e-9 at -100 and 0.2 at -1e4, its third by 7e-8 at -20 and 0.1 at -100.

The partial of tan, 1 + v*v, has twice the value's error. The partial of tanh, 1 - v*v, has an absolute error of 1e-16,
so it has few correct digits where tanh is near 1, as in JAX and PyTorch. The partials of silu and gelu have few correct
digits near their zeros, at -1.278 and -0.752, for the same reason.

## Conventions at kinks

These are points without a derivative, or without a finite one. PyTorch's partials are the same unless the last column
shows others; a dash means that PyTorch lacks the function. Values and recorded functions agree.

{conventions}

* Infinities and nans follow IEEE 754: 0 times infinity is nan. So a grad of 0 times an infinite partial is nan, as in
  `(x.sqrt() * 0).backward()` at x = 0.
* Comparisons with nan are false. So relu's partial at nan is 0, and max and min share the gradient; the values are nan.
* The partial of `a ** b` with respect to b is nan for a negative a, since the power is real only if b is an integer.
* Outside the domain, Values raise the exceptions of Python's floats and `math`. Recorded functions return nan or an
  infinity, by IEEE 754.
"""


def _worst(worst: Worst) -> str:
    return f"{_size(worst)} at {', '.join(map(repr, worst.at))}" if worst.ulps else "0"


def _size(worst: Worst) -> str:
    return f"{worst.ulps:.2f}" if worst.ulps < 100 else f"{worst.ulps:.1e}"


def _table(header: list[str], rows: Iterable[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(x: float) -> str:
    return f"{x:.6g}"


def _pair(worsts: list[Worst], show: Callable[[Worst], str]) -> list[str]:
    return [show(worst) for worst in worsts] + [""] * (2 - len(worsts))


def _platform() -> str:
    name, version = platform.libc_ver()
    model = next((x.split(":")[1].strip() for x in _cpuinfo() if x.startswith("model name")), platform.processor())
    return f"{name} {version}, {platform.machine()}, {model}, Python {platform.python_version()}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def report(pg: Any, count: int, seed: int) -> str:
    """The Markdown page."""
    found = {}
    for name in ROWS:
        print(name, file=sys.stderr)
        found[name] = measure(pg, name, random.Random(f"{seed} {name}"), count)
    rows_eager = [
        [name, _worst(m.value), _worst(m.libm) if ROWS[name].libm else "", *_pair(m.partials, _worst)]
        for name, m in found.items()
    ]
    sets = list(kernels(pg))
    rows_lanes = []
    for name, m in found.items():
        worst = max(m.lanes.values(), key=lambda each: each.ulps)
        sizes = [_size(m.lanes[each]) for each in sets]
        partials = [*_pair(m.recorded, _size), *_pair(m.tame, _size)]
        rows_lanes.append([name, *sizes, ", ".join(map(repr, worst.at)), *partials])
    conventions = [
        [
            f"{name}({', '.join(map(_number, args))})",
            *(_number(eager(pg, name, args)[0]), ", ".join(map(_number, eager(pg, name, args)[1]))),
            "" if theirs is None else ", ".join(map(_number, theirs)) or "-",
        ]
        for name, args, _, _, theirs in CONVENTIONS
    ]
    return REPORT.format(
        platform=_platform(),
        points=count,
        seed=seed,
        prec=mp.prec,
        eager=_table(["", "value", "math", "d/da", "d/db"], rows_eager),
        lanes=_table(["", *sets, "worst at", "d/da", "d/db", "d/da, 1e-3 .. 1e3", "d/db, 1e-3 .. 1e3"], rows_lanes),
        conventions=_table(["", "value", "partials", "PyTorch's"], conventions),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", help="print the page instead of writing it")
    parser.add_argument("--points", type=int, default=POINTS, help="for each operation")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    import pygrad

    text = report(pygrad, options.points, options.seed)
    if options.print:
        print(text)
        return
    target = Path(__file__).resolve().parent.parent / "docs" / "accuracy.md"
    target.parent.mkdir(exist_ok=True)
    target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
