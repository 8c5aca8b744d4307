"""Oracles of nested transforms: plain loops over lanes, dual numbers, and JAX.

Each `*_namespace` gives a program's names (grad, vmap, sin, where, ...) one meaning, so that one source runs on all.
"""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
import functools
import itertools
import math
import operator
import types
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
import rules

pytest.importorskip("scipy.special")
import scipy.special

TRANSFORMS = ["jit", "grad", "value_and_grad", "vjp", "jvp", "jacobian", "hessian", "hvp", "vmap"]
MORE = ["linearize", "jacrev", "jacfwd"]  # others, in place of those
UNARY = ["exp", "tanh", "sigmoid", "softplus", "relu", "sin", "cos", "atan", "erf", "log", "sqrt"]
UNARY += ["silu", "gelu", "elu", "asinh", "acosh", "atanh", "log10", "log2", "erfc", "floor"]
UNARY += ["rint", "exp2", "cbrt", "logit", "gamma", "lgamma", "digamma", "erfinv", "ndtr", "ndtri", "log_ndtr"]
COMPARISONS = ["less", "less_equal", "equal"]
BINARY = ["maximum", "minimum", "atan2", "hypot"]


# ---- Trees ---------------------------------------------------------------------------------------


class Pair(NamedTuple):
    a: object
    b: object


@dataclasses.dataclass
class Box:
    w: object
    k: object
    name: object = dataclasses.field(default="box", metadata={"static": True})


class Bag:
    """A class that is registered."""

    def __init__(self, *parts):
        self.parts = parts

    def __repr__(self):
        return f"Bag{self.parts}"


CLASSES = {"Pair": Pair, "Box": Box, "Bag": Bag}


def opened(tree):
    """(the children of a node, what makes one of others); None for a leaf."""
    kind = type(tree)
    if tree is None:
        return [], lambda _: None
    if kind in (list, tuple):
        return list(tree), kind
    if kind is Pair:
        return list(tree), lambda parts: Pair(*parts)
    if kind is Box:
        return [tree.w, tree.k], lambda parts: Box(*parts, tree.name)
    if kind is Bag:
        return list(tree.parts), lambda parts: Bag(*parts)
    if kind is dict:
        return [tree[key] for key in sorted(tree)], lambda parts: dict(zip(sorted(tree), parts))
    return None


def leaves(tree):
    found = opened(tree)
    return [tree] if found is None else [leaf for x in found[0] for leaf in leaves(x)]


def mapped(f, *trees):
    """Apply `f` to the leaves of trees of one structure."""
    found = [opened(tree) for tree in trees]
    if found[0] is None:
        return f(*trees)
    return found[0][1]([mapped(f, *parts) for parts in zip(*(children for children, _ in found))])


def spread(prefix, tree):
    """For each leaf of the tree what the prefix has above it: an int, or None."""
    if prefix is None or isinstance(prefix, int):
        return [prefix] * len(leaves(tree))
    return [axis for part, x in zip(opened(prefix)[0], opened(tree)[0]) for axis in spread(part, x)]


def refilled(tree, values):
    """A tree with these leaves."""
    rest = iter(values)
    return mapped(lambda _: next(rest), tree)


def is_array(x):
    return isinstance(x, np.ndarray) and x.ndim > 0


def objects(values, shape=None):
    """An array of objects."""
    values = list(values)
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        array[i] = value
    return array if shape is None else array.reshape(shape)


def joined(parts):
    """np.stack, of trees."""
    shape = parts[0].shape if is_array(parts[0]) else ()
    return objects([x for part in parts for x in (part.ravel() if shape else [part])], (len(parts), *shape))


def array(rows):
    return joined([array(row) if isinstance(row, (list, tuple)) else row for row in rows])


def elementwise(f, *args):
    if any(is_array(x) for x in args):
        return np.frompyfunc(f, len(args), 1)(*(x if is_array(x) else objects([x], ()) for x in args))
    return f(*args)


# ---- Plain loops ---------------------------------------------------------------------------------


def loop_vmap(fn, in_axes=0, out_axes=0, reduce=None, **_):
    """Loop over slices."""

    def run(*args, **keywords):
        axes = [in_axes] * len(args) if in_axes is None or isinstance(in_axes, int) else [*in_axes]
        given = [*args, *keywords.values()]
        axes = [spread(axis, x) for axis, x in zip([*axes, *[0] * len(keywords)], given)]
        (count,) = {
            np.asarray(leaf).shape[axis]
            for x, row in zip(given, axes)
            for leaf, axis in zip(leaves(x), row)
            if axis is not None
        }

        def part(x, row, i):
            if all(axis is None for axis in row):
                return x
            pairs = zip(leaves(x), row)
            return refilled(x, [y if axis is None else np.moveaxis(y, axis, 0)[i] for y, axis in pairs])

        results = []
        for i in range(count):
            parts = [part(x, row, i) for x, row in zip(given, axes)]
            results.append(fn(*parts[: len(args)], **dict(zip(keywords, parts[len(args) :]))))
        if reduce is None:
            axis = iter(spread(out_axes, results[0]))
            return mapped(lambda *parts: np.moveaxis(joined(parts), 0, next(axis)), *results)
        total = mapped(lambda *parts: functools.reduce(operator.add, parts), *results)
        return total if reduce == "sum" else mapped(lambda x: x * (1.0 / count), total)

    return run


