"""Random functions with loops and branches, as text, and plain versions of what they call."""

import random

import numpy as np


class Loops:
    """A random function f(x, p) of a number and an array of three numbers."""

    def __init__(self, seed, depth=2):
        self.rng = random.Random(seed)
        self.count = 0
        self.features = set()
        self.lines = ["def f(x, p):"]
        scope = ["x", "p[0]", "p[1]", "p[2]"]
        self.block(scope, "    ", depth, self.rng.choice([1, 2, 2, 3]))
        self.lines.append(f"    return {self.mixed(scope)}")
        self.text = "\n".join(self.lines)

    def new(self, letter="v"):
        self.count += 1
        return f"{letter}{self.count}"

    def number(self):
        return repr(round(self.rng.uniform(-1.2, 1.2), 2))

    def pick(self, scope):
        return self.rng.choice(scope[-4:] if self.rng.random() < 0.6 else scope)

    def mixed(self, scope):
        names = self.rng.sample(scope, min(len(scope), 3))
        if scope[-1] not in names:
            names.append(scope[-1])
        return " + ".join(f"{self.number()}*{name}" for name in names)

    def tame(self, scope):
        """An expression between about -1 and 1, smooth."""
        a, b = self.pick(scope), self.pick(scope)
        return self.rng.choice(
            [
                f"sin({a} + {self.number()}*{b})",
                f"tanh({a}*{b} + {self.number()})",
                f"cos({a})*tanh({b})",
                f"tanh({a}) + {self.number()}*sin({b})",
                f"0.5*tanh({a} - {b})",
            ]
        )

    def condition(self, scope):
        return f"{self.pick(scope)} > {self.number()}"

    def block(self, scope, indent, depth, statements):
        for _ in range(statements):
            kinds = (
                ["plain"]
                if depth == 0
                else [
                    "plain",
                    "scan",
                    "scan",
                    "scan of rows",
                    "scan of values",
                    "fori_loop",
                    "while_loop",
                    "cond",
                    "switch",
                    "checkpoint",
                    "grad",
                    "vmap",
                    "stacked",
                ]
            )
            kind = self.rng.choice(kinds)
            self.features.add(kind)
            getattr(self, "_" + kind.replace(" ", "_"))(scope, indent, depth)

    def say(self, indent, text):
        self.lines.append(indent + text)

    def _plain(self, scope, indent, depth):
        name = self.new()
        self.say(indent, f"{name} = {self.tame(scope)}")
        scope.append(name)

    def _inner(self, head, names, scope, indent, depth, result):
        """A function of these names, which sees the scope around it."""
        function = self.new("f")
        self.say(indent, f"def {function}{head}:")
        own = [*scope, *names]
        self.block(own, indent + "    ", depth - 1, self.rng.choice([1, 1, 2]))
        self.say(indent + "    ", f"return {result(own)}")
        return function

    def _carry(self):
        """A state: its name, its numbers, and how it looks after a step and at first."""
        c, kind = self.new("c"), self.rng.choice(["number", "array", "tree"])
        if kind == "number":
            return c, [c], self.tame, self.pick
        if kind == "array":
            after = lambda scope: f"array([{self.tame(scope)}, {self.tame(scope)}])"  # noqa: E731
            return c, [f"{c}[0]", f"{c}[1]"], after, lambda scope: f"array([{self.pick(scope)}, {self.number()}])"
        after = lambda scope: f"{{'a': {self.tame(scope)}, 'b': ({self.tame(scope)},)}}"  # noqa: E731
        first = lambda scope: f"{{'a': {self.pick(scope)}, 'b': ({self.number()},)}}"  # noqa: E731
        return c, [f"{c}['a']", f"{c}['b'][0]"], after, first

    def _scan(self, scope, indent, depth, xs="None", row=None):
        c, names, after, start = self._carry()
        has_y = self.rng.random() < 0.5
        row_names = [] if row is None else [row]
        function = self._inner(
            f"({c}, {row or '_'})",
            [*names, *row_names],
            scope,
            indent,
            depth,
            lambda own: f"{after(own)}, {self.tame(own) if has_y else None}",
        )
        steps = self.rng.choice([1, 2, 3, 5, 7])
        options = f", reverse={self.rng.random() < 0.3}, checkpoint={self.rng.choice(['auto', None, 2, 3])!r}"
        length = f", length={steps}" if xs == "None" else ""
        last, ys = self.new("s"), self.new("y")
        self.say(indent, f"{last}, {ys} = scan({function}, {start(scope)}, {xs}{length}{options})")
        scope += [name.replace(c, last, 1) for name in names]
        if has_y:
            self.features.add("results of steps")
            scope.append(f"{ys}[{self.rng.choice([0, -1])}]")
            if self.rng.random() < 0.5:
                scope.append(f"sin({ys}).sum()")

    def _scan_of_rows(self, scope, indent, depth):
        self._scan(scope, indent, depth, self.rng.choice(["p", "A", "A[::-1]", "A*1.5"]), self.new("r"))

    def _scan_of_values(self, scope, indent, depth):
        values = ", ".join(self.pick(scope) for _ in range(3))
        self._scan(scope, indent, depth, self.rng.choice([f"array([{values}])", "2*p"]), self.new("r"))

    def _stacked(self, scope, indent, depth):
        r = self.new("r")
        self._scan(scope, indent, depth, "B", f"{r}[1]")
        # the row's name is an expression: its function takes the array
        for i in range(len(self.lines) - 1, -1, -1):
            if f", {r}[1]):" in self.lines[i]:
                self.lines[i] = self.lines[i].replace(f", {r}[1]):", f", {r}):")
                break

    def _fori_loop(self, scope, indent, depth):
        c, names, after, start = self._carry()
        i = self.new("i")
        function = self._inner(f"({i}, {c})", [*names, f"{i}*0.1"], scope, indent, depth, after)
        last = self.new("s")
        low = self.rng.choice([0, 1, -2])
        self.say(indent, f"{last} = fori_loop({low}, {low + self.rng.choice([1, 3, 4])}, {function}, {start(scope)})")
        scope += [name.replace(c, last, 1) for name in names]

    def _while_loop(self, scope, indent, depth):
        c = self.new("c")
        function = self._inner(
            f"({c})",
            [f"{c}[1]"],
            scope,
            indent,
            depth,
            lambda own: f"({c}[0] + 0.4 + 0.3*tanh({self.pick(own)})**2, {self.tame(own)})",
        )
        last = self.new("s")
        start = f"({self.pick(scope)}, {self.pick(scope)})"
        bound = self.rng.choice(["1.5", f"1.0 + 0.5*sin({self.pick(scope)})"])
        most = self.rng.choice([2, 5, 12])
        self.say(indent, f"{last} = while_loop(lambda {c}: {c}[0] < {bound}, {function}, {start}, max_steps={most})")
        scope += [f"sin({last}[0])", f"{last}[1]"]

    def _cond(self, scope, indent, depth):
        name, a = self.new(), self.new("a")
        one = self._inner(f"({a})", [a], scope, indent, depth, self.tame)
        other = self._inner(f"({a})", [a], scope, indent, depth, self.tame)
        self.say(indent, f"{name} = cond({self.condition(scope)}, {one}, {other}, {self.pick(scope)})")
        scope.append(name)

    def _switch(self, scope, indent, depth):
        name, a = self.new(), self.new("a")
        branches = [self._inner(f"({a})", [a], scope, indent, depth, self.tame) for _ in range(3)]
        index = self.rng.choice([f"2*{self.pick(scope)} + 1", "1", f"3*{self.pick(scope)}"])
        self.say(indent, f"{name} = switch({index}, [{', '.join(branches)}], {self.pick(scope)})")
        scope.append(name)

    def _checkpoint(self, scope, indent, depth):
        name, a = self.new(), self.new("a")
        function = self._inner(f"({a})", [a], scope, indent, depth, self.tame)
        self.say(indent, f"{name} = checkpoint({function})({self.pick(scope)})")
        scope.append(name)

    def _grad(self, scope, indent, depth):
        name, q = self.new(), self.new("q")
        function = self._inner(f"({q})", [q], scope, indent, depth, self.tame)
        self.say(indent, f"{name} = tanh(grad({function})({self.pick(scope)}))")
        scope.append(name)

    def _vmap(self, scope, indent, depth):
        name, q = self.new(), self.new("q")
        function = self._inner(f"({q})", [q], scope, indent, depth, self.tame)
        over = self.rng.choice(["p", "A", f"array([{self.pick(scope)}, {self.pick(scope)}])"])
        how = self.rng.choice([f"vmap({function})({over}).sum()", f"vmap({function}, reduce='mean')({over})"])
        self.say(indent, f"{name} = tanh({how})")
        scope.append(name)


