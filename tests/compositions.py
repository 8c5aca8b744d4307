"""Random programs of nested transforms, as Python source, run over pygrad and over the oracles (oracles.py).

A program is the source of `main`, the texts of its arguments for two calls, and what it captures from outside. The same
source runs over pygrad, over plain loops with pygrad's eager derivatives, over dual numbers, and over JAX.
"""

from __future__ import annotations

import ast
import math
import pickle
import random
import re
import warnings
from collections import Counter

import numpy as np
import oracles
import rules

TRANSFORMS = oracles.TRANSFORMS
LIMIT = 1e6  # programs with larger results are drawn again
TOLERANCE = 1e-9
FUNCTIONS = ["sin", "tanh", "cos", "atan", "sigmoid", "softplus", "exp", "relu", "erf", "abs"]
FUNCTIONS += ["silu", "gelu", "elu", "asinh", "erfc"]
# Functions that have a domain, or that jump.
WITHIN = ["log10(abs({}) + 0.5)", "log2(abs({}) + 0.5)", "acosh(abs({}) + 1.5)", "atanh(0.9 * tanh({}))", "floor({})"]
WITHIN += ["({} % 1.5)", "(2.5 % (abs({}) + 0.5))"]
WITHIN += ["rint({})", "exp2(tanh({}))", "cbrt(abs({}) + 0.5)", "logit(0.8 * sigmoid({}) + 0.1)", "ndtr({})"]
WITHIN += ["gamma(abs(tanh({})) + 1.5)", "lgamma(abs({}) + 0.5)", "digamma(abs({}) + 0.5)", "log_ndtr({})"]
WITHIN += ["erfinv(0.9 * tanh({}))", "ndtri(0.8 * sigmoid({}) + 0.1)"]
# NumPy's functions: of arrays of any shape, and with a scalar, a vector or a matrix as their result.
ELEMENTWISE = ["xp.maximum({}, {})", "xp.minimum({}, {})", "xp.clip({}, -0.5, 0.5)", "xp.square({})", "xp.sinc({})"]
ELEMENTWISE += ["xp.deg2rad({})", "xp.reciprocal(xp.square({}) + 1.5)", "xp.logaddexp({}, {})", "xp.sign({}) * {}"]
ELEMENTWISE += ["xp.heaviside({}, 0.5) * {}", "xp.floor_divide({}, 1.5) * {}", "xp.where({} > 0.25, {}, 0.5)"]
ELEMENTWISE += ["xp.interp({}, np.array([-1.0, 0.1, 1.0]), np.array([0.5, -1.0, 2.0]))", "xp.exp2(xp.sinc({}))"]
REDUCTIONS = ["xp.max({v})", "xp.min({B})", "xp.prod({v})", "xp.mean({B})", "xp.var({v})", "xp.median({v})"]
REDUCTIONS += ["xp.linalg.det({M})", "xp.trace({M})", "(xp.argmax({v}) * {s})", "xp.dot({v}, {w})", "xp.sum({B})"]
REDUCTIONS += ["xp.std(xp.concatenate([{v}, np.array([3.0, -4.0])]))", "xp.einsum('ij,ji->', {B}, {C})"]
REDUCTIONS += ["xp.sum({B}, where={B} > 0.25)", "xp.max({v}, where={v} < 0.25, initial=-1.5)"]
REDUCTIONS += ["xp.prod({v}, where={v} > {s})"]
REDUCTIONS += ["xp.linalg.norm(xp.concatenate([{v}, np.array([1.0])]))", "xp.stack([{s}, {s}])[1]"]
VECTORS = ["xp.sort({v})", "xp.cumsum({v})", "xp.cumprod({v})", "xp.concatenate([{w}, {v}])[{n}:]", "xp.flip({v})"]
VECTORS += [
    "xp.roll({v}, 1)",
    "xp.linalg.solve({M} + 4.0 * np.eye({n}){turned}, {v})",
    "xp.einsum('ij,j->i', {M}, {v})",
]
VECTORS += ["({v})[np.array({places})]", "({l})[np.array({flags})]", "xp.mean({C}, axis=0)", "xp.max({B}, axis=1)"]
VECTORS += ["xp.diff(xp.concatenate([{v}, {w}]))[:{n}]", "xp.reshape({M}, -1)[:{n}]", "xp.var({B}, axis=1)"]
MATRICES = ["xp.outer({v}, {u})", "xp.linalg.inv({M} + 4.0 * np.eye({n}){turned})", "xp.stack([{u}] * {n})"]
MATRICES += ["xp.linalg.cholesky(xp.dot({M}, xp.transpose({M})) + 2.0 * np.eye({n}))", "xp.outer({v}, xp.sort({u}))"]
CORNERS = ["log({})", "sqrt({})", "1.0 / {}", "({}) ** -1.0", "0.0 * {}", "{} * -0.0", "({} - -0.0)"]
CORNERS += ["0.0 ** ({})", "abs({}) ** 0.5"]  # Python's own (-1.0) ** 0.5 is complex
MOST = {"hessian": 4, "jacobian": 5}  # numbers to derive by; 8 elsewhere


# ---- Types: a shape is a leaf; ("list", t, ...), ("tuple", t, ...), ("dict", {key: t}), ("none",), and the classes of
# oracles.py, ("Pair", t, t), ("Box", t, t), ("Bag", t, ...) -----------------------------------------


def is_leaf(t):
    return not t or isinstance(t[0], int)


def children(text, t):
    """The children of the expression `text`, as (text, type)."""
    if t[0] == "dict":
        return [(f'{text}["{key}"]', part) for key, part in t[1].items()]
    names = {"Pair": [".a", ".b"], "Box": [".w", ".k"], "Bag": [f".parts[{i}]" for i in range(len(t) - 1)]}
    return [(text + name, part) for name, part in zip(names.get(t[0], [f"[{i}]" for i in range(len(t) - 1)]), t[1:])]


def paths(text, t):
    """The leaves of the expression `text`, as (text, shape)."""
    return [(text, t)] if is_leaf(t) else [leaf for part in children(text, t) for leaf in paths(*part)]


def build(t, leaf):
    """The text of a tree of this type, with the text of each leaf from `leaf(shape)`."""
    if is_leaf(t):
        return leaf(t)
    if t[0] == "dict":
        return "{" + ", ".join(f'"{key}": {build(part, leaf)}' for key, part in t[1].items()) + "}"
    parts = ", ".join(build(part, leaf) for part in t[1:])
    if t[0] in oracles.CLASSES:
        return f"{t[0]}({parts})"
    if t[0] == "none":
        return "None"
    if t[0] == "list":
        return f"[{parts}]"
    return f"({parts},)" if len(t) == 2 else f"({parts})"


def map_type(t, f):
    if is_leaf(t):
        return f(t)
    if t[0] == "dict":
        return ("dict", {key: map_type(part, f) for key, part in t[1].items()})
    return (t[0], *[map_type(part, f) for part in t[1:]])


def size(t):
    return sum(math.prod(shape) for _, shape in paths("", t))


class Program:
    """The source, and for each of two calls the arguments' texts and the captured names' texts."""

    def __init__(self, seed, source, args, captured, features, is_corner, chain, has_plain=True):
        self.has_plain = has_plain
        self.seed, self.source, self.args, self.captured = seed, source, args, captured
        self.features, self.is_corner, self.chain = features, is_corner, chain
        self._expected = {}
        self.overflows = self.kinks = 0  # met on the way

    def expected(self, call):
        """The result by loops of dual numbers."""
        if call not in self._expected:
            with np.errstate(all="ignore"):
                self._expected[call] = by_duals(self, call)
            self.overflows += oracles.Work.overflows
            self.kinks += oracles.Work.kinks
        return self._expected[call]

    def script(self):
        """A Python script that runs the program by itself."""
        lines = [
            "import numpy as np, operator",
            "from pygrad import *",
            "from pygrad.math import *",
            "xp, eq, ne = np, operator.eq, operator.ne",
            "def stacked(rows): return np.stack([stacked(x) if isinstance(x, list) else x for x in rows])",
            f"array = {'np.array' if self.has_plain else 'stacked'}",
            "inv = lambda c: ~(np.bool_(c) if isinstance(c, bool) else c)",
            "from oracles import Bag, Box, Pair, register  # of tests",
            "import pygrad; register(pygrad)",
        ]
        lines += [f"{name} = {text}" for name, text in self.captured[0].items()]
        lines += [self.source.rstrip(), f"print(main({', '.join(self.args[0])}))"]
        for name, text in self.captured[1].items():
            if text.startswith("Value("):
                lines.append(f"{name}.data = {text[6:-1]}")
        lines.append(f"print(main({', '.join(self.args[1])}))")
        return "\n".join(lines) + "\n"


