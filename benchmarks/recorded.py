"""Recorded functions: one problem in each library that can be given a function once and run it often.

A rival is a class with a method a problem, which returns a callable without arguments: one run, from NumPy arrays (or
floats) to its result, which is flattened and compared before anything is timed. Imported in the rival's own process.
"""

import ctypes
import random
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace

from adapters import LacksError

POINTS, LAYERS = 100, [2, 16, 16, 1]
TERMS = 20_000  # of the expression: four operations each
DIMENSIONS = 1_000  # of Rosenbrock's function
BATCH = 1_000_000
OPTIONS = 100_000


def data(problem, seed):
    """The problem's numbers, the same for all."""
    if problem in ("two_floats", "transformer"):
        return ()
    import numpy as np

    rng = np.random.default_rng(seed)
    if problem == "moons":
        X = rng.normal(size=(POINTS, 2))
        Y = np.where(X[:, 0] * X[:, 1] > 0, 1.0, -1.0)
        shapes = list(zip(LAYERS[1:], LAYERS))
        return [(rng.uniform(-1, 1, shape), rng.uniform(-1, 1, shape[0])) for shape in shapes], X, Y
    if problem == "expression":
        return rng.normal(size=TERMS), 0.3, 0.1
    if problem.startswith("rosenbrock"):
        return rng.normal(size=DIMENSIONS), rng.normal(size=DIMENSIONS)
    if problem.startswith("batch"):
        return (rng.uniform(-1, 1, size=(BATCH, 2)),)
    if problem == "greeks":
        ranges = [(80, 120), (80, 120), (0, 0.1), (0.1, 0.5), (0.1, 2)]
        return tuple(rng.uniform(low, high, size=OPTIONS) for low, high in ranges)
    if problem == "random":
        draw = random.Random(seed)
        steps = [(draw.choice("+-**"), draw.randint(1, 1000), draw.randrange(1000)) for _ in range(60_000)]
        return rng.uniform(0.5, 1.5, size=1000), steps
    raise LacksError(problem)


def flat(result):
    """All numbers of a result, in order."""
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, (list, tuple)):
        return [x for part in result for x in flat(part)]
    return [float(x) for x in result.ravel()] if hasattr(result, "ravel") else [float(result)]


def rosenbrock(x):
    return sum(100.0 * (b - a * a) * (b - a * a) + (1.0 - a) * (1.0 - a) for a, b in zip(x, x[1:]))


def two_floats(x, y, tanh):
    return tanh(x * y + x) * y - x


def fifty(x, y, sin, exp):
    """Fifty operations, six of them sines and exponentials."""
    for k in range(3):
        x, y = sin(x * 0.5 + y * 0.25) + x * y * 0.125 - 0.5, exp(y * 0.25 - x * x * 0.0625) * 0.5 + y * y * 0.1 - k
    return x * x + y * y - x * y * 0.5


def call_price(spot, strike, rate, volatility, years, m):
    """The price of a European call by Black and Scholes; m has log, sqrt, exp and erf."""
    spread = volatility * m.sqrt(years)
    d1 = (m.log(spot / strike) + (rate + 0.5 * volatility * volatility) * years) / spread
    n1, n2 = (0.5 * (1 + m.erf(x * 0.7071067811865476)) for x in (d1, d1 - spread))
    return spot * n1 - strike * m.exp(-rate * years) * n2


def random_expression(x, steps):
    """Sums, differences and products of leaves and of what came shortly before: no order that anybody could foresee."""
    values = list(x)
    for op, i, j in steps:
        a, b = values[-i], x[j]
        values.append((a + b) * 0.5 if op == "+" else (a - b) * 0.5 if op == "-" else a * b)
    return sum(values)