# How a function is called: with x, X (a batch of it), p, P.
MAINS = {
    "jit": "jit(f)(x, p)",
    "grad": "grad(f, argnums=(0, 1))(x, p)",
    "value_and_grad": "value_and_grad(f, argnums=1)(x, p)",
    "jacfwd": "jacfwd(f, argnums=1)(x, p)",
    "hessian": "hessian(f, argnums=(0, 1))(x, p)",
    "grad grad": "grad(lambda x, p: grad(f, argnums=1)(x, p).sum(), argnums=(0, 1))(x, p)",
    "hvp": "hvp(lambda x: f(x, p))(x, 0.7)",
    "jvp": "jvp(f, (x, p), (1.0, p))",
    "vmap": "vmap(f, in_axes=(0, None))(X, p)",
    "vmap of both": "vmap(f)(X, P)",
    "vmap of p": "vmap(f, in_axes=(None, 0))(x, P)",
    "vmap grad": "vmap(grad(f, argnums=(0, 1)), in_axes=(0, None))(X, p)",
    "vmap grad of both": "vmap(grad(f, argnums=(1, 0)))(X, P)",
    "grad of vmap": "grad(lambda x, p: vmap(f, in_axes=(0, None))(X + x, p).sum(), argnums=(0, 1))(x, p)",
    "grad by lanes": "grad(lambda X, p: vmap(f, in_axes=(0, None), reduce='sum')(X, p), argnums=(0, 1))(X, p)",
    "lanes one by one": "jit(lambda X, p: vmap(f, in_axes=(0, None))(X, p)[1])(X, p)",
    "grad of one lane": "grad(lambda x, p: vmap(f, in_axes=(0, None))(X, p)[2]*x + f(x, p), argnums=(0, 1))(x, p)",
    "vmap hessian": "vmap(hessian(f), in_axes=(0, None))(X, p)",
    "jvp of grad": "jvp(grad(f, argnums=1), (x, p), (0.3, p))",
    "vmap in vmap": "vmap(lambda x: vmap(lambda p: f(x, p))(P[:2]).sum())(X)",
}