class Loops:
    """NumPy's functions by loops over scalars of some sort: `names` are functions of those, `value` gives the float."""

    def __init__(self, names, value):
        self._names, self._value = names, value
        self.linalg = types.SimpleNamespace(
            solve=lambda a, b: self._solve(a, b.reshape(len(a), -1)).reshape(b.shape),
            inv=lambda a: self._solve(a, np.eye(len(a))),
            det=self._det,
            cholesky=self._cholesky,
            norm=lambda v: names["sqrt"](sum(x * x for x in v)),
        )
        self.where = names["where"]
        for name in ("maximum", "minimum", "clip", "exp2"):
            setattr(self, name, names[name])
        for name in ("concatenate", "flip", "roll", "reshape", "transpose", "trace", "outer", "dot", "diff"):
            setattr(self, name, getattr(np, name))

    def __getattr__(self, name):
        return functools.partial(elementwise, getattr(self, f"_{name}"))

    def _square(self, x):
        return x * x

    def _sinc(self, x):
        y = x * math.pi
        if abs(self._value(y)) > 0.5:
            return self._names["sin"](y) / y
        terms = [(y * y) ** k * (-1) ** k / math.factorial(2 * k + 1) for k in range(1, 8)]
        return sum(terms, 1.0)

    def _deg2rad(self, x):
        return x * (math.pi / 180.0)

    def _reciprocal(self, x):
        return 1.0 / x

    def _logaddexp(self, x, y):
        return y + self._names["softplus"](x - y)

    def _sign(self, x):
        at_kink(self._value(x))
        return float(np.sign(self._value(x)))

    def _heaviside(self, x, at_zero):
        at_kink(self._value(x))
        return float(np.heaviside(self._value(x), at_zero))

    def _floor_divide(self, x, y):
        return self._names["floor"](x / y)

    def interp(self, x, xs, ys):
        def one(x):
            k = int(np.searchsorted(xs, self._value(x), "right"))
            for edge in xs:
                at_kink(self._value(x) - edge)
            if k in (0, len(xs)):
                return float(ys[min(k, len(xs) - 1)])
            return ys[k - 1] + (x - xs[k - 1]) * ((ys[k] - ys[k - 1]) / (xs[k] - xs[k - 1]))

        return elementwise(one, x)

    def _reduced(self, f, x, axis):
        if axis is None:
            return f(list(x.ravel()))
        moved = np.moveaxis(x, axis, -1)
        return objects([f(list(row)) for row in moved.reshape(-1, moved.shape[-1])], moved.shape[:-1])

    def max(self, x, axis=None, where=True, initial=None):
        if where is not True:
            x = self.where(where, x, initial)
        first = [] if initial is None else [initial]
        return self._reduced(lambda row: functools.reduce(self.maximum, first + row), x, axis)

    def min(self, x, axis=None):
        return self._reduced(lambda row: functools.reduce(self.minimum, row), x, axis)

    def prod(self, x, where=True):
        if where is not True:
            x = self.where(where, x, 1.0)
        return self._reduced(lambda row: functools.reduce(operator.mul, row), x, None)

    def sum(self, x, axis=None, where=True):
        if where is not True:
            x = self.where(where, x, 0.0)
        return self._reduced(lambda row: functools.reduce(operator.add, row), x, axis)

    def mean(self, x, axis=None):
        return self._reduced(lambda row: functools.reduce(operator.add, row) / len(row), x, axis)

    def var(self, x, axis=None):
        def one(row):
            mean = functools.reduce(operator.add, row) / len(row)
            return sum((x - mean) * (x - mean) for x in row) / len(row)

        return self._reduced(one, x, axis)

    def std(self, x):
        return self._names["sqrt"](self.var(x))

    def median(self, x):
        row = self._sorted(list(x))
        return (row[(len(row) - 1) // 2] + row[len(row) // 2]) * 0.5

    def argmax(self, x):
        values = [self._value(y) for y in x]
        at_kink(len(set(values)) - len(values))
        return float(np.argmax(values))

    def sort(self, x):
        return objects(self._sorted(list(x)))

    def _sorted(self, row):
        values = sorted(self._value(x) for x in row)
        if any(a == b for a, b in zip(values, values[2:])):
            raise OverflowError("three equal numbers share the gradient by the order of comparisons")
        for end in reversed(range(len(row))):
            for i in range(end):
                row[i], row[i + 1] = self.minimum(row[i], row[i + 1]), self.maximum(row[i], row[i + 1])
        return row

    def cumsum(self, x):
        return objects([functools.reduce(operator.add, list(x[: k + 1])) for k in range(len(x))])

    def cumprod(self, x):
        return objects([functools.reduce(operator.mul, list(x[: k + 1])) for k in range(len(x))])

    def stack(self, parts):
        return joined(parts)

    def einsum(self, subscripts, *args):
        terms, _, out = subscripts.partition("->")
        letters = sorted(set(terms) - {","})
        lengths = {x: n for term, arg in zip(terms.split(","), args) for x, n in zip(term, arg.shape)}
        totals = {}
        for places in np.ndindex(*(lengths[x] for x in letters)):
            at = dict(zip(letters, places))
            factors = [arg[tuple(at[x] for x in term)] for term, arg in zip(terms.split(","), args)]
            key = tuple(at[x] for x in out)
            product = functools.reduce(operator.mul, factors)
            totals[key] = totals[key] + product if key in totals else product
        return objects(totals.values(), [lengths[x] for x in out]) if out else totals[()]

    def _solve(self, a, b):
        """Gauss and Jordan's elimination, with the largest pivot."""
        n = len(a)
        rows = [[*x, *y] for x, y in zip(a, b)]
        for k in range(n):
            best = max(range(k, n), key=lambda i: abs(self._value(rows[i][k])))
            rows[k], rows[best] = rows[best], rows[k]
            rows[k] = [x / rows[k][k] for x in rows[k]]
            for i in range(n):
                if i != k:
                    rows[i] = [x - rows[i][k] * y for x, y in zip(rows[i], rows[k])]
        return objects([x for row in rows for x in row[n:]], b.shape)

    def _det(self, a):
        """Leibniz's sum over permutations."""
        total = 0.0
        for order in itertools.permutations(range(len(a))):
            swaps = sum(order[i] > order[j] for i in range(len(order)) for j in range(i, len(order)))
            total = total + functools.reduce(operator.mul, [a[i, j] for i, j in enumerate(order)]) * (-1.0) ** swaps
        return total

    def _cholesky(self, a):
        """Column by column, each subtracted from the rest."""
        n = len(a)
        rest, found = a.astype(object), objects([0.0] * (n * n), (n, n))
        for k in range(n):
            root = self._names["sqrt"](rest[k, k])
            found[k:, k] = objects([rest[i, k] / root for i in range(k, n)])
            for i in range(k + 1, n):
                for j in range(k + 1, i + 1):
                    rest[i, j] = rest[i, j] - found[i, k] * found[j, k]
        return found


# ---- Dual numbers --------------------------------------------------------------------------------


class Noise:
    """Relative errors of about an ulp in inexact operations; the same for the same operands."""

    seed = 0


def noisy(op, result, *args):
    if Noise.seed and op == "atan2" and args[0] == 0.0 and args[1] <= 0.0:
        return math.copysign(math.pi, Noise.seed - 1.5)  # the sign of a derivative of 0 means nothing
    if not Noise.seed or not math.isfinite(result) or result == 0.0:
        return result
    if op in EXACT:
        if all(map(math.isfinite, args)):
            exact = EXACT[op](*map(Fraction, args))
            if exact is not None and exact == Fraction(result):
                return result
    elif result == round(result) and abs(result) < 4.0:
        return result
    return result * (1.0 + ((hash((Noise.seed, op, *args)) >> 7) % 2001 - 1000) * 1e-18)


EXACT = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b if b else None,
    "neg": lambda a: -a,
    "maximum": max,
    "minimum": min,
    "relu": lambda a: max(a, 0),
    "abs": abs,
    "floor": math.floor,
    "mod": lambda a, b: a % b if b else None,
}


def power(a, b):
    if b == 2.0:
        return a * a
    if b == 1.0:
        return a
    if b == -1.0:
        return divide(1.0, a)
    return float(np.power(np.float64(a), np.float64(b)))


def divide(a, b):
    return a / b if b else float(np.float64(a) / np.float64(b))


def ieee(f, otherwise):
    def g(a):
        try:
            return f(a)
        except (ValueError, OverflowError):
            return otherwise(a)

    return g


NUMBERS = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": divide,
    "pow": power,
    "neg": lambda a: -a,
    "abs": abs,
    "exp": ieee(math.exp, lambda a: math.inf),
    "log": ieee(math.log, lambda a: -math.inf if a == 0 else math.nan),
    "sqrt": ieee(math.sqrt, lambda a: math.nan),
    "tanh": math.tanh,
    "sigmoid": lambda a: (1.0 if a >= 0 else math.exp(-abs(a))) / (1.0 + math.exp(-abs(a))),
    "softplus": lambda a: (a if a > 0 else 0.0) + math.log1p(math.exp(-abs(a))),
    "relu": lambda a: 0.0 if a < 0 else a,
    "sin": ieee(math.sin, lambda a: math.nan),
    "cos": ieee(math.cos, lambda a: math.nan),
    "atan": math.atan,
    "erf": math.erf,
    "maximum": lambda a, b: a if a > b or math.isnan(a) else b,
    "minimum": lambda a, b: a if a < b or math.isnan(a) else b,
    "atan2": math.atan2,
    "hypot": math.hypot,
    "silu": lambda a: -0.0 if a == -math.inf else a * NUMBERS["sigmoid"](a),
    "gelu": lambda a: -0.0 if a == -math.inf else a * math.erfc(-a / math.sqrt(2.0)) / 2.0,
    "elu": lambda a: a if a > 0 else math.expm1(a),
    "asinh": math.asinh,
    "acosh": ieee(math.acosh, lambda a: math.nan),
    "atanh": ieee(math.atanh, lambda a: a * math.inf if abs(a) == 1 else math.nan),
    "log10": ieee(math.log10, lambda a: -math.inf if a == 0 else math.nan),
    "log2": ieee(math.log2, lambda a: -math.inf if a == 0 else math.nan),
    "erfc": math.erfc,
    "floor": lambda a: float(np.floor(a)),
    "mod": lambda a, b: a % b if b else math.nan,
    "twist": lambda a, b: NUMBERS["sin"](a) * b,  # these two have rules
    "bend": lambda a, b: math.atan(a * b),
    "rint": lambda a: float(np.rint(a)),
    "exp2": lambda a: float(np.exp2(np.float64(a))),
    "cbrt": lambda a: float(np.cbrt(a)),
    **{
        name: functools.partial(lambda f, a: float(f(a)), getattr(scipy.special, theirs))
        for name, theirs in zip(
            ["logit", "gamma", "lgamma", "digamma", "erfinv", "ndtr", "ndtri", "log_ndtr"],
            ["logit", "gamma", "gammaln", "digamma", "erfinv", "ndtr", "ndtri", "log_ndtr"],
        )
    },
    "polygamma": lambda n, a: float(scipy.special.polygamma(int(n), a)),
}