class Pygrad:
    workers = 1

    def __init__(self):
        import pygrad

        self.pg = pygrad

    def moons(self, params, X, Y):
        step = self._moons()
        return lambda: step(params, X, Y)

    def _moons(self):
        pg = self.pg

        def net(params, x):
            for W, b in params[:-1]:
                x = pg.math.relu(W @ x + b)
            W, b = params[-1]
            return (W @ x + b)[0]

        def loss(params, x, y):
            return (1 - y * net(params, x)).relu()

        def objective(params, X, Y):
            hinge = pg.vmap(loss, in_axes=(None, 0, 0), reduce="mean")(params, X, Y)
            return hinge + 1e-4 * sum(p * p for p in pg.tree_leaves(params))

        return pg.value_and_grad(objective)

    def expression(self, x, w, b):
        def total(x, w, b):
            s = 0.0
            for t in x:
                s = s + (t * w + b).tanh()
            return s

        run = self.pg.value_and_grad(total, argnums=(0, 1, 2))
        return lambda: run(x, w, b)

    def random(self, x, steps):
        run = self.pg.value_and_grad(lambda x: random_expression(x, steps))
        return lambda: run(x)

    def two_floats(self):
        run = self.pg.value_and_grad(lambda x, y: two_floats(x, y, self.pg.math.tanh), argnums=(0, 1))
        return lambda: run(0.3, 0.7)

    def rosenbrock_gradient(self, x, v):
        run = self.pg.value_and_grad(rosenbrock)
        return lambda: run(x)

    def rosenbrock_hvp(self, x, v):
        run = self.pg.hvp(rosenbrock)
        return lambda: run(x, v)

    def batch(self, xy):
        run = self._batch()
        return lambda: run(xy)

    def _batch(self):
        math_ = self.pg.math
        return self.pg.vmap(lambda p: fifty(p[0], p[1], math_.sin, math_.exp), reduce="sum", workers=self.workers)

    def batch_gradient(self, xy):
        run = self._batch_gradient()
        return lambda: run(xy)

    def greeks(self, *columns):
        run = self._greeks()
        return lambda: run(*columns)

    def _greeks(self):
        price = self.pg.value_and_grad(lambda *x: call_price(*x, self.pg.math), argnums=(0, 1, 2, 3, 4))
        return self.pg.vmap(price, workers=self.workers)

    def _batch_gradient(self):
        math_ = self.pg.math
        point = self.pg.value_and_grad(lambda p: fifty(p[0], p[1], math_.sin, math_.exp))
        return self.pg.vmap(point, workers=self.workers)

    def transformer(self):
        """A step of value, gradient and Adam over one name, its letters as rows of zeros and a one."""
        import numpy as np
        import transformer as t

        pg, count = self.pg, sum(rows * columns for _, rows, columns in t.matrices())

        def loss(numbers, letters):
            left = iter(numbers)
            m = {name: [[next(left) for _ in range(n)] for _ in range(rows)] for name, rows, n in t.matrices()}
            return t.name_loss(pg.dot, m, letters, one_hot=True)

        step = pg.value_and_grad(loss)
        rng = random.Random(t.SEED)
        w = np.array([rng.gauss(0.0, t.SCALE) for _ in range(count)])
        m, v, k = np.zeros(count), np.zeros(count), 0
        letters = np.zeros((len(t.EXAMPLE) + 2, len(t.LETTERS)))
        letters[range(len(letters)), [t.LETTERS.index(c) for c in f".{t.EXAMPLE}."]] = 1.0
        first = step(w, letters)

        def run():
            nonlocal k, m, v, w
            k += 1
            _, g = step(w, letters)
            m = 0.9 * m + 0.1 * g
            v = 0.95 * v + 0.05 * (g * g)
            w = w - 0.01 * (m / (1 - 0.9**k)) / (np.sqrt(v / (1 - 0.95**k)) + 1e-8)
            return first

        return run


class PygradTwoWorkers(Pygrad):
    workers = 2