def arguments(seed):
    rng = np.random.default_rng(seed)
    return {
        "x": float(rng.uniform(-1, 1)),
        "p": rng.uniform(-1, 1, 3),
        "X": rng.uniform(-1, 1, 4),
        "P": rng.uniform(-1, 1, (4, 3)),
        "A": rng.uniform(-1, 1, 3),
        "B": rng.uniform(-1, 1, (3, 2)),
    }


def plain(where, as_number):
    """Loops and branches of Python in place of recorded ones; unknown conditions become where()."""

    def tree_where(c, a, b):
        if isinstance(a, dict):
            return {key: tree_where(c, a[key], b[key]) for key in a}
        if isinstance(a, (tuple, list)):
            return type(a)(tree_where(c, x, y) for x, y in zip(a, b))
        return where(c, a, b)

    def scan(f, init, xs=None, length=None, reverse=False, checkpoint=None):
        steps = length if xs is None else len(xs)
        carry, ys = init, [None] * steps
        for t in reversed(range(steps)) if reverse else range(steps):
            carry, ys[t] = f(carry, None if xs is None else xs[t])
        return carry, None if ys[0] is None else np.stack(ys)

    def fori_loop(lower, upper, body, init):
        for i in range(lower, upper):
            init = body(float(i), init)
        return init

    def while_loop(test, body, init, max_steps):
        goes_on = True
        for _ in range(max_steps):
            goes_on = test(init) if goes_on is True else where(test(init), goes_on, 0.0)
            goes_on = as_number(goes_on)
            init = tree_where(goes_on, body(init), init)
        return init

    def switch(index, branches, *operands):
        results = [branch(*operands) for branch in branches]
        out = results[0]
        for k, result in enumerate(results[1:], 1):
            out = tree_where(index >= k, result, out)
        return out

    return {
        "scan": scan,
        "fori_loop": fori_loop,
        "while_loop": while_loop,
        "cond": lambda pred, one, other, *operands: tree_where(pred, one(*operands), other(*operands)),
        "switch": switch,
        "checkpoint": lambda f: f,
    }