def at_kink(x):
    """Whether `x` is 0, and there is a kink."""
    Work.kinks += number(x) == 0.0
    return number(x) == 0.0


def side(x):
    """The sign of `x`, 0 at the kink."""
    return 0.0 if at_kink(x) else float((number(x) > 0.0) - (number(x) < 0.0))


def wins(a, b):
    """Partial of max(a, b) by a; ½ if they are equal."""
    return 0.5 + 0.5 * side(number(a) - number(b))


def ratio(a, b):
    """The quotient; 0 where b is 0."""
    return 0.0 if at_kink(b) else apply("div", a, b)


def power_da(a, b, v):
    if number(b) in (0.0, 1.0) and not is_active(b):
        return number(b)
    if number(b) == 0.0 and at_kink(a):
        return 0.0
    return apply("mul", b, apply("pow", a, apply("sub", b, 1.0)))


def power_db(a, b, v):
    return 0.0 if at_kink(a) and number(b) >= 0.0 else v * apply("log", a)


PARTIALS = {
    "add": lambda a, b, v: (1.0, 1.0),
    "sub": lambda a, b, v: (1.0, -1.0),
    "mul": lambda a, b, v: (b, a),
    "div": lambda a, b, v: (apply("div", 1.0, b), apply("neg", apply("div", v, b))),
    "pow": lambda a, b, v: (power_da(a, b, v), lambda: power_db(a, b, v)),
    "neg": lambda a, v: (-1.0,),
    "abs": lambda a, v: (side(a),),
    "exp": lambda a, v: (v,),
    "log": lambda a, v: (apply("div", 1.0, a),),
    "sqrt": lambda a, v: (apply("div", 0.5, v),),
    "tanh": lambda a, v: (1.0 - v * v,),
    "sigmoid": lambda a, v: (v * apply("sigmoid", -a),),
    "softplus": lambda a, v: (apply("sigmoid", a),),
    "relu": lambda a, v: (max(side(a), 0.0),),
    "sin": lambda a, v: (apply("cos", a),),
    "cos": lambda a, v: (-apply("sin", a),),
    "atan": lambda a, v: (apply("div", 1.0, 1.0 + a * a),),
    "erf": lambda a, v: (2.0 / math.sqrt(math.pi) * apply("exp", -(a * a)),),
    "maximum": lambda a, b, v: (wins(a, b), wins(b, a)),
    "minimum": lambda a, b, v: (wins(b, a), wins(a, b)),
    "atan2": lambda a, b, v: (ratio(b, a * a + b * b), ratio(-a, a * a + b * b)),
    "hypot": lambda a, b, v: (ratio(a, v), ratio(b, v)),
    "silu": lambda a, v: (apply("sigmoid", a) * (1.0 + a * apply("sigmoid", -a)),),
    "gelu": lambda a, v: (
        0.5 * apply("erfc", -math.sqrt(0.5) * a) + a * (apply("exp", -0.5 * (a * a)) / math.sqrt(2.0 * math.pi)),
    ),
    "elu": lambda a, v: (1.0 if number(a) > 0.0 or at_kink(a) else apply("exp", a),),
    "asinh": lambda a, v: (apply("div", 1.0, apply("hypot", 1.0, a)),),
    "acosh": lambda a, v: (apply("div", 1.0, apply("sqrt", a - 1.0) * apply("sqrt", a + 1.0)),),
    "atanh": lambda a, v: (apply("div", 1.0, (1.0 - a) * (1.0 + a)),),
    "log10": lambda a, v: (apply("div", 1.0 / math.log(10.0), a),),
    "log2": lambda a, v: (apply("div", 1.0 / math.log(2.0), a),),
    "erfc": lambda a, v: (-2.0 / math.sqrt(math.pi) * apply("exp", -(a * a)),),
    "floor": lambda a, v: (jumping(0.0, number(a) - number(v)),),
    "rint": lambda a, v: (jumping(0.0, abs(number(a) - number(v)) - 0.5),),
    "exp2": lambda a, v: (math.log(2.0) * v,),
    "cbrt": lambda a, v: (apply("div", 1.0, 3.0 * v * v),),
    "logit": lambda a, v: (apply("div", 1.0, a * (1.0 - a)),),
    "gamma": lambda a, v: (v * apply("digamma", a),),
    "lgamma": lambda a, v: (apply("digamma", a),),
    "digamma": lambda a, v: (apply("polygamma", 1.0, a),),
    "polygamma": lambda n, a, v: (0.0, apply("polygamma", number(n) + 1.0, a)),
    "erfinv": lambda a, v: (math.sqrt(math.pi) / 2.0 * apply("exp", v * v),),
    "ndtr": lambda a, v: (apply("exp", -0.5 * (a * a)) / math.sqrt(2.0 * math.pi),),
    "ndtri": lambda a, v: (math.sqrt(2.0 * math.pi) * apply("exp", 0.5 * (v * v)),),
    "log_ndtr": lambda a, v: (apply("exp", -0.5 * (a * a) - v) / math.sqrt(2.0 * math.pi),),
    "mod": lambda a, b, v: (1.0, jumping(-float(np.floor_divide(number(a), number(b))), v)),
    "twist": lambda a, b, v: rules.twist_slopes(APPLIED, a, b, v),
    "bend": lambda a, b, v: rules.bend_slopes(APPLIED, a, b, v),
}