class PygradC(Pygrad):
    """What Program.to_c writes, compiled by gcc with the flags that its docstring names."""

    def _compiled(self, function, *args):
        import numpy as np

        program = function.program(*args)
        folder = Path(tempfile.mkdtemp())
        (folder / "f.c").write_text(program.to_c("f"))
        flags = ["-O3", "-march=native", "-fopenmp-simd", "-ffast-math", "-fPIC", "-c"]
        subprocess.run(["gcc", *flags, "-o", folder / "f.o", folder / "f.c"], check=True)
        subprocess.run(["gcc", "-shared", "-o", folder / "f.so", folder / "f.o", "-lm"], check=True)
        run_c = ctypes.CDLL(str(folder / "f.so")).f
        run_c.restype, run_c.argtypes = None, [ctypes.c_void_p, ctypes.c_void_p]
        numbers = np.concatenate([np.ravel(leaf) for leaf in self.pg.tree_leaves(args)])
        out = np.empty(len(flat(program(*args))))
        self._keep = numbers, out
        where = numbers.ctypes.data, out.ctypes.data

        def run():
            run_c(*where)
            return out

        return run

    def moons(self, params, X, Y):
        return self._compiled(self._moons(), params, X, Y)

    def batch(self, xy):
        return self._compiled(self._batch(), xy)

    def batch_gradient(self, xy):
        return self._compiled(self._batch_gradient(), xy)

    def greeks(self, *columns):
        return self._compiled(self._greeks(), *columns)

    expression = random = two_floats = rosenbrock_gradient = rosenbrock_hvp = transformer = None  # no loops over lanes


class Plain:
    """Values with stored partials, GC on: benchmarks/plain.py."""

    def transformer(self):
        import adapters
        import transformer as t

        lib = adapters.Plain()
        workload = t.Workload({"names": [t.EXAMPLE]})
        lib.prepare(workload)
        first = None

        def run():
            nonlocal first
            root = lib.forward()
            lib.backward(root)
            first = first or lib.result(root)
            workload.update(lib, lib.leaves, 0)
            return first

        return run


class NumPy:
    """By hand: the network's derivatives as matrix products."""

    def moons(self, params, X, Y):
        import numpy as np

        def run():
            (W1, b1), (W2, b2), (W3, b3) = params
            z1 = X @ W1.T + b1
            h1 = np.maximum(z1, 0)
            z2 = h1 @ W2.T + b2
            h2 = np.maximum(z2, 0)
            margin = 1 - Y * (h2 @ W3.T + b3)[:, 0]
            value = np.maximum(margin, 0).mean() + 1e-4 * sum((p * p).sum() for layer in params for p in layer)
            d3 = (-Y * (margin > 0) / len(Y))[:, None]
            d2 = (d3 @ W3) * (z2 > 0)
            d1 = (d2 @ W2) * (z1 > 0)
            grads = [(d1.T @ X, d1.sum(0)), (d2.T @ h1, d2.sum(0)), (d3.T @ h2, d3.sum(0))]
            return value, [(g + 2e-4 * W, h + 2e-4 * b) for (g, h), (W, b) in zip(grads, params)]

        return run

    def batch(self, xy):
        import numpy as np

        return lambda: fifty(xy[:, 0], xy[:, 1], np.sin, np.exp).sum()

    def rosenbrock_gradient(self, x, v):
        import numpy as np

        def run():
            d, e = x[1:] - x[:-1] ** 2, 1 - x[:-1]
            g = np.zeros_like(x)
            g[1:] += 200 * d
            g[:-1] += -400 * x[:-1] * d - 2 * e
            return (100 * d * d + e * e).sum(), g

        return run


