"""What each library needs to run a workload. Imported in the peer's own process, where only it is installed.

A workload is written once against micrograd's API. It has `numbers` (the leaves' values), `build(lib, leaves)`,
`loss(lib, model)` and perhaps `update(lib, leaves, k)`. Here a library says how it makes leaves, runs the
loss and sweeps back. In those that trace a function instead of recording Values, leaves are Cells, which
give the update the same attributes.
"""

import importlib
import importlib.metadata


class LacksError(Exception):
    """The library has not got what the workload asks for."""


class Eager:
    """Values that record themselves: micrograd's way."""

    zero = 0.0
    Value = None
    MLP = None

    def const(self, number):
        """A number written in an expression."""
        return number

    def leaf(self, number):
        return self.Value(number)

    def dot(self, ws, xs):
        return sum(w * x for w, x in zip(ws, xs))

    def prepare(self, workload):
        self.workload = workload
        self.leaves = [self.leaf(number) for number in workload.numbers]
        self.model = workload.build(self, self.leaves)
        if hasattr(workload, "own_leaves"):
            self.leaves = workload.own_leaves()

    def forward(self):
        return self.workload.loss(self, self.model)

    def zero_grads(self):
        for p in self.leaves:
            p.grad = self.zero

    def backward(self, root):
        self.workload.zero_grads(self) if hasattr(self.workload, "zero_grads") else self.zero_grads()
        root.backward()

    def result(self, root):
        """The loss and the gradients, as floats: what peers are compared by."""
        return [float(root.data), *(float(p.grad) for p in self.leaves)]


class Pygrad(Eager):
    def __init__(self):
        import pygrad
        from pygrad import optim
        from pygrad.nn import MLP

        self.Value, self.MLP, self.fast_dot, self.Adam = pygrad.Value, MLP, pygrad.dot, optim.Adam


class Plain(Eager):
    def __init__(self):
        from plain import Value

        self.Value = Value


class Micrograd(Eager):
    def __init__(self):
        import math

        from micrograd.engine import Value
        from micrograd.nn import MLP

        def tanh(self):
            t = math.tanh(self.data)
            out = Value(t, (self,), "tanh")

            def _backward():
                self.grad += (1 - t**2) * out.grad

            out._backward = _backward
            return out

        Value.tanh = tanh
        self.Value, self.MLP = Value, MLP


class Minigrad(Eager):
    def __init__(self):
        from minigrad.engine import Value
        from minigrad.nn import MLP

        # Its Value is an immutable type of C: it has no tanh, and can't be given one, as micrograd's is.
        # It gives back a reference to None with each Value that it has not taken: enough for a run.
        self.spare = [None] * 20_000_000
        self.Value, self.MLP = Value, MLP

    def const(self, number):
        return self.Value(number)


class DropIn(Eager):
    """Whatever of the installed distributions calls itself a drop-in replacement."""

    def __init__(self):
        for distribution in importlib.metadata.distributions():
            name = distribution.metadata["Name"]
            if name in ("micrograd-rust", "oxigrad"):
                for module in ((distribution.read_text("top_level.txt") or name.replace("-", "_")).split()[0], name):
                    for path in (f"{module}.engine", module):
                        try:
                            self.Value = importlib.import_module(path).Value
                            return
                        except (ImportError, AttributeError):
                            continue
        raise LacksError("a Value where a drop-in replacement has it")


class MicrogradCpp(Eager):
    def __init__(self):
        import micrograd

        self.tensor = micrograd.tensor

    def leaf(self, number):
        return self.tensor([number], requires_grad=True)

    const = leaf

    def prepare(self, workload):
        if hasattr(workload, "update"):
            raise LacksError("assignment to a parameter's data")
        super().prepare(workload)

    def backward(self, root):
        for p in self.leaves:
            p.zero_grad()
        root.backward()

    def result(self, root):
        return [root.tolist()[0], *(p.grad().tolist()[0] for p in self.leaves)]


class Torch(Eager):
    zero = None

    def __init__(self):
        import torch

        torch.set_num_threads(1)
        self.torch = torch

    def leaf(self, number):
        return self.torch.tensor(number, dtype=self.torch.float64, requires_grad=True)

    def backward(self, root):
        super().backward(root)
        for p in self.leaves:
            if p.grad is None:  # not part of the graph
                p.grad = self.torch.zeros((), dtype=self.torch.float64)