def jumping(partial, rest):
    """`partial`, of a function that jumps where `rest` is 0."""
    at_kink(rest)
    return partial


APPLIED = {name: functools.partial(lambda name, *args: apply(name, *args), name) for name in NUMBERS}


class Work:
    """What the dual numbers have met since the last reset."""

    most = 100_000  # operations; longer programs are drawn again
    done = 0
    overflows = 0
    kinks = 0  # where there is no derivative, and conventions differ

    @classmethod
    def reset(cls):
        cls.done = cls.overflows = cls.kinks = 0


def apply(op, *args):
    Work.done += 1
    if Work.done > Work.most:
        raise OverflowError("too much work")
    level = max(x.level if isinstance(x, Dual) else 0 for x in args)
    if level == 0:
        plain = [number(x) for x in args]
        value = NUMBERS[op](*plain)
        Work.overflows += not abs(value) < 1e100
        return Dual(0, noisy(op, value, *plain), ())
    parts = [x if isinstance(x, Dual) and x.level == level else None for x in args]
    below = [x if part is None else part.value for x, part in zip(args, parts)]
    value = apply(op, *below)
    slopes = None
    for partial, part in zip(PARTIALS[op](*below, value), parts):
        if part is None:
            continue
        if isinstance(partial, types.FunctionType):
            partial = partial()
        here = [times(partial, slope) for slope in part.slopes]
        slopes = here if slopes is None else [plus(a, b) for a, b in zip(slopes, here)]
    return Dual(level, value, slopes)