class Hand:
    """C by hand for these problems alone, with vectors: benchmarks/c/moons.c and lanes.c."""

    def _library(self, name):
        source = Path(__file__).parent / "c" / f"{name}.c"
        folder = Path(tempfile.mkdtemp())
        flags = ["-O3", "-march=native", "-mprefer-vector-width=512", "-ffast-math", "-fopenmp-simd", "-fPIC"]
        subprocess.run(["gcc", *flags, "-c", "-o", folder / "f.o", source], check=True)
        # Linking with -ffast-math would flush the process's subnormal numbers.
        subprocess.run(["gcc", "-shared", "-o", folder / "f.so", folder / "f.o", "-lmvec", "-lm"], check=True)
        return ctypes.CDLL(str(folder / "f.so"))

    def moons(self, params, X, Y):
        import numpy as np

        run_c = self._library("moons").moons
        pointer = ctypes.c_void_p
        run_c.restype, run_c.argtypes = ctypes.c_double, [pointer, pointer, pointer, ctypes.c_long, pointer]
        w = np.concatenate([a.ravel() for layer in params for a in layer])
        grad = np.empty_like(w)
        self._keep = w, X, Y
        where = [*(a.ctypes.data for a in self._keep), len(Y), grad.ctypes.data]
        return lambda: (run_c(*where), grad)

    def batch(self, xy):
        run_c = self._library("lanes").fifty
        run_c.restype, run_c.argtypes = ctypes.c_double, [ctypes.c_void_p, ctypes.c_long]
        self._keep = xy
        return lambda: run_c(xy.ctypes.data, len(xy))

    def greeks(self, *columns):
        import numpy as np

        run_c = self._library("lanes").greeks
        pointers = [ctypes.c_void_p] * 5
        run_c.restype, run_c.argtypes = None, [*pointers, ctypes.c_long, *pointers, ctypes.c_void_p]
        count = len(columns[0])

        def run():
            results = [np.empty(count) for _ in range(6)]  # new ones, as the others make
            run_c(*(x.ctypes.data for x in columns), count, *(x.ctypes.data for x in results))
            return results

        return run