class Cell:
    """A parameter of a library that traces functions."""

    __slots__ = ("data", "grad")

    def __init__(self, data):
        self.data = data
        self.grad = 0.0


class Traced(Eager):
    """Functions of numbers: the model is built anew from traced leaves at each step."""

    def leaf(self, number):
        return number

    def prepare(self, workload):
        if hasattr(workload, "own_leaves"):
            raise LacksError("an nn of its own over scalars")
        self.workload = workload
        self.leaves = [Cell(number) for number in workload.numbers]

    def function(self, leaves):
        return self.workload.loss(self, self.workload.build(self, leaves))

    def store(self, grads):
        for p, g in zip(self.leaves, grads):
            p.grad = float(g)


class Autograd(Traced):
    def __init__(self):
        import autograd.numpy as anp
        from autograd.core import make_vjp
        from autograd.extend import vspace
        from autograd.numpy.numpy_boxes import ArrayBox

        for name in ("tanh", "exp", "log"):
            setattr(ArrayBox, name, lambda self, function=getattr(anp, name): function(self))
        ArrayBox.relu = lambda self: anp.maximum(self, 0.0)
        self.make_vjp, self.vspace = make_vjp, vspace

    def forward(self):
        vjp, value = self.make_vjp(self.function, [p.data for p in self.leaves])
        return vjp, value

    def backward(self, root):
        vjp, value = root
        self.store(vjp(self.vspace(value).ones()))

    def result(self, root):
        return [float(root[1]), *(p.grad for p in self.leaves)]


class Jax(Traced):
    def __init__(self):
        import jax
        import jax.numpy as jnp

        jax.config.update("jax_enable_x64", True)
        for name in ("tanh", "exp", "log"):
            setattr(jax.core.Tracer, name, lambda self, function=getattr(jnp, name): function(self))
        jax.core.Tracer.relu = lambda self: jax.nn.relu(self)
        self.jax = jax

    def forward(self):
        value, vjp = self.jax.vjp(self.function, [p.data for p in self.leaves])
        return value, vjp

    def backward(self, root):
        value, vjp = root
        self.store(vjp(self.jax.numpy.ones_like(value))[0])

    def result(self, root):
        return [float(root[0]), *(p.grad for p in self.leaves)]


class Xad(Traced):
    def __init__(self):
        import xad.adj_1st
        import xad.math as math

        Real = self.Real = xad.adj_1st.Real
        for name in ("tanh", "exp", "log"):
            setattr(Real, name, lambda self, function=getattr(math, name): function(self))
        Real.relu = lambda self: math.max(self, 0.0)
        self.tape = xad.adj_1st.Tape()
        self.tape.activate()

    def forward(self):
        self.tape.clearAll()
        self.traced = [self.Real(p.data) for p in self.leaves]
        for x in self.traced:
            self.tape.registerInput(x)
        self.tape.newRecording()
        root = self.function(self.traced)
        self.tape.registerOutput(root)
        return root

    def backward(self, root):
        root.setDerivative(1.0)
        self.tape.computeAdjoints()
        self.store(x.getDerivative() for x in self.traced)

    def result(self, root):
        return [root.value, *(p.grad for p in self.leaves)]


class Casadi(Traced):
    """Symbols: forward builds the expression; backward differentiates and evaluates it."""

    def __init__(self):
        import casadi

        for name in ("tanh", "exp", "log"):
            setattr(casadi.SX, name, lambda self, function=getattr(casadi, name): function(self))
        casadi.SX.relu = lambda self: casadi.fmax(self, 0.0)
        self.casadi = casadi

    def forward(self):
        self.traced = [self.casadi.SX.sym("x") for _ in self.leaves]
        return self.function(self.traced)

    def backward(self, root):
        xs = self.casadi.vertcat(*self.traced)
        f = self.casadi.Function("f", [xs], [root, self.casadi.gradient(root, xs)])
        value, grads = f([p.data for p in self.leaves])
        self.value = float(value)
        self.store(grads.full().ravel())

    def result(self, root):
        return [self.value, *(p.grad for p in self.leaves)]