def times(a, b):
    """The product; 0.0 if a factor is exactly 0.0, even beside inf."""
    if type(a) is float and a == 1.0:
        return b
    if type(b) is float and b == 1.0:
        return a
    return 0.0 if (type(a) is float and a == 0.0) or (type(b) is float and b == 0.0) else apply("mul", a, b)


def plus(a, b):
    return b if type(a) is float and a == 0.0 else a if type(b) is float and b == 0.0 else apply("add", a, b)


def number(x):
    while isinstance(x, Dual):
        x = x.value
    return float(x)


def is_active(x):
    return isinstance(x, Dual) and x.level > 0


class Dual:
    """A number with its slopes along some directions; numbers and slopes may be Duals of a lower level.

    Source: Griewank & Walther, Evaluating Derivatives, ch. 3.1; the levels keep perturbations apart (Siskind &
    Pearlmutter 2005).
    """

    __slots__ = ("level", "slopes", "value")
    __array_priority__ = -1.0

    def __init__(self, level, value, slopes):
        self.level, self.value, self.slopes = level, value, slopes

    def __repr__(self):
        return f"Dual({number(self)})"

    def __neg__(self):
        return apply("neg", self)

    def __abs__(self):
        return apply("abs", self)

    def __hash__(self):
        raise TypeError("a Dual has no hash")