class Jax:
    def __init__(self):
        import jax

        jax.config.update("jax_enable_x64", True)
        self.jax = jax

    def moons(self, params, X, Y):
        jax, jnp = self.jax, self.jax.numpy

        def objective(params, X, Y):
            h = X
            for W, b in params[:-1]:
                h = jnp.maximum(h @ W.T + b, 0)
            W, b = params[-1]
            margin = 1 - Y * (h @ W.T + b)[:, 0]
            return jnp.maximum(margin, 0).mean() + 1e-4 * sum((p * p).sum() for layer in params for p in layer)

        params, X, Y = jax.tree.map(jnp.asarray, (params, X, Y))  # a copy less at each call
        step = jax.jit(jax.value_and_grad(objective))
        return lambda: jax.block_until_ready(step(params, X, Y))

    def two_floats(self):
        jax = self.jax
        run = jax.jit(jax.value_and_grad(lambda x, y: two_floats(x, y, jax.numpy.tanh), argnums=(0, 1)))
        return lambda: jax.block_until_ready(run(0.3, 0.7))

    def rosenbrock_gradient(self, x, v):
        jax = self.jax
        x = jax.numpy.asarray(x)
        run = jax.jit(jax.value_and_grad(lambda x: (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()))
        return lambda: jax.block_until_ready(run(x))

    def batch(self, xy):
        jax, jnp = self.jax, self.jax.numpy
        xy = jnp.asarray(xy)
        run = jax.jit(lambda xy: fifty(xy[:, 0], xy[:, 1], jnp.sin, jnp.exp).sum())
        return lambda: jax.block_until_ready(run(xy))

    def greeks(self, *columns):
        jax, jnp = self.jax, self.jax.numpy
        m = SimpleNamespace(log=jnp.log, sqrt=jnp.sqrt, exp=jnp.exp, erf=jax.lax.erf)
        columns = [jnp.asarray(x) for x in columns]
        price = jax.value_and_grad(lambda *x: call_price(*x, m), argnums=(0, 1, 2, 3, 4))
        run = jax.jit(jax.vmap(price))
        return lambda: jax.block_until_ready(run(*columns))


class Torch:
    def __init__(self):
        import torch

        torch.set_num_threads(1)
        self.torch = torch

    def moons(self, params, X, Y):
        torch = self.torch
        tensors = [tuple(torch.tensor(a, requires_grad=True) for a in layer) for layer in params]
        X, Y = torch.tensor(X), torch.tensor(Y)

        def run():
            for layer in tensors:
                for a in layer:
                    a.grad = None
            h = X
            for W, b in tensors[:-1]:
                h = torch.relu(h @ W.T + b)
            W, b = tensors[-1]
            margin = 1 - Y * (h @ W.T + b)[:, 0]
            loss = torch.relu(margin).mean() + 1e-4 * sum((p * p).sum() for layer in tensors for p in layer)
            loss.backward()
            return loss.item(), [tuple(a.grad.numpy() for a in layer) for layer in tensors]

        return run

    def batch(self, xy):
        torch = self.torch
        xy = torch.tensor(xy)
        return lambda: fifty(xy[:, 0], xy[:, 1], torch.sin, torch.exp).sum().item()


class Casadi:
    """SX graphs: its virtual machine, and for the batch a map over points compiled by gcc -O3."""

    def __init__(self):
        import casadi

        self.ca = casadi

    def moons(self, params, X, Y):
        import numpy as np

        ca = self.ca
        count = sum(a.size for layer in params for a in layer)
        w, x, y = ca.SX.sym("w", count), ca.SX.sym("x", 2), ca.SX.sym("y")
        at, h = 0, x
        for k, (W, b) in enumerate(params):
            matrix = ca.reshape(w[at : at + W.size], W.shape[1], W.shape[0]).T  # CasADi's are column by column
            h = matrix @ h + w[at + W.size : at + W.size + b.size]
            at += W.size + b.size
            h = ca.fmax(h, 0) if k < len(params) - 1 else h
        loss = ca.fmax(1 - y * h, 0) / len(Y)
        point = ca.Function("point", [w, x, y], [loss, ca.gradient(loss, w)])
        mapped = point.map(len(Y))
        folder = tempfile.mkdtemp()
        generator = ca.CodeGenerator("moons_casadi.c")
        W = ca.MX.sym("W", count)
        XX, YY = ca.MX.sym("X", 2, len(Y)), ca.MX.sym("Y", 1, len(Y))
        values, grads = mapped(ca.repmat(W, 1, len(Y)), XX, YY)
        objective = ca.Function(
            "objective", [W, XX, YY], [ca.sum2(values) + 1e-4 * ca.sumsqr(W), ca.sum2(grads) + 2e-4 * W]
        )
        generator.add(objective)
        generator.generate(folder + "/")
        subprocess.run(
            [
                "gcc",
                "-O3",
                "-march=native",
                "-shared",
                "-fPIC",
                "-o",
                f"{folder}/m.so",
                f"{folder}/moons_casadi.c",
                "-lm",
            ],
            check=True,
        )
        compiled = ca.external("objective", f"{folder}/m.so")
        numbers = np.concatenate([a.ravel() for layer in params for a in layer])
        return self._buffered(compiled, [numbers, np.ascontiguousarray(X), Y], [1, count])

    def _buffered(self, function, inputs, sizes):
        """A call without CasADi's own matrices, by far the quickest that it has: numbers in, numbers out, in place."""
        import numpy as np

        buffer, trigger = function.buffer()
        outputs = [np.zeros(size) for size in sizes]
        for i, x in enumerate(inputs):
            buffer.set_arg(i, memoryview(np.asarray(x, dtype=float).reshape(-1)))
        for i, out in enumerate(outputs):
            buffer.set_res(i, memoryview(out))
        self._keep = [buffer, inputs, outputs]

        def run():
            trigger()
            return outputs

        return run

    def expression(self, x, w, b):
        import numpy as np

        ca = self.ca
        xs, ws, bs = ca.SX.sym("x", len(x)), ca.SX.sym("w"), ca.SX.sym("b")
        s = ca.SX(0)
        for t in ca.vertsplit(xs):
            s = s + ca.tanh(t * ws + bs)
        every = ca.vertcat(xs, ws, bs)
        function = ca.Function("f", [every], [s, ca.gradient(s, every)])
        return self._buffered(function, [np.array([*x, w, b])], [1, len(x) + 2])

    def random(self, x, steps):
        ca = self.ca
        xs = ca.SX.sym("x", len(x))
        s = random_expression(ca.vertsplit(xs), steps)
        return self._buffered(ca.Function("f", [xs], [s, ca.gradient(s, xs)]), [x], [1, len(x)])

    def rosenbrock_gradient(self, x, v):
        ca = self.ca
        xs = ca.SX.sym("x", len(x))
        s = rosenbrock(ca.vertsplit(xs))
        return self._buffered(ca.Function("f", [xs], [s, ca.gradient(s, xs)]), [x], [1, len(x)])

    def rosenbrock_hvp(self, x, v):
        ca = self.ca
        xs, vs = ca.SX.sym("x", len(x)), ca.SX.sym("v", len(x))
        s = rosenbrock(ca.vertsplit(xs))
        product = ca.jtimes(ca.gradient(s, xs), xs, vs)
        return self._buffered(ca.Function("f", [xs, vs], [product]), [x, v], [len(x)])


class Xad:
    """The adjoints of a tape that is recorded once: it cannot be evaluated again for other numbers."""

    def __init__(self):
        from xad import adj_1st

        self.adj = adj_1st

    def expression(self, x, w, b):
        return self._adjoints([*x, w, b], self._tanh_sum)

    def _tanh_sum(self, leaves):
        from xad.math import tanh

        *x, w, b = leaves
        s = 0.0
        for t in x:
            s = s + tanh(t * w + b)
        return s

    def random(self, x, steps):
        return self._adjoints(list(x), lambda leaves: random_expression(leaves, steps))

    def _adjoints(self, numbers, function):
        tape = self.adj.Tape()
        tape.activate()
        leaves = [self.adj.Real(float(x)) for x in numbers]
        for leaf in leaves:
            tape.registerInput(leaf)
        tape.newRecording()
        root = function(leaves)
        tape.registerOutput(root)
        self._keep = tape
        gradient = None

        def run():
            nonlocal gradient
            tape.clearDerivatives()
            root.setDerivative(1.0)
            tape.computeAdjoints()
            if gradient is None:
                gradient = [root.getValue(), *(leaf.getDerivative() for leaf in leaves)]
            return gradient

        return run


def make(rival, problem, seed):
    """The rival's run of the problem."""
    method = getattr(globals()[rival](), problem, None)
    if method is None:
        raise LacksError(f"{rival} has no {problem}")
    run = method(*data(problem, seed))
    run.rival = method.__self__  # which keeps what its run works on
    return run


def _peak(reset=False):
    """The most bytes of memory that have been in use, since the last reset; 0 where the system does not say."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0


def building(sizes):
    """What recording and building cost: {operations: {...}}, of a function of so many operations."""
    import gc
    from time import perf_counter

    import pygrad as pg

    def chain(x, n):
        y = x
        for _ in range(n // 4):
            y = (y * x + 0.5).tanh() + x
        return y

    rows = {}
    for size in sizes:
        eager, recorded = [], []

        def function(x, size=size, recorded=recorded):
            start = perf_counter()
            root = chain(x, size)
            recorded.append(perf_counter() - start)
            recorded.append(_peak(reset=True))
            return root

        for _ in range(9 if size <= 10**5 else 3):
            gc.collect()
            x = pg.Value(0.3)
            start = perf_counter()
            root = chain(x, size)
            eager.append(perf_counter() - start)
            del root, x
            start = perf_counter()
            program = pg.jit(function).program(0.3)
            built = perf_counter() - start
            before = recorded.pop()
            built -= recorded[-1]
            peak = _peak() - before
            rows.setdefault(size, {"build": [], "bytes": 0.0})
            rows[size]["build"].append(built)
            rows[size]["bytes"] = max(rows[size]["bytes"], peak / size)
            del program
        build = sorted(rows[size]["build"])
        rows[size]["build"] = build[len(build) // 2]
        rows[size]["recording_to_eager"] = sorted(recorded)[len(recorded) // 2] / sorted(eager)[len(eager) // 2]
    return rows