class Generator:
    def __init__(self, seed, attempt):
        self.seed = seed
        self.rng = random.Random(f"{seed}.{attempt}")
        self.features = Counter()
        self.names = Counter()
        self.captured = [{}, {}]
        self.given = set()  # names of the outermost function's parameters
        self.in_lanes = 0  # functions under way that vmap calls
        self.by_name = {}  # of functions, by text: the names of parameters that may be passed by name, the last ones
        n = len(TRANSFORMS)
        # Consecutive seeds go through all pairs, and through all triples.
        self.chain = [TRANSFORMS[seed % n], TRANSFORMS[seed // n % n], TRANSFORMS[seed // n**2 % n]]
        if self.chance(0.25):
            self.chain.pop()
        self.is_corner = self.chance(0.08)
        # NumPy does not hand us arrays that it has made of Values, np.array([x, y]): then leave its functions alone.
        self.has_plain = self.chance(0.3)
        self.is_eager = not self.is_corner and self.chance(0.04)
        blocks = len(self.chain) < 3 and not self.is_corner and self.chance(0.12)  # more lanes than a block has
        self.many = self.rng.choice([260, 520, 600]) if blocks else self.rng.choice([9, 40]) if self.chance(0.05) else 0

    # ---- Choices ----

    def chance(self, p):
        return self.rng.random() < p

    def new(self, kind):
        self.names[kind] += 1
        return f"{kind}{self.names[kind]}"

    def number(self):
        rng = self.rng
        if self.is_corner and rng.random() < 0.4:
            return rng.choice(["0.0", "-0.0", "1.0", "-1.0", "3.0", 'float("nan")', 'float("inf")'])
        if rng.random() < 0.12:
            return rng.choice(["0.0", "1.0", "-1.0", "2.0", "0.5", "-0.0", "3"])
        return repr(round(rng.uniform(-1.5, 1.5), 3))

    def shape(self, most=2):
        rng = self.rng
        return tuple(rng.choice([1, 2, 2, 3, 3]) for _ in range(rng.choice([0, 0, 1, 1, 1, 2][: 2 + 2 * most])))

    def type(self, most=2, leaves=3):
        """A random type; mostly a scalar or an array."""
        rng = self.rng
        kind = rng.random()
        if kind < 0.7:
            return self.shape(most)
        self.features["tree"] += 1
        parts = [self.type(1, 1) if self.chance(0.2) else self.shape(1) for _ in range(rng.randint(1, leaves))]
        if self.chance(0.1):
            self.features["None"] += 1
            parts.insert(rng.randint(0, len(parts)), ("none",))
        if kind < 0.78:
            return ("dict", dict(zip(rng.sample(["a", "b", "c", "w"], min(4, len(parts))), parts)))
        if kind < 0.88:
            return (rng.choice(["list", "tuple"]), *parts)
        made = rng.choice(["Pair", "Box", "Bag"])
        self.features[made] += 1
        return (made, *(parts if made == "Bag" else [*parts, ("none",)][:2] if len(parts) < 2 else parts[:2]))

    # ---- Numbers from outside ----

    def array_text(self, shape, more=()):
        """An array of this shape, of some layout, as text."""
        rng = self.rng
        kind = rng.choice(["C", "C", "C", "F", "strided", "T", "reversed", "broadcast", "int", "column", *more])

        def literal(s, number=self.number):
            if not s:
                return number()
            return "[" + ", ".join(literal(s[1:], number) for _ in range(s[0])) + "]"

        if kind == "int" and self.is_corner:
            kind = "C"  # NumPy takes no integers to negative powers
        self.features[f"layout {kind}"] += 1
        if kind == "int":
            return f"np.array({literal(shape, lambda: str(rng.randint(-2, 2)))})"
        if kind in more:
            draw = {"?": lambda: str(rng.randint(0, 1)), "i1": lambda: str(rng.randint(-6, 6))}
            return f'np.array({literal(shape, draw.get(kind, lambda: str(rng.randint(-6, 6) / 4)))}, dtype="{kind}")'
        if kind == "F":
            return f"np.asfortranarray({literal(shape)}, dtype=float)"
        if kind == "strided":
            return f"np.repeat(np.array({literal(shape)}, dtype=float), 2, axis=-1)[..., ::2]"
        if kind == "T":
            return f"np.array({literal(shape[::-1])}, dtype=float).T"
        if kind == "reversed":
            return f"np.array({literal(shape)}, dtype=float)[::-1]"
        if kind == "broadcast":
            return f"np.broadcast_to(np.array({literal(shape[1:])}, dtype=float), {shape})"
        if kind == "column":
            return f"np.array({literal((*shape, 2))}, dtype=float)[..., 1]"
        return f"np.array({literal(shape)}, dtype=float)"

    def leaf_text(self, shape):
        if shape:
            # Eager functions get arrays as they are, and NumPy computes differently with booleans and small integers.
            return self.array_text(shape, (">f8",) if self.is_eager else ("f4", ">f8", "?", "i1"))
        text = self.number()
        kind = self.rng.random()
        if kind < 0.05:
            return f"np.array({text})"
        return f"np.float64({text})" if kind < 0.1 else text

    def capture(self, shape):
        """The name of a number or an array from outside of the function."""
        if not shape or (self.chance(0.12) and len(shape) == 1):
            name = self.new("K")
            for call in self.captured:
                if shape:
                    # No zeros: NumPy's sinc compares a plain array's Values with 0 by identity.
                    numbers = [x if "0.0" not in (x := self.number()).split("-") else "0.5" for _ in range(shape[0])]
                    call[name] = "np.array([" + ", ".join(f"Value({x})" for x in numbers) + "])"
                    self.captured[1][name] = self.captured[0][name]
                else:
                    call[name] = f"Value({self.number()})"
            if self.chance(0.5):
                self.captured[1][name] = self.captured[0][name]
            elif not shape:
                self.features["captured Value changed"] += 1
            self.features["captured array of Values" if shape else "captured Value"] += 1
        else:
            name = self.new("A")
            self.captured[0][name] = self.captured[1][name] = self.array_text(shape)
            self.features["captured array"] += 1
        return name

    # ---- Expressions. A scope is a list of (text, shape) ----

    def pick(self, scope, shape):
        """A leaf of this shape made from one in the scope; None if there is none."""
        found = [text for text, s in scope if s == shape]
        if len(shape) == 2:
            found += [f"{text}.T" for text, s in scope if s == shape[::-1]]
        if len(shape) == 1:
            for text, s in scope:
                if len(s) == 2 and s[1] == shape[0]:
                    found.append(f"{text}[{self.rng.randrange(s[0])}]")
                if len(s) == 2 and s[0] == shape[0]:
                    found.append(f"{text}[:, {self.rng.randrange(s[1])}]")
                if len(s) == 1 and s[0] > shape[0]:
                    found.append(f"{text}[{s[0] - shape[0]}:]")
                if len(s) == 1 and s[0] == shape[0] > 1:
                    found.append(f"{text}[::-1]")
        if not shape:
            for text, s in scope:
                if len(s) == 1:
                    found.append(f"{text}[{self.rng.randrange(-s[0], s[0])}]")
                elif len(s) == 2:
                    found.append(f"{text}[{self.rng.randrange(s[0])}, {self.rng.randrange(s[1])}]")
        if not found:
            return None
        # The last ones more often, so that programs get deep.
        return self.rng.choice(found if self.chance(0.5) else found[-3:])

    def total(self, text, shape):
        """A scalar that depends on all of an array."""
        if not shape:
            return text
        if len(shape) == 1 and self.chance(0.2):
            return f"sum({text})"
        if len(shape) == 1 and self.chance(0.2):
            return f"({text} @ {text})"
        return f"{self.atom(text)}.sum()"

    @staticmethod
    def atom(text):
        return text if text.replace("_", "").isalnum() or text.endswith("]") else f"({text})"

    def expr(self, scope, shape, depth, block=None):
        rng = self.rng
        if depth <= 0 or self.chance(0.15):
            return self.leaf(scope, shape)
        sub = lambda s=shape: self.expr(scope, s, depth - 1, block)  # noqa: E731
        if not (self.is_corner or self.is_eager or self.has_plain) and self.chance(0.15):
            self.features["numpy"] += 1
            return self.numpy(shape, lambda s: self.expr(scope, s, depth - 2, block))
        kind = rng.random()
        if kind < 0.34:
            op = rng.choice(["+", "-", "*", "*"])
            other = sub(() if shape and self.chance(0.3) else shape)
            pair = [sub(), other]
            rng.shuffle(pair)
            return f"({pair[0]} {op} {pair[1]})"
        if kind < 0.54:
            if self.chance(0.2):
                return rng.choice(WITHIN).format(sub())
            if not self.is_corner and self.chance(0.2):
                return self.ruled(scope, shape, sub)
            return f"{rng.choice(FUNCTIONS)}({sub()})"
        if kind < 0.56:
            self.features["detach"] += 1
            return f"detach({self.leaf(scope, shape)})"
        if kind < 0.58:
            return f"(-{self.leaf(scope, shape)})"
        if kind < 0.64:
            return f"({sub()} / ({self.leaf(scope, ())} ** 2 + {rng.choice(['1.5', '2.0'])}))"
        if kind < 0.7:
            self.features["power"] += 1
            which = rng.random()
            base = self.leaf(scope, shape)
            if which < 0.2:
                return f"relu({base}) ** (abs({self.leaf(scope, ())}) + 6.5)"
            if which < 0.6:
                return f"({base} ** {rng.choice(['2', '3', '2.0', '1.0', '1', '0', '4'])})"
            if which < 0.8:
                return f"(abs({base}) + 0.5) ** {self.atom(self.leaf(scope, ()))}"
            if which < 0.9:
                return f"(({base} * {base}) + 1.5) ** {rng.choice(['0.5', '-1', '-2.0', '-0.5'])}"
            return f"{rng.choice(['0.0', '2.0', '0.5'])} ** (abs({base}) + {rng.choice(['0.5', '1.0', '2.0'])})"
        if kind < 0.76:
            self.features["minmax"] += 1
            if self.chance(0.3):
                return f"clip({sub()}, -0.5, {rng.choice(['0.5', '1.0', self.leaf(scope, ())])})"
            x, y = sub(), self.leaf(scope, rng.choice([shape, ()]))
            if self.chance(0.15):
                self.features["two of the same operands"] += 1
                pairs = ["maximum({0}, {1})", "minimum({0}, {1})"], ["({0} - {1})", "({1} - {0})"]
                pairs += ["atan2({0}, {1})", "atan2({1}, {0})"], ["hypot({0}, {1})", "maximum({0}, {1})"]
                both = [text.format(x, y) for text in rng.choice(pairs)]
                return f"({both[0]} {rng.choice('+-*')} {both[1]})"
            return f"{rng.choice(oracles.BINARY)}({x}, {x if self.chance(0.2) else y})"
        if kind < 0.84:
            self.features["where"] += 1
            branches = [sub(), self.leaf(scope, rng.choice([shape, ()])) if self.chance(0.7) else self.number()]
            rng.shuffle(branches)
            return f"where({self.condition(scope, shape, 2)}, {branches[0]}, {branches[1]})"
        if kind < 0.85:
            return self.compare_number(scope, shape)
        if self.is_corner and kind < 0.88:
            self.features["corner"] += 1
            return f"({rng.choice(CORNERS).format(self.leaf(scope, shape))})"
        if not shape:
            if kind < 0.92:
                arrays = [(text, s) for text, s in scope if s]
                if arrays:
                    return f"0.5 * {self.total(*rng.choice(arrays))}"
                return sub()
            if kind < 0.95 and block is None and depth >= 2:
                return self.total(*rng.choice(self.apply(rng.choice(TRANSFORMS), scope, None, depth - 1, [])))
            return sub()
        if kind < 0.9 and shape[0] < 5:
            if len(shape) == 1:
                return f"array([{', '.join(self.expr(scope, (), depth - 2) for _ in range(shape[0]))}])"
            rows = ", ".join(self.expr(scope, shape[1:], depth - 2) for _ in range(shape[0]))
            return f"array([{rows}])"
        if kind < 0.93 and len(shape) < 3:
            inner = rng.choice([2, 3])
            self.features["matmul"] += 1
            left = self.leaf(scope, (*shape[:-1], inner)) if len(shape) == 2 else self.leaf(scope, (shape[0], inner))
            right = self.leaf(scope, (inner, shape[-1]) if len(shape) == 2 else (inner,))
            return f"({left} @ {right})"
        return sub()

    def ruled(self, scope, shape, sub):
        """A call of a function whose derivative is its own."""
        if len(shape) == 1 and self.chance(0.6):
            self.features["rule tilt"] += 1
            return f"tilt({sub()})"
        text = self.rng.choice(rules.SCALAR)
        self.features[f"rule {text.split('(')[0]}"] += 1
        args = [sub(), self.leaf(scope, self.rng.choice([shape, ()]))]
        self.rng.shuffle(args)
        return text.format(*args)

    def numpy(self, shape, sub):
        """One of NumPy's functions with a result of this shape, of operands from sub(shape)."""
        rng = self.rng
        if self.chance(0.35) or len(shape) > 2 or (shape and max(shape) > 4):
            self.features["numpy elementwise"] += 1
            return rng.choice(ELEMENTWISE).format(sub(shape), sub(rng.choice([shape, ()])))
        n, k = shape[0] if shape else rng.choice([1, 2, 3]), rng.choice([1, 2, 3])
        which = rng.choice(REDUCTIONS if not shape else VECTORS if len(shape) == 1 else MATRICES)
        if "solve" in which or "inv" in which or "det" in which or "cholesky" in which:
            if len(shape) == 2 and shape[0] != shape[1]:
                return f"xp.outer({sub(shape[:1])}, {sub(shape[1:])})"
            self.features["numpy linear algebra"] += 1
        self.features[f"numpy {which.partition('(')[0]}"] += 1
        m = shape[1] if len(shape) == 2 else n
        places = [rng.randrange(n) for _ in range(n)]
        flags = [True] * n + [False] * k
        rng.shuffle(flags)
        need = {"v": (n,), "w": (n,), "M": (n, n), "B": (n, k), "C": (k, n), "s": (), "u": (m,), "l": (n + k,)}
        used = set(re.findall(r"\{(\w)\}", which)) & need.keys()
        texts = {name: sub(need[name]) for name in sorted(used)}
        more = {"n": n, "m": m, "k": k, "places": places, "flags": flags, "turned": rng.choice(["", "[::-1]"])}
        return which.format(**texts, **more)

    def leaf(self, scope, shape):
        if not shape and self.chance(0.15):
            return self.number()
        found = self.pick(scope, shape) if self.chance(0.9) else None
        if found is not None:
            return found
        if self.chance(0.5) and shape and shape[0] < 5:
            part = self.pick(scope, shape[1:]) if len(shape) > 1 else None
            if part is None and len(shape) == 1:
                return "array([" + ", ".join(self.leaf(scope, ()) for _ in range(shape[0])) + "])"
            if part is not None:
                return "array([" + ", ".join(f"{part} * {self.number()}" for _ in range(shape[0])) + "])"
        if not shape and self.chance(0.4):
            return self.number()
        return self.capture(shape)

    def compare_number(self, scope, shape):
        self.features["comparison as a number"] += 1
        flag = self.compared(self.leaf(scope, shape), ">", self.number(), shape)
        return f"{flag} * {self.atom(self.leaf(scope, shape))}"

    def condition(self, scope, shape, depth):
        rng = self.rng
        kind = 1.0 if self.is_eager else rng.random()  # eager comparisons are Python's booleans, == is identity
        if depth > 0 and kind < 0.3:
            self.features["condition of conditions"] += 1
            if self.chance(0.3):
                return f"inv({self.condition(scope, shape, depth - 1)})"
            op = rng.choice(["&", "|", "^"])
            return f"({self.condition(scope, shape, depth - 1)} {op} {self.condition(scope, shape, depth - 1)})"
        x = self.leaf(scope, shape)
        if shape and kind < 0.4:
            shape = ()
            x = self.leaf(scope, shape)
        if depth == 2 and kind < 0.4:
            self.features["condition that is a number"] += 1
            one, two = self.compared(x, ">", "0", shape), self.compared(x, ">", "1", shape)
            return rng.choice([x, f"({one} + {two})", "3.0", f"{x} * 0.0", f"{one} * 2.0"])
        y = rng.choice(["0", "0.0", "1.0", self.leaf(scope, shape), self.number()])
        if kind < 0.55:
            self.features["equality"] += 1
            return self.compared(x, rng.choice(["==", "!="]), y, shape)
        self.features["comparison"] += 1
        return self.compared(x, rng.choice(["<", "<=", ">", ">="]), y, shape)

    def compared(self, x, op, y, shape):
        """A comparison; by a function of pygrad.math for arrays that NumPy has made of Values."""
        plain = all(re.fullmatch(r"-?[\w.]+", text) for text in (x, y))
        if shape and not (plain and self.is_given(x) and self.is_given(y)) and self.chance(0.9):
            self.features["comparison by name"] += 1
            if op in ("==", "!="):
                return f"equal({x}, {y})" if op == "==" else f"inv(equal({x}, {y}))"
            name = "less_equal" if "=" in op else "less"
            return f"{name}({x}, {y})" if "<" in op else f"{name}({y}, {x})"
        return f"{'eq' if op == '==' else 'ne'}({x}, {y})" if op in ("==", "!=") else f"({x} {op} {y})"

    # ---- Functions ----

    def function(self, params, result, outer, block, depth, chain):
        """Emit a function of parameters of these types into `block`, or make a lambda; return its text."""
        rng = self.rng
        names = [self.new(rng.choice("pqxyw")) for _ in params]
        own = [p for name, t in zip(names, params) for p in paths(name, t)]
        if not outer and not self.given:
            self.given.update(names)
        if outer and own and self.chance(0.1):
            outer = []
        if block is None or (not chain and self.chance(0.5)):
            scope = [*outer, *own] if self.chance(0.7) else [*own, *outer]
            if chain:
                scope = [*scope, *self.apply(chain[0], scope, None, depth, chain[1:])[:2]]
            body = build(result, lambda shape: self.expr(scope, shape, min(3, depth)))
            text = f"(lambda {', '.join(names)}: {body})"
            self.by_name[text] = names
            return text
        name = self.new("f")
        inner = []
        scope = [*outer, *own]
        found = []
        statements = rng.randint(0, 2)
        at = rng.randint(0, statements)
        if not self.in_lanes and (self.many > 40 or self.chance(0.3)):
            found += self.stages(scope, inner)
        for i in range(statements + 1):
            if i == at and chain:
                found += self.apply(chain[0], [*scope, *found], inner, depth, chain[1:])
            if i < statements:
                found += self.statement([*scope, *found], inner, depth)
        scope += found

        def leaf(shape):
            if self.chance(0.04):
                self.features["result that does not depend"] += 1
                return self.capture(shape)
            return self.expr(scope, shape, 3, inner)

        texts = [leaf(shape) for _, shape in paths("", result)]
        rng.shuffle(found)
        for text, shape in found:
            root = re.escape(re.match(r"\w+", text)[0])
            # Add what nothing uses to the result; otherwise programs would drop it.
            if len(re.findall(rf"\b{root}\b", " ".join([*inner, *texts]))) == 1 and self.chance(0.8):
                i = rng.randrange(len(texts))
                texts[i] = f"{texts[i]} {rng.choice('+-')} {self.number()} * {self.total(text, shape)}"
        rest = iter(texts)
        body = build(result, lambda _: next(rest))
        block.append(f"def {name}({', '.join(names)}):")
        block += [f"    {line}" for line in inner]
        block.append(f"    return {body}")
        self.by_name[name] = names
        return name

    def statement(self, scope, block, depth):
        """Emit a statement; return what it adds to the scope."""
        rng = self.rng
        kind = rng.random()
        if kind < 0.55 or depth <= 0:
            shape = self.shape()
            name = self.new("v")
            block.append(f"{name} = {self.expr(scope, shape, 3, block)}")
            return [(name, shape)]
        if kind < 0.62:
            return self.late_binding(scope, block)
        if kind < 0.68:
            return self.stages(scope, block)
        return self.apply(rng.choice(TRANSFORMS + ["vmap"] * 3), scope, block, depth - 1, [])

    def stages(self, scope, block):
        """Some vmaps over the same or other arrays, of the same numbers from outside and of each other's results."""
        rng = self.rng
        self.features["stages"] += 1
        self.features["many lanes"] += self.many > 0
        self.features["blocks of lanes"] += self.many > 256
        arrays = [p for p in scope if len(p[1]) in (1, 2) and p[1][0] > 1]
        arrays = [p for p in arrays if self.is_given(p[0])] or arrays
        near = [*rng.sample(scope, min(len(scope), 1)), *scope[-2:], (self.leaf(scope[-4:], ()), ())]
        made = []
        for _ in range(rng.choice([2, 2, 3])):
            shape = ((not self.in_lanes and self.many) or rng.choice([2, 3, 4]), *rng.choice([(), (), (2,)]))
            text, shape = rng.choice(arrays) if arrays and self.chance(0.7) else (self.capture(shape), shape)
            if self.chance(0.4):
                arrays.append((text, shape))
            v = self.new("v")
            call, shape = self.stage(
                text, shape, [*near, *rng.sample(made, min(len(made), 1))], arrays, self.leaf(near, ())
            )
            block.append(f"{v} = {call}")
            made.append((v, shape))
            if shape and shape[0] > 1:  # lanes, for the next ones to go on with
                arrays += [(v, shape)] * 2
            near = near if self.chance(0.7) else [*near, made[-1]]
        return made

    def stage(self, text, shape, near, arrays, w):
        """A vmap over an array, or a derivative of one: (its text, its result's shape)."""
        rng = self.rng

        def lane(*names):
            """A function's text, of one slice for each name."""
            own = [(name, shape[1:]) for name in names]
            body = rng.choice(
                ["{} * {}", "{} * ({} + {w})", "sin({w} * {x}) * {} + {}", "{w} * {x} * {}", "{w} + {}", "{}"]
            )
            one, two = self.expr([*near, *own], (), 2), self.expr([*near, *own], (), 1)
            return f"lambda {', '.join(names)}: {body.format(one, two, w=w, x=self.leaf(own[-1:], ()))}"

        def another(s):
            alike = [other for other, t in arrays if t == s]
            return rng.choice(alike) if alike and self.chance(0.8) else self.capture(s)

        x, y = self.new("x"), self.new("y")
        reduce = rng.choice(["sum", "sum", "mean"])
        if self.chance(0.6):
            reduce = rng.choice([reduce, reduce, None])
            return f"vmap({lane(x)}{f', reduce={reduce!r}' if reduce else ''})({text})", () if reduce else shape[:1]
        self.features["derived by lanes"] += 1
        kind = rng.randrange(7)
        if kind == 0:
            return f"grad(vmap({lane(x)}, reduce={reduce!r}))({text})", shape
        if kind == 1:
            return f"hvp(vmap({lane(x)}, reduce={reduce!r}))({text}, {another(shape)})", shape
        if kind == 2:
            return f"jvp(vmap({lane(x)}), ({text},), ({another(shape)},))[{rng.randrange(2)}]", shape[:1]
        if kind == 3:
            return f"vjp(vmap({lane(x)}), {text})[1]({another(shape[:1])})[0]", shape
        if kind == 4:
            i = rng.randrange(2)
            return f"grad(vmap({lane(x, y)}, reduce={reduce!r}), argnums=(0, 1))({text}, {another(shape)})[{i}]", shape
        if kind == 5:
            return f"vmap(grad({lane(x)}))({text})", shape
        own = rng.choice(["grad", "jacobian", "hessian"])
        return (
            f"vmap({own}(lambda {y}, {x}: {y} * {lane(x).split(': ', 1)[1]}), in_axes=(None, 0))({w}, {text})",
            shape[:1],
        )

    def late_binding(self, scope, block):
        """Functions made in a loop, names and lists that change: a call uses what they are when it is made."""
        rng = self.rng
        self.features["late binding"] += 1
        n = rng.choice([2, 3])
        X = self.leaf([p for p in scope if p[1] == (n,)], (n,))
        w = self.leaf(scope, ())
        body = rng.choice(
            ["x * {i} + {w}", "sin(x * {w}) * {i}", "x * x * ({i} + {w})", "where(x > {i} * 0.3, x, {w}) * {i}"]
        )
        name = self.new("v")
        kind = rng.randrange(5)
        if kind == 0:
            ys = self.new("ys")
            block.append(f"{ys} = [vmap(lambda x: {body.format(w=w, i='i')})({X}) for i in range(3)]")
            block.append(
                f"{name} = " + rng.choice(["{0}[0] + {0}[1]", "{0}[0] * {0}[2]", "sum({0})", "{0}[1]"]).format(ys)
            )
            return [(name, (n,))]
        if kind == 1:
            i, other = self.new("i"), self.number()
            block.append(f"{i} = {w}")
            block.append(f"{name} = vmap(lambda x: {body.format(w=w, i=i)})({X})")
            block.append(f"{i} = {other}")
            return [(name, (n,))]
        if kind == 2:
            box = self.new("box")
            block.append(f"{box} = [{self.number()}]")
            block.append(f"{name} = vmap(lambda x: x * {box}[0] + {w})({X})")
            block.append(box + rng.choice(["[0] = 0.5", ".insert(0, 0.5)", ".clear()"]))
            return [(name, (n,))]
        if kind == 3:
            ys = self.new("ys")
            block.append(
                f"{ys} = [grad(lambda x: x * x * (i + 1) + x * {w})({self.leaf(scope, ())}) for i in range(3)]"
            )
            block.append(f"{name} = {ys}[0] - {ys}[2]")
            return [(name, ())]
        i, pull = self.new("i"), self.new("pull")
        block.append(f"{i} = {self.number()}")
        block.append(f"{name}, {pull} = vjp(lambda x: x * x * {i} + {w}, {self.leaf(scope, ())})")
        block.append(f"{i} = {self.number()}")
        block.append(f"{name} = {name} + {pull}(1.0)[0]")
        return [(name, ())]

    # ---- Transforms ----

    def argument(self, scope, t, depth, block):
        """The text of an argument of this type."""
        depth = min(depth, self.rng.choice([0, 0, 1, 2]))
        if scope and self.chance(0.4):  # of few names, so that it may be the same in all lanes
            scope = self.rng.sample(scope, min(len(scope), self.rng.randint(0, 2)))
        return build(t, lambda shape: self.expr(scope, shape, depth, block))

    def options(self):
        if self.chance(0.05):
            self.features["record=False within"] += 1
            return ", record=False"
        return ""

    def derived(self, kind, depth):
        """The type of an argument to derive by: small where there are many derivatives."""
        for _ in range(20):
            t = self.type(2 if depth > 1 else 1)
            if size(t) <= MOST.get(kind, 8):
                return t
        return ()

    def plan(self, kind, scope, depth, scalar):
        """Types of a transform's function: (parameters, result, of a vmap (lanes, axes, arguments that are given))."""
        rng = self.rng
        if kind == "vmap":
            return self.plan_vmap(scope, scalar)
        params = [() if scalar and kind in ("grad", "jacobian", "hessian", "hvp") else self.derived(kind, depth)]
        params += [self.type(1, 2) for _ in range(rng.choice([0, 0, 1, 1, 2] if kind != "hvp" else [0, 0, 0, 1]))]
        result = self.type(1, 2) if kind in ("jit", "vjp", "jvp", "jacobian") and not scalar else ()
        if self.many and not scope and depth == 3 and kind != "hvp":
            params.append((self.many,) if self.chance(0.5) else (self.many, 2))
        if kind != "hvp":  # which derives by the first
            rng.shuffle(params)
        return params, result, None

    def plan_vmap(self, scope, scalar):
        rng = self.rng
        params, axes, given, lanes = [], [], [], (not scope and self.many) or rng.choice([1, 2, 2, 3, 3, 4])
        count = rng.choice([1, 1, 2, 2, 3])
        must = rng.randrange(count)
        if self.chance(0.7):
            known = [n for _, s in scope for n in s]
            lanes = rng.choice(known) if known else lanes
        for i in range(count):
            if i != must and self.chance(0.4):
                params.append(self.type(1, 2))
                axes.append(None)
                given.append(None)
                continue
            arrays = [(text, s, axis) for text, s in scope for axis, n in enumerate(s) if n == lanes]
            if self.chance(0.5):
                arrays = [array for array in arrays if self.is_given(array[0])] or arrays
            if arrays and self.chance(0.8):
                text, s, axis = rng.choice(arrays)
                params.append((*s[:axis], *s[axis + 1 :]))
                axes.append(axis if self.chance(0.7) else axis - len(s))
                given.append(text)
                self.features["vmap over what the scope has"] += 1
                continue
            params.append(self.type(1, 2) if i != must else self.shape(1))
            axes.append(self.axes_of(params[-1], i != must))
            given.append(None)
        return params, () if scalar else self.type(1, 2), (lanes, axes, given)

    def axes_of(self, t, may_be_none=False):
        """Where slices of this type have the new axis: an int, or a list of one for each leaf."""

        def axis(ranks):
            least = min(ranks, default=0)
            return self.rng.choice([0, 0, 0, -1, self.rng.randint(0, least), -self.rng.randint(1, least + 1)])

        ranks = [len(s) for _, s in paths("", t)]
        if is_leaf(t) or self.chance(0.3):
            return axis(ranks)
        self.features["axes of a tree"] += 1
        return [None if may_be_none and self.chance(0.3) else axis([rank]) for rank in ranks]

    def function_of(self, kind, scope, block, depth, chain, scalar=False):
        """A function that suits a transform: (its text, parameters, result, of a vmap how it is mapped)."""
        if chain and chain[0] not in ("vjp", "jvp") and self.chance(0.35):
            needs_scalar = kind in ("grad", "value_and_grad", "hessian", "hvp") or scalar
            self.in_lanes += kind == "vmap"
            f, params, result, _ = self.transformed(chain[0], scope, block, depth - 1, chain[1:], needs_scalar)
            self.in_lanes -= kind == "vmap"
            few = kind in ("jit", "vmap") or any(
                size(t) <= MOST.get(kind, 8) for t in params[: 1 if kind == "hvp" else 9]
            )
            if few and not (needs_scalar and result != ()):
                self.note_nesting(kind, chain)
                self.features["transform of a transform"] += 1
                mapping = None
                if kind == "vmap":
                    axes = [self.rng.choice([0, 0, -1, None]) for _ in params]
                    axes[self.rng.randrange(len(axes))] = 0
                    mapping = self.rng.choice([1, 2, 3]), axes, [None] * len(params)
                return f, params, result, mapping
        params, result, mapping = self.plan(kind, scope, depth, scalar)
        self.in_lanes += kind == "vmap"
        f = self.function(params, result, scope, block, depth - 1, chain)
        self.in_lanes -= kind == "vmap"
        self.note_nesting(kind, chain)
        return f, params, result, mapping

    def argnums(self, kind, params):
        rng = self.rng
        few = [i for i, t in enumerate(params) if size(t) <= MOST.get(kind, 8)]
        if self.chance(0.25):
            chosen = rng.sample(few, rng.randint(1, len(few)))
            if sum(size(params[i]) for i in chosen) <= MOST.get(kind, 99):
                self.features["argnums tuple"] += 1
                return tuple(chosen)
        position = rng.choice(few)
        return position if self.chance(0.8) else position - len(params)

    def transformed(self, kind, scope, block, depth, chain, scalar=False, extra=None):
        """A transform of a function: (its text, arguments' types, the result's type, arguments that are given)."""
        self.features[kind] += 1
        if kind in ("grad", "value_and_grad", "jacobian") and not scalar and self.chance(0.12):
            return self.with_aux(kind, scope, block, depth, chain, extra)
        f, params, result, mapping = self.function_of(kind, scope, block, depth, chain, scalar)
        extra = self.options() if extra is None else extra
        if kind == "jit":
            return self.named(f"jit({f}{extra})", f), params, result, None
        if kind == "hvp":
            self.features["hvp of more arguments"] += len(params) > 1
            return f"hvp({f}{extra})", [params[0], *params], params[0], None
        if kind == "vmap":
            return self.mapped(f, params, result, mapping, extra, scalar)
        text, x = self.derived_by(kind, f, params, extra)
        if kind in ("grad", "value_and_grad"):
            return text, params, x if kind == "grad" else ("tuple", (), x), None
        row = result if kind == "jacobian" else x
        return text, params, map_type(row, lambda r: map_type(x, lambda s: (*r, *s))), None

    def derived_by(self, kind, f, params, extra):
        """A derivative's text, and the type of what it derives by."""
        how = self.argnums(kind, params)
        x = ("tuple", *[params[i] for i in how]) if isinstance(how, tuple) else params[how]
        keyword = "argnums=" if self.chance(0.5) else ""
        name = self.rng.choice(["jacobian", "jacobian", "jacrev", "jacfwd"]) if kind == "jacobian" else kind
        text = f"{name}({f}{'' if how == 0 and self.chance(0.7) else f', {keyword}{how}'}{extra})"
        positions = how if isinstance(how, tuple) else (how,)
        if min(positions) >= 0:
            self.named(text, f, max(positions) + 1)
        return text, x

    def with_aux(self, kind, scope, block, depth, chain, extra):
        """The same of a function that returns more than is differentiated."""
        self.features["has_aux"] += 1
        params, result, _ = self.plan(kind, scope, depth, False)
        aux = self.type(1, 2)
        f = self.function(params, ("tuple", result, aux), scope, block, depth - 1, chain)
        self.note_nesting(kind, chain)
        extra = (self.options() if extra is None else extra) + ", has_aux=True"
        text, x = self.derived_by(kind, f, params, extra)
        if kind == "value_and_grad":
            return text, params, ("tuple", ("tuple", (), aux), x), None
        row = x if kind == "grad" else map_type(result, lambda r: map_type(x, lambda s: (*r, *s)))
        return text, params, ("tuple", row, aux), None

    def mapped(self, f, params, result, mapping, extra, scalar):
        """A vmap of a function; see transformed."""
        lanes, axes, given = mapping
        reduce = self.rng.choice(["sum", "mean"] if scalar else [None, None, "sum", "mean"])
        text = f"vmap({f}"
        if any(axis != 0 for axis in axes) or self.chance(0.2):
            texts = [self.axes_text(t, axis) for t, axis in zip(params, axes)]
            same = len(set(texts)) == 1 and isinstance(axes[0], (int, type(None))) and self.chance(0.5)
            every = f"[{', '.join(texts)}]" if self.chance(0.3) else f"({', '.join(texts)},)"
            text += f", in_axes={texts[0] if same else every}"
        else:
            self.named(text, f)
        types = [insert_axes(t, axis, lanes) for t, axis in zip(params, axes)]
        self.features[f"vmap reduce={reduce}"] += 1
        self.features["in_axes None"] += None in axes
        self.features["in_axes negative"] += any(isinstance(axis, int) and axis < 0 for axis in axes)
        if reduce is None and self.chance(0.4):
            out = self.axes_of(result)
            self.features["out_axes"] += 1
            text += f", out_axes={self.axes_text(result, out)}"
            mapped = insert_axes(result, out, lanes)
        else:
            mapped = result if reduce else map_type(result, lambda s: (lanes, *s))
        if reduce is not None:
            text += f', reduce="{reduce}"'
        names = self.by_name.pop(f"vmap({f}", None)
        if names is not None:
            self.by_name[f"{text}{extra})"] = names
        return f"{text}{extra})", types, mapped, given

    def axes_text(self, t, axes):
        if not isinstance(axes, list):
            return str(axes)
        rest = iter(axes)
        return build(t, lambda _: str(next(rest)))

    def named(self, text, f, first=0):
        """Notes that a function made of `f` takes arguments by name, from number `first` on; gives its text."""
        names = self.by_name.get(f)
        if names is not None:
            self.by_name[text] = [None if i < first else name for i, name in enumerate(names)]
        return text

    def call(self, f, made, args):
        """The text of a call, with some of the last arguments by name."""
        names = self.by_name.get(made, [])
        count = 0
        if len(names) == len(args):
            while count < len(args) and names[-1 - count] is not None and self.chance(0.7 if count else 0.4):
                count += 1
        self.features["by name"] += count > 0
        passed = [f"{names[i]}={args[i]}" for i in range(len(args) - count, len(args))]
        self.rng.shuffle(passed)
        return f"{f}({', '.join([*args[: len(args) - count], *passed])})"

    def apply(self, kind, scope, block, depth, chain):
        """A transform of a new function, called within the scope: the leaves of its result."""
        if kind in ("vjp", "jvp"):
            self.features[kind] += 1
            f, params, result, _ = self.function_of(kind, scope, block, depth, chain)
            args = [self.argument(scope, t, depth, block) for t in params]
            if kind == "jvp":
                tangents = [self.argument(scope, t, 0, block) for t in params]
                if block is not None and self.chance(0.25):
                    self.features["linearize"] += 1
                    v, push = self.new("v"), self.new("push")
                    block.append(f"{v}, {push} = linearize({f}, {', '.join(args)}{self.options()})")
                    return [*paths(v, result), *self.kept(f"{push}({', '.join(tangents)})", result, block)]
                text = f"jvp({f}, ({', '.join(args)},), ({', '.join(tangents)},){self.options()})"
                return self.kept(text, ("tuple", result, result), block)
            cotangents = [self.argument(scope, result, 0, block) for _ in range(2)]
            if block is None or self.chance(0.3):
                text = f"vjp({f}, {', '.join(args)}{self.options()})[1]({cotangents[0]})"
                return self.kept(text, ("tuple", *params), block)
            v, pull = self.new("v"), self.new("pull")
            block.append(f"{v}, {pull} = vjp({f}, {', '.join(args)}{self.options()})")
            found = paths(v, result)
            for cotangent in cotangents[: self.rng.choice([1, 1, 2])]:
                found += self.kept(f"{pull}({cotangent})", ("tuple", *params), block)
            return found
        made, types, t, given = self.transformed(kind, scope, block, depth, chain)
        again = block is not None and self.chance(0.15)
        if again:
            self.features["called twice"] += 1
            name = self.new("t")
            block.append(f"{name} = {made}")
        found = []
        for _ in range(1 + again):
            args = [
                text if text is not None and self.chance(0.9) else self.argument(scope, u, depth, block)
                for u, text in zip(types, given or [None] * len(types))
            ]
            found += self.kept(self.call(name if again else made, made, args), t, block)
        return found

    def kept(self, text, t, block):
        """The leaves of an expression's result, which may get a name."""
        if block is None:
            return paths(text, t)
        name = self.new("v")
        block.append(f"{name} = {text}")
        return paths(name, t)

    def is_given(self, text):
        """Whether it is an array among the arguments or from outside: its slices can be lanes."""
        name = re.match(r"-?\w+", text)[0]
        return name in self.given or name[0] == "A" or not name[0].isalpha()

    def note_nesting(self, kind, chain):
        if chain:
            self.features[f"{kind} > {chain[0]}"] += 1

    def program(self):
        kind, chain = self.chain[0], self.chain[1:]
        block = []
        self.features["programs"] += 1
        self.features[f"top {kind}"] += 1
        self.features["depth 3"] += len(self.chain) == 3
        if kind in ("vjp", "jvp"):
            self.features[kind] += 1
            f, params, result, _ = self.function_of(kind, [], block, 3, chain)
            if kind == "jvp":
                block.append(f"main = lambda *args: jvp({f}, args[:{len(params)}], args[{len(params)}:])")
                types = params * 2
            else:
                block += ["def main(*args):", f"    v, pull = vjp({f}, *args[:-1])", "    return v, pull(args[-1])"]
                types = [*params, result]
        else:
            extra = ", record=False" if self.is_eager else ", workers=2" if self.chance(0.15) else ""
            self.features["top" + extra] += bool(extra)
            made, types, _, _ = self.transformed(kind, [], block, 3, chain, extra=extra)
            block.append(f"main = {made}")
        args = [[build(t, self.leaf_text) for t in types] for _ in range(2)]
        source = "\n".join(block) + "\n"
        more = (self.features, self.is_corner, self.chain, self.has_plain)
        return Program(self.seed, source, args, self.captured, *more)


def insert_axes(t, axes, n):
    """The type of what is mapped over: n slices of type `t` along an axis; None: not; or a list of these for leaves."""
    if not isinstance(axes, list):
        return t if axes is None else map_type(t, lambda s: insert(s, axes, n))
    rest = iter(axes)
    return map_type(t, lambda s: s if (axis := next(rest)) is None else insert(s, axis, n))


def insert(shape, axis, n):
    at = axis if axis >= 0 else len(shape) + 1 + axis
    return (*shape[:at], n, *shape[at:])


# ---- Running -------------------------------------------------------------------------------------


def captured_names(program, call, value):
    return {name: eval(text, {"np": np, "Value": value}) for name, text in program.captured[call].items()}


def arguments(program, call):
    return [eval(text, {"np": np, **oracles.CLASSES}) for text in program.args[call]]


def floats(tree):
    """Numbers as float, arrays as contiguous float64."""
    return oracles.mapped(lambda x: np.array(x, dtype=float) if oracles.is_array(x) else float(x), tree)


def load(program, names):
    names = dict(names)
    names["__builtins__"] = __builtins__
    exec(compile(program.source, f"<program {program.seed}>", "exec"), names)
    return names["main"]


def numbers(program, call):
    """The captured numbers and the arguments, as floats and arrays of float64."""
    captured = {name: floats(x) for name, x in captured_names(program, call, float).items()}
    return captured, [floats(x) for x in arguments(program, call)]


def by_duals(program, call, seed=0):
    """The result by plain loops and dual numbers."""
    oracles.Noise.seed = seed
    oracles.Work.reset()
    try:
        captured, args = oracles.dual_number(numbers(program, call))
        return oracles.plain_numbers(load(program, {**oracles.dual_namespace(), **captured})(*args))
    finally:
        oracles.Noise.seed = 0
        oracles.Levels.depth = 0


def eagerly(pg, program, call):
    """The result by plain loops and pygrad's eager derivatives."""
    names = oracles.eager_namespace(pg)
    for name, x in captured_names(program, call, pg.Value).items():
        names[name] = x if isinstance(x, pg.Value) or x.dtype == object else np.array(x, dtype=float)
    main = load(program, names)
    return pg.jit(main, record=False)(*[floats(x) for x in arguments(program, call)])


class Recorded:
    """The program over pygrad's transforms, a function."""

    def __init__(self, pg, program):
        names = oracles.recorded_namespace(pg, program.has_plain)
        self.program, self.pg = program, pg
        self.captured = captured_names(program, 0, pg.Value)
        names.update(self.captured)
        self.main = load(program, names)

    def __call__(self, call):
        for name, x in self.captured.items():
            if isinstance(x, self.pg.Value):
                x.data = captured_names(self.program, call, float)[name]
        return self.main(*arguments(self.program, call))

    def unpickled(self):
        """The result of the first call's program, pickled and loaded, and so verified."""
        args = arguments(self.program, 0)
        return pickle.loads(pickle.dumps(self.main.program(*args)))(*args)


class InJax:
    """The program over JAX, compiled as a whole: faster than operation by operation."""

    def __init__(self, program):
        import jax

        if program.seed % 200 == 0:
            jax.clear_caches()  # of the programs before
        names, self.clean = oracles.jax_namespace()
        self.program = program
        self.main = jax.jit(lambda captured, args: load(program, {**names, **captured})(*args))

    def __call__(self, call):
        result = self.main(*self.clean(numbers(self.program, call)))
        return oracles.mapped(lambda x: np.asarray(x) if np.ndim(x) else float(x), result)


# ---- Comparing -----------------------------------------------------------------------------------


def difference(got, expected, lenient=False, exact=False, path="result"):
    """None if they agree in structure, types, shapes and numbers; else the difference.

    Lenient: nan is anything, and inf of any sign. Exact: to the last bit.
    """
    if (found := oracles.opened(expected)) is not None:
        own = oracles.opened(got) if type(got) is type(expected) else None
        if own is None or len(own[0]) != len(found[0]):
            return f"{path}: {type(got).__name__} {got!r:.80} for {type(expected).__name__}"
        if isinstance(expected, dict) and sorted(got) != sorted(expected):
            return f"{path}: keys {sorted(got)}"
        pairs = enumerate(zip(own[0], found[0]))
        return next((d for k, (x, y) in pairs if (d := difference(x, y, lenient, exact, f"{path}[{k}]"))), None)
    if np.ndim(expected) == 0:
        if type(got) is not float:
            return f"{path}: {type(got).__name__} {got!r:.80} for a float"
    elif type(got) is not np.ndarray or got.shape != np.shape(expected) or got.dtype != np.float64:
        kind = f"{type(got).__name__} {getattr(got, 'shape', '')} {getattr(got, 'dtype', '')}"
        return f"{path}: {kind} for {np.shape(expected)}"
    if np.asarray(got).dtype == object:
        return f"{path}: an array of objects"
    a, b = np.asarray(got, dtype=float), np.asarray(expected, dtype=float)
    finite = np.isfinite(b)
    scale = max(1.0, float(np.abs(b[finite]).max()) if finite.any() else 0.0)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    same |= lenient & (np.isnan(a) | np.isnan(b) | (np.isinf(a) & np.isinf(b)))
    with np.errstate(invalid="ignore"):
        same |= finite & (np.abs(a - b) <= TOLERANCE * scale * (not exact))
    return None if same.all() else f"{path}: {a.tolist()} for {b.tolist()}"


def largest(tree):
    numbers = [abs(x) for x in map(float, oracles.flat(tree))]
    return math.nan if any(map(math.isnan, numbers)) else max(numbers, default=0.0)


def is_tame(program):
    """Whether the numbers are worth comparing: finite, and not too large."""
    sizes = [largest(program.expected(call)) for call in (0, 1)]
    return program.is_corner or (max(sizes) < LIMIT and not program.overflows)


def is_ill_conditioned(program, call, expected):
    """Whether errors of one ulp in inexact operations change the result much."""
    with np.errstate(all="ignore"):
        for seed in (1, 2, 3):
            noisy = by_duals(program, call, seed)
            for a, b in zip(oracles.leaves(noisy), oracles.leaves(expected)):
                a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
                scale = max(1.0, float(np.abs(b).max(initial=0.0)))
                if not (np.abs(a - b) <= 0.01 * TOLERANCE * scale).all():
                    return True
    return False


class DiffersError(AssertionError):
    """A program that goes wrong: kind, and what."""

    def __init__(self, kind, call, what):
        super().__init__(f"{kind}: {what}")
        self.kind, self.call, self.what = kind, call, what
        # Failures of one sort differ in numbers only.
        self.sort = (
            kind,
            re.sub(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?|0x[0-9a-f]+", "#", what) if " for " not in what else "array",
        )


def run(f, kind, call):
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return f()
    except Exception as error:
        raise DiffersError(f"{kind} raises {type(error).__name__}", call, f"{type(error).__name__}: {error}") from error


def is_refusal(error):
    """Whether an argument outside a domain is the reason: eager numbers raise there, programs follow IEEE 754."""
    text = str(error)
    if isinstance(error, ValueError):
        return "the argument must" in text or "a negative base" in text
    return isinstance(error, ArithmeticError) or (isinstance(error, TypeError) and "complex" in text)


def compares_numpys_array(error):
    """Whether NumPy got an array that it has made of Values: it asks for their truth, or knows no loop for objects."""
    text = str(error)
    no_loop = "Cannot cast ufunc" in text or "not supported for the input types" in text or "does not support" in text
    if "Cannot cast array data from dtype('O')" in text:
        return True  # np.interp of an array of eager Values
    return ("need a number" in text and "math.less" in text) or ("ufunc" in text and no_loop)


def check(pg, program, jax=False, taken=None):
    """Raise DiffersError if the program differs from the oracles."""
    collect_at = program.seed % 30 + 1 if program.seed % 2 else 1 << 14  # while recording, for some
    try:
        pg._core.layer.lib.pgr_tape_limits(pg._core.layer.TAPE, collect_at, 2**32 - 2)
        compare(pg, program, jax, Counter() if taken is None else taken)
    finally:
        pg._core.layer.lib.pgr_tape_limits(pg._core.layer.TAPE, 1 << 14, 2**32 - 2)


# These may turn the nan of a derivative's 0 * inf into a finite number, on one side only.
HIDING = ("comparison", "comparison as a number", "equality", "where", "minmax", "condition of conditions")


def compare(pg, program, jax, taken):
    recorded = run(lambda: Recorded(pg, program), "recorded", 0)
    first = None
    in_jax = InJax(program) if jax else None
    for call in (0, 1):
        expected = run(lambda: program.expected(call), "duals", call)
        try:
            eager = run(lambda: eagerly(pg, program, call), "eager", call)
        except DiffersError as failure:
            if not is_refusal(failure.__cause__):
                raise
            eager = None
            taken["eager refuses"] += 1
        try:
            got = run(lambda: recorded(call), "recorded", call)
        except DiffersError as failure:  # numbers from outside are eager ones
            if compares_numpys_array(failure.__cause__):
                taken["comparison refused"] += 1
                return
            if eager is not None or not is_refusal(failure.__cause__):
                raise
            continue
        first = got if call == 0 else first
        if "record=False" in program.source.splitlines()[-1]:
            got = floats(got)  # arguments come back as they are
        # A derivative has 0 * inf or not, depending on what is known to be 0.
        lenient = program.is_corner and any(
            program.features[name] for name in TRANSFORMS if name not in ("jit", "vmap")
        )
        hides = lenient and program.overflows and any(program.features[name] for name in HIDING)
        if program.is_corner:
            if eager is not None and (what := difference(got, floats(eager), lenient)):
                if hides:
                    taken["nan hidden"] += 1
                    return
                raise DiffersError("recorded differs from eager loops", call, what)
            if lenient and (eager is None or not math.isfinite(largest(expected))):
                continue
        for kind, result in (("recorded", got), *([("eager", floats(eager))] if eager is not None else [])):
            if what := difference(result, expected, lenient):
                if hides:
                    taken["nan hidden"] += 1
                    return
                if is_ill_conditioned(program, call, expected):
                    taken["ill-conditioned"] += 1
                    return
                raise DiffersError(f"{kind} differs from loops of duals", call, what)
        if jax and not program.is_corner:
            by_jax = run(lambda: in_jax(call), "jax", call)
            if not math.isfinite(largest(by_jax)):
                taken["nan of JAX"] += 1  # 0 * inf on the side of a where that is not taken
            elif not difference(by_jax, expected):
                taken["compared with JAX"] += 1
            elif program.kinks or is_ill_conditioned(program, call, expected):
                taken["at a kink"] += 1
            else:
                raise DiffersError("JAX differs from loops of duals", call, difference(by_jax, expected))
    if first is None:
        return
    if what := difference(run(lambda: recorded(0), "recorded", 0), first, exact=True):
        raise DiffersError("recorded differs from its first call", 0, what)
    if hasattr(recorded.main, "program") and "record=False" not in program.source.splitlines()[-1]:
        if what := difference(run(recorded.unpickled, "unpickled", 0), first, exact=True):
            raise DiffersError("unpickled differs from recorded", 0, what)
        taken["unpickled"] += 1


def make(seed):
    """The program of a seed: the first one with tame numbers."""
    for attempt in range(50):
        program = Generator(seed, attempt).program()
        try:
            if is_tame(program):
                return program
        except (ArithmeticError, TypeError) as error:
            if not is_refusal(error):
                raise
    return None


# ---- Shrinking -----------------------------------------------------------------------------------


def shrink(pg, program, sort, limit=2000):
    """A smaller program that fails in the same way, found by leaving out statements and operands."""

    def fails(candidate):
        try:
            if is_tame(candidate):
                check(pg, candidate)
        except DiffersError as failure:
            return failure.sort == sort
        except Exception:
            return False
        return False

    tries = 0
    best = program
    progress = True
    while progress and tries < limit:
        progress = False
        for source in smaller(best.source):
            tries += 1
            if tries >= limit:
                break
            candidate = Program(
                best.seed, source, best.args, best.captured, best.features, best.is_corner, best.chain, best.has_plain
            )
            if len(source) < len(best.source) and fails(candidate):
                best, progress = candidate, True
                break
    used = {node.id for node in ast.walk(ast.parse(best.source)) if isinstance(node, ast.Name)}
    captured = [{name: text for name, text in call.items() if name in used} for call in best.captured]
    return Program(
        best.seed, best.source, best.args, captured, best.features, best.is_corner, best.chain, best.has_plain
    )


def smaller(source):
    """Sources with one statement or one part of an expression left out; `main` stays what it is."""
    at = re.search("^(main = |def main)", source, re.MULTILINE).start()
    head, rest = source[:at], source[at:]
    count = sum(1 for _ in ast.walk(ast.parse(head)))
    for i in range(count):
        for which in range(100):
            tree = ast.parse(head)
            node = next(node for j, node in enumerate(ast.walk(tree)) if j == i)
            if not reduced(node, which):
                break
            yield f"{ast.unparse(ast.fix_missing_locations(tree))}\n{rest}"


def parts(node):
    """What an expression may be replaced by."""
    if isinstance(node, (ast.Name, ast.Constant, ast.Lambda)):
        return []
    inner = [x for x in ast.iter_child_nodes(node) if isinstance(x, ast.expr)]
    if isinstance(node, ast.Dict):
        inner = node.values
    if isinstance(node, ast.Call):
        inner.remove(node.func)
        if isinstance(node.func, ast.Name) and node.func.id == "array":
            inner = []
    return [
        *[x for x in inner if not isinstance(x, (ast.Lambda, ast.Slice, ast.Tuple))],
        ast.Constant(0.5),
        ast.Constant(2.0),
    ]


def reduced(node, which):
    """Reduce one part of `node` in the way number `which`; False if there is none."""
    for field, value in ast.iter_fields(node):
        if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
            if which < len(value) - 1:
                del value[which]
                return True
            which -= len(value) - 1
        elif isinstance(value, list):
            for k, item in enumerate(value):
                if isinstance(item, ast.expr):
                    choices = parts(item)
                    if which < len(choices):
                        value[k] = choices[which]
                        return True
                    which -= len(choices)
        elif isinstance(value, ast.expr) and field != "func":
            choices = parts(value)
            if which < len(choices):
                setattr(node, field, choices[which])
                return True
            which -= len(choices)
    return False