def _define_operators():
    for name in ("add", "sub", "mul", "truediv", "mod", "pow"):
        op = "div" if name == "truediv" else name

        def method(self, other, op=op):
            return NotImplemented if isinstance(other, np.ndarray) else apply(op, self, other)

        def reflected(self, other, op=op):
            return NotImplemented if isinstance(other, np.ndarray) else apply(op, other, self)

        setattr(Dual, f"__{name}__", method)
        setattr(Dual, f"__r{name}__", reflected)
    for name in ("lt", "le", "gt", "ge", "eq", "ne"):

        def compare(self, other, name=name):
            return (
                NotImplemented
                if isinstance(other, np.ndarray)
                else getattr(operator, name)(number(self), number(other))
            )

        setattr(Dual, f"__{name}__", compare)
    Dual.__hash__ = None


_define_operators()


class Levels:
    depth = 0


@contextlib.contextmanager
def one_deeper():
    Levels.depth += 1
    try:
        yield Levels.depth
    finally:
        Levels.depth -= 1


def forward(fn, args, directions):
    """fn(*args) and, for each of its leaves' elements, its slopes along the directions.

    directions: for each element of args' leaves its slope along each direction.
    """
    with one_deeper() as level:
        rest = iter(directions)

        def active(leaf):
            if is_array(leaf):
                return objects([Dual(level, x, next(rest)) for x in leaf.ravel()], leaf.shape)
            return Dual(level, leaf.item() if isinstance(leaf, np.ndarray) else leaf, next(rest))

        result = fn(*mapped(active, args))
    count = len(directions[0])

    def split(x):
        return (x.value, x.slopes) if isinstance(x, Dual) and x.level == level else (x, [0.0] * count)

    values = mapped(
        lambda leaf: objects([split(x)[0] for x in leaf.ravel()], leaf.shape) if is_array(leaf) else split(leaf)[0],
        result,
    )
    slopes = [split(x)[1] for x in flat(result)]
    return values, slopes


def flat(tree):
    return [x for leaf in leaves(tree) for x in (leaf.ravel() if isinstance(leaf, np.ndarray) else [leaf])]


def filled(tree, values):
    """`values` in the structure of `tree`."""
    rest = iter(values)
    ordered = [
        objects([next(rest) for _ in range(x.size)], x.shape) if is_array(x) else next(rest) for x in leaves(tree)
    ]
    return refilled(tree, ordered)


def unit(n):
    return [[1.0 if i == j else 0.0 for j in range(n)] for i in range(n)]


def selected(args, argnums):
    single = isinstance(argnums, int)
    return single, [i % len(args) for i in ([argnums] if single else argnums)]


def dual_jacobian_rows(fn, args, positions, keywords=None):
    def partial(*chosen):
        every = list(args)
        for i, x in zip(positions, chosen):
            every[i] = x
        return fn(*every, **(keywords or {}))

    chosen = tuple(args[i] for i in positions)
    return forward(partial, chosen, unit(len(flat(chosen))))


def first_only(fn, has_aux, kept):
    """fn, without its aux, which is kept."""
    if not has_aux:
        return fn

    def first(*args, **keywords):
        value, aux = fn(*args, **keywords)
        kept[:] = [aux]
        return value

    return first


def without_level(aux):
    """An aux as it is outside of the derivative that was just computed."""
    level = Levels.depth + 1
    below = lambda x: x.value if isinstance(x, Dual) and x.level == level else x  # noqa: E731
    return mapped(lambda leaf: objects(map(below, leaf.ravel()), leaf.shape) if is_array(leaf) else below(leaf), aux)


def dual_value_and_grad(fn, argnums=0, has_aux=False, **_):
    def run(*args, **keywords):
        single, positions = selected(args, argnums)
        kept = []
        value, (row,) = dual_jacobian_rows(first_only(fn, has_aux, kept), args, positions, keywords)
        grads = filled(tuple(args[i] for i in positions), row)
        return (value, without_level(kept[0])) if has_aux else value, grads[0] if single else grads

    return run


def dual_grad(fn, argnums=0, has_aux=False, **_):
    both = dual_value_and_grad(fn, argnums, has_aux)

    def run(*args, **keywords):
        value, grads = both(*args, **keywords)
        return (grads, value[1]) if has_aux else grads

    return run


def dual_jvp(fn, primals, tangents, **_):
    value, slopes = forward(fn, tuple(primals), [[t] for t in flat(tuple(tangents))])
    return value, filled(value, [s[0] for s in slopes])


def dual_vjp(fn, *primals, **_):
    value, rows = dual_jacobian_rows(fn, primals, range(len(primals)))

    def pull(cotangent):
        weights = flat(cotangent)
        sums = [functools.reduce(plus, [times(w, s) for w, s in zip(weights, column)]) for column in zip(*rows)]
        return filled(primals, sums)

    return value, pull


def nest(result, x, rows):
    """Rows of a Jacobian in the structure of the result, each entry in that of the argument."""
    rest = iter(rows)

    def block(leaf):
        if not is_array(leaf):
            return filled(x, next(rest))
        parts = [filled(x, next(rest)) for _ in range(leaf.size)]
        return mapped(lambda *p: joined(p).reshape(leaf.shape + (p[0].shape if is_array(p[0]) else ())), *parts)

    return refilled(result, [block(leaf) for leaf in leaves(result)])


def dual_linearize(fn, *primals, **_):
    return fn(*primals), lambda *tangents: dual_jvp(fn, primals, tangents)[1]


def dual_jacobian(fn, argnums=0, has_aux=False, **_):
    def run(*args, **keywords):
        single, positions = selected(args, argnums)
        kept = []
        value, rows = dual_jacobian_rows(first_only(fn, has_aux, kept), args, positions, keywords)
        matrix = nest(value, args[positions[0]] if single else tuple(args[i] for i in positions), rows)
        return (matrix, without_level(kept[0])) if has_aux else matrix

    return run


def dual_hessian(fn, argnums=0, **_):
    return dual_jacobian(dual_grad(fn, argnums), argnums)


def dual_hvp(fn, **_):
    return lambda x, v, *args: dual_jvp(lambda x: dual_grad(fn)(x, *args), (x,), (v,))[1]


def plain_jit(fn, **_):
    return fn


def truth(c):
    return bool(number(c))


def condition_names(truth, equal):
    return {
        "where": lambda c, a, b: elementwise(lambda c, x, y: x if truth(c) else y, c, a, b),
        "eq": lambda a, b: elementwise(equal, a, b),
        "ne": lambda a, b: elementwise(lambda x, y: not equal(x, y), a, b),
        "less": lambda a, b: elementwise(lambda x, y: bool(x < y), a, b),
        "less_equal": lambda a, b: elementwise(lambda x, y: bool(x <= y), a, b),
        "equal": lambda a, b: elementwise(equal, a, b),
        "inv": lambda c: elementwise(lambda x: not x, c),
        "array": array,
        "sum": builtins.sum,
        "np": np,
        **CLASSES,
    }


def dual_namespace():
    names = {
        "jit": plain_jit,
        "grad": dual_grad,
        "value_and_grad": dual_value_and_grad,
        "vjp": dual_vjp,
        "jvp": dual_jvp,
        "jacobian": dual_jacobian,
        "hessian": dual_hessian,
        "hvp": dual_hvp,
        "linearize": dual_linearize,
        "jacrev": dual_jacobian,
        "jacfwd": dual_jacobian,
        "vmap": loop_vmap,
        **condition_names(truth, lambda x, y: number(x) == number(y)),
        "clip": lambda x, low, high: names["minimum"](names["maximum"](x, low), high),
        "detach": functools.partial(elementwise, lambda x: Dual(0, number(x), ())),
    }
    for name in (*UNARY, "abs"):
        names[name] = functools.partial(elementwise, functools.partial(apply, name))
    for name in (*BINARY, "twist", "bend"):
        names[name] = functools.partial(elementwise, functools.partial(apply, name))
    names.update(rules.in_duals(names, elementwise))
    return {**names, "xp": Loops(names, number)}


def dual_number(x):
    """An argument or a captured number, array or tree as Duals of level 0."""
    return mapped(
        lambda leaf: (
            objects([Dual(0, float(y), ()) for y in leaf.ravel()], leaf.shape)
            if is_array(leaf)
            else Dual(0, float(leaf), ())
        ),
        x,
    )


def plain_numbers(tree):
    """A result as floats and arrays of float64."""
    return mapped(
        lambda leaf: (
            np.array([number(x) for x in leaf.ravel()], dtype=float).reshape(leaf.shape)
            if is_array(leaf)
            else number(leaf)
        ),
        tree,
    )


# ---- pygrad: eagerly, in plain loops -------------------------------------------------------------


def eager_namespace(pg):
    def data(x):
        return float(x.data if isinstance(x, pg.Value) else x)

    def eager(transform):
        return lambda fn, *args, **keywords: transform(fn, *args, **{**keywords, "record": False})

    register(pg)
    names = {name: eager(getattr(pg, name)) for name in (*TRANSFORMS, *MORE)}
    names.update(
        jit=plain_jit,
        vmap=loop_vmap,
        **condition_names(lambda c: bool(data(c)), lambda x, y: data(x) == data(y)),
    )
    names.update({name: getattr(pg.math, name) for name in (*UNARY, *BINARY, "clip", "detach")})
    names.update(rules.in_pygrad(pg))
    return {**names, "xp": Loops(names, data)}


def stacked(rows):
    return np.stack([stacked(row) if isinstance(row, list) else row for row in rows])


def register(pg):
    with contextlib.suppress(ValueError):  # registered already
        pg.register_tree_node(Bag, lambda bag: (bag.parts, len(bag.parts)), lambda _, parts: Bag(*parts))


def recorded_namespace(pg, has_plain=True):
    register(pg)
    return {
        **CLASSES,
        **{name: getattr(pg, name) for name in (*TRANSFORMS, *MORE, "where")},
        **{name: getattr(pg.math, name) for name in (*UNARY, *BINARY, *COMPARISONS, "clip", "detach")},
        "eq": operator.eq,
        "ne": operator.ne,
        "inv": lambda c: operator.invert(np.bool_(c) if isinstance(c, bool) else c),  # not ~True, which is -2
        "array": np.array if has_plain else stacked,
        "sum": builtins.sum,
        "np": np,
        **rules.in_pygrad(pg),
        "xp": np,
    }


# ---- JAX -----------------------------------------------------------------------------------------


def jax_namespace():
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    with contextlib.suppress(ValueError):  # registered already
        jax.tree_util.register_pytree_node(Bag, lambda bag: (bag.parts, None), lambda _, parts: Bag(*parts))
        jax.tree_util.register_dataclass(Box, ["w", "k"], ["name"])

    def clean(tree):
        return mapped(lambda x: jnp.asarray(x, dtype=jnp.float64), tree)

    def plain(transform):
        def made(fn, *options, record=True, workers=1, **keywords):
            if "in_axes" in keywords and isinstance(keywords["in_axes"], list):
                keywords["in_axes"] = tuple(keywords["in_axes"])
            made = transform(fn_clean(fn), *options, **keywords)
            return lambda *args, **keywords: made(*clean(args), **clean(keywords))

        return made

    def fn_clean(fn):
        return lambda *args, **keywords: clean(fn(*args, **keywords))

    def vmap(fn, in_axes=0, out_axes=0, reduce=None):
        each = jax.vmap(fn, in_axes, out_axes)

        def run(*args, **keywords):
            results = each(*args, **keywords)
            if reduce is None:
                return results
            return mapped((lambda x: x.sum(0)) if reduce == "sum" else (lambda x: x.mean(0)), results)

        return run

    def hvp(fn):
        return lambda x, v, *args: jax.jvp(lambda x: jax.grad(fn)(x, *args), (x,), (v,))[1]

    def linearize(fn, *primals, record=True):
        value, push = jax.linearize(fn_clean(fn), *clean(primals))
        return value, lambda *tangents: push(*clean(tangents))

    def jvp(fn, primals, tangents, record=True):
        return jax.jvp(fn_clean(fn), clean(tuple(primals)), clean(tuple(tangents)))

    def vjp(fn, *primals, record=True):
        value, pull = jax.vjp(fn_clean(fn), *clean(primals))
        return value, lambda cotangent: pull(clean(cotangent))

    def softplus(x):
        return jnp.logaddexp(x, 0.0)

    def array(rows):
        return jnp.stack(
            [array(row) if isinstance(row, (list, tuple)) else jnp.asarray(row, jnp.float64) for row in rows]
        )

    names = {
        "jit": plain(jax.jit),
        "grad": plain(jax.grad),
        "value_and_grad": plain(jax.value_and_grad),
        "vjp": vjp,
        "jvp": jvp,
        "jacobian": plain(jax.jacrev),
        "hessian": plain(jax.hessian),
        "hvp": plain(hvp),
        "linearize": linearize,
        "jacrev": plain(jax.jacrev),
        "jacfwd": plain(jax.jacfwd),
        "vmap": plain(vmap),
        **CLASSES,
        "where": lambda c, a, b: jnp.where(jnp.asarray(c) != 0, a, b),
        "eq": lambda a, b: jnp.asarray(a) == b,
        "ne": lambda a, b: jnp.asarray(a) != b,
        "inv": jnp.logical_not,
        **{name: getattr(jnp, name) for name in COMPARISONS},
        "array": array,
        "sum": builtins.sum,
        "np": np,
        "xp": jnp,
        "clip": lambda x, low, high: jnp.minimum(jnp.maximum(x, low), high),
        "detach": jax.lax.stop_gradient,
        "sigmoid": lambda x: jax.nn.sigmoid(1.0 * x),  # it takes no integers
        "relu": jax.nn.relu,
        "erf": jax.scipy.special.erf,
        "softplus": softplus,
        "silu": lambda x: jax.nn.silu(1.0 * x),
        "gelu": lambda x: jax.nn.gelu(1.0 * x, approximate=False),
        "elu": lambda x: jax.nn.elu(1.0 * x),
        **{
            name: getattr(jax.scipy.special, name)
            for name in ("erfc", "logit", "gamma", "digamma", "erfinv", "ndtr", "ndtri", "log_ndtr")
        },
        "lgamma": jax.scipy.special.gammaln,
        "asinh": jnp.arcsinh,
        "acosh": jnp.arccosh,
        "atanh": jnp.arctanh,
        "abs": jnp.abs,
        "atan": jnp.arctan,
        "atan2": jnp.arctan2,
    }
    for name in (*UNARY, *BINARY):
        names.setdefault(name, getattr(jnp, name, None))
    names.update(rules.in_jax(names))
    return names, clean
