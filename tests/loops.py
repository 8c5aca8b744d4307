"""Random functions with loops and branches, as text, and plain versions of what they call."""

import random

import pytest

np = pytest.importorskip("numpy")

KINDS = ["plain", "scan", "scan", "scan of rows", "scan of values", "fori_loop", "while_loop", "cond", "switch"]
KINDS += ["checkpoint", "grad", "vmap", "stacked", "scan of a tree", "scan of a matrix", "grad of an array"]
KINDS += ["vmap of an array"]
FEATURES = {
    *KINDS,
    "results of steps",
    "results as a tree",
    "results that are given",
    "carried array",
    "carried as it is",
}


def triple(name):
    return [f"{name}[{k}]" for k in range(3)]


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

    def array(self, scope):
        """An array of three numbers, as it is or of them."""
        names = [name[:-3] for name in scope if name.endswith("[0]")]
        name = self.rng.choice([name for name in names if all(one in scope for one in triple(name))])
        return self.rng.choice([name, name, f"{name}[::-1]", f"{name}*1.5", f"tanh({name}*{self.pick(scope)})"])

    def condition(self, scope):
        return f"{self.pick(scope)} > {self.number()}"

    def block(self, scope, indent, depth, statements):
        for _ in range(statements):
            kind = self.rng.choice(KINDS if depth else ["plain"])
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
        """Its name, the names of its numbers, and what makes the next one, and the first."""
        c, kind = self.new("c"), self.rng.randrange(5)
        if kind == 0:
            return c, [c], self.tame, self.pick
        if kind == 1:
            next_one = lambda scope: f"array([{self.tame(scope)}, {self.tame(scope)}])"  # noqa: E731
            return c, [f"{c}[0]", f"{c}[1]"], next_one, lambda scope: f"array([{self.pick(scope)}, {self.number()}])"
        if kind == 2:
            self.features.add("carried array")
            return c, triple(c), lambda scope: f"tanh({self.array(scope)} + {c}*{self.pick(scope)})", self.array
        if kind == 3:
            self.features.add("carried as it is")
            next_one = lambda scope: f"({self.tame(scope)}, {c}[1], {c}[0])"  # noqa: E731
            names = [f"{c}[0]", f"{c}[1]"]  # not as an array's: they are a tuple's
            return c, names, next_one, lambda scope: f"({', '.join([self.pick(scope)] * 3)})"
        names = [f"{c}['a']", f"{c}['b'][0]"]
        pair = lambda scope: f"{{'a': {self.tame(scope)}, 'b': ({self.tame(scope)},)}}"  # noqa: E731
        return c, names, pair, lambda scope: f"{{'a': {self.pick(scope)}, 'b': ({self.number()},)}}"

    def _results(self, own, carried):
        """What a step gives besides the state, and the numbers of a step's."""
        kind = self.rng.randrange(5)
        if kind == 0:
            self.features.add("results as a tree")
            return f"({self.tame(own)}, {{'k': {self.tame(own)}}})", ["{}[0][{}]", "{}[1]['k'][{}]"]
        if kind == 1:
            self.features.add("results that are given")
            return self.rng.choice(carried), ["{}[{}]"]
        if kind < 4:
            self.features.add("results of steps")
            return self.tame(own), ["{}[{}]"]
        return "None", []

    def _scan(self, scope, indent, depth, xs="None", rows=(), steps=None):
        """rows: the names of a row's numbers, as of an r."""
        c, names, after, start = self._carry()
        r = self.new("r") if rows else "_"
        row_names = [name.replace("r", r, 1) for name in rows]
        places = []

        def result(own):
            given, found = self._results(own, [*names, *row_names])
            places.extend(found)
            return f"{after(own)}, {given}"

        first = start(scope)
        function = self._inner(f"({c}, {r})", [*names, *row_names], scope, indent, depth, result)
        length = ""
        if steps is None:
            steps = self.rng.choice([1, 2, 3, 3, 5, 7])
            length = f", length={steps}"
        options = f", reverse={self.rng.random() < 0.3}, checkpoint={self.rng.choice(['auto', None, 2, 3])!r}"
        last, ys = self.new("s"), self.new("y")
        self.say(indent, f"{last}, {ys} = scan({function}, {first}, {xs}{length}{options})")
        scope += [name.replace(c, last, 1) for name in names]
        for place in places:
            scope += [place.format(ys, k) for k in (range(3) if steps == 3 else [0, -1])]
            if self.rng.random() < 0.5:
                scope.append(f"sin({place.format(ys, ':')}).sum()")

    def _scan_of_rows(self, scope, indent, depth):
        self._scan(scope, indent, depth, self.rng.choice(["p", "A", "A[::-1]", "A*1.5"]), ["r"], 3)

    def _scan_of_values(self, scope, indent, depth):
        values = ", ".join(self.pick(scope) for _ in range(3))
        self._scan(scope, indent, depth, self.rng.choice([f"array([{values}])", self.array(scope)]), ["r"], 3)

    def _stacked(self, scope, indent, depth):
        self._scan(scope, indent, depth, self.rng.choice(["B", "B[::-1]", "C.T"]), ["r[0]", "r[1]"], 3)

    def _scan_of_a_tree(self, scope, indent, depth):
        arrays = f"{{'a': {self.array(scope)}, 'b': (B, None)}}"
        self._scan(scope, indent, depth, arrays, ["r['a']", "r['b'][0][0]", "r['b'][0][1]"], 3)

    def _scan_of_a_matrix(self, scope, indent, depth):
        """Its rows may be scanned within."""
        matrix = f"array([{self.array(scope)}, {self.array(scope)}])"
        if self.rng.random() < 0.5:
            self._scan(scope, indent, depth, matrix, triple("r"), 2)
        else:
            self._scan(scope, indent, depth, f"{matrix}.T", ["r[0]", "r[1]"], 3)

    def _grad_of_an_array(self, scope, indent, depth):
        name, q = self.new(), self.new("q")
        function = self._inner(f"({q})", triple(q), scope, indent, depth, self.tame)
        self.say(indent, f"{name} = tanh(grad({function})({self.array(scope)}))")
        scope += triple(name)

    def _vmap_of_an_array(self, scope, indent, depth):
        name, q = self.new(), self.new("q")
        function = self._inner(f"({q})", [q], scope, indent, depth, self.tame)
        self.say(indent, f"{name} = vmap({function})({self.array(scope)})")
        scope += triple(name)

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
        over = self.rng.choice(["p", "A", self.array(scope), f"array([{self.pick(scope)}, {self.pick(scope)}])"])
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
        "C": rng.uniform(-1, 1, (2, 3)),
    }


def tree_map(fn, first, *more):
    if isinstance(first, dict):
        return {key: tree_map(fn, first[key], *(x[key] for x in more)) for key in first}
    if isinstance(first, (tuple, list)):
        return type(first)(tree_map(fn, *parts) for parts in zip(first, *more))
    return None if first is None else fn(first, *more)


def _rows(xs):
    counts = []
    tree_map(lambda x: counts.append(len(x)), xs)
    return counts[0]


def plain(where, as_number):
    """Loops and branches of Python in place of recorded ones; unknown conditions become where()."""

    def tree_where(c, a, b):
        return tree_map(lambda x, y: where(c, x, y), a, b)

    def scan(f, init, xs=None, length=None, reverse=False, checkpoint=None):
        steps = _rows(xs) if length is None else length
        carry, ys = init, [None] * steps
        for t in reversed(range(steps)) if reverse else range(steps):
            carry, ys[t] = f(carry, tree_map(lambda x, t=t: x[t], xs))
        return carry, tree_map(lambda *rows: np.stack(rows), *ys)

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


def of_pygrad(pg):
    """What programs call, of pygrad: its own loops and branches, and plain ones."""
    names = "jit grad value_and_grad jacfwd hessian hvp jvp vmap jacobian jacrev vjp linearize custom_vjp custom_jvp "
    both = {name: getattr(pg, name) for name in (names + "fixed_point Value").split()}
    both.update({name: getattr(pg.math, name) for name in ("sin", "cos", "tanh", "exp", "where")})
    both.update({"array": np.stack, "np": np, "tree_leaves": lambda tree: pg.tree_flatten(tree)[0]})
    ours = {name: getattr(pg, name) for name in ("scan", "fori_loop", "while_loop", "cond", "switch", "checkpoint")}
    others = plain(pg.math.where, lambda c: pg.math.where(c, 1.0, 0.0))
    return {**both, **ours}, {**both, **others}


def of_jax(is_forward):
    """The same of JAX; is_forward: its while_loop, which has no reverse mode, else a scan in its place."""
    import jax
    import jax.numpy as jnp

    def bounded(test, body, init, max_steps):
        def one(state, _):
            return jax.lax.cond(test(state), body, lambda s: s, state), None

        return jax.lax.scan(one, init, None, length=max_steps)[0]

    def while_loop(test, body, init, max_steps):
        go_on = lambda s: (s[0] < max_steps) & test(s[1])  # noqa: E731
        return jax.lax.while_loop(go_on, lambda s: (s[0] + 1, body(s[1])), (0, init))[1]

    def vmap(fn, in_axes=0, out_axes=0, reduce=None):
        mapped = jax.vmap(fn, in_axes, out_axes)
        over = {None: lambda y: y, "sum": lambda y: y.sum(0), "mean": lambda y: y.mean(0)}[reduce]
        return lambda *args: jax.tree_util.tree_map(over, mapped(*args))

    def scan(f, init, xs=None, length=None, reverse=False, checkpoint=None):
        return jax.lax.scan(f, init, jax.tree_util.tree_map(jnp.asarray, xs), length=length, reverse=reverse)

    def switch(index, branches, *operands):
        return jax.lax.switch(jnp.asarray(jnp.trunc(index), int), branches, *operands)

    names = ("jit", "grad", "value_and_grad", "jacfwd", "hessian", "jvp", "checkpoint", "vjp", "linearize")
    return {
        **{name: getattr(jax, name) for name in names},
        **{name: getattr(jnp, name) for name in ("sin", "cos", "tanh", "exp", "where")},
        "array": jnp.stack,
        "np": jnp,
        "vmap": vmap,
        "scan": scan,
        "fori_loop": jax.lax.fori_loop,
        "while_loop": while_loop if is_forward else bounded,
        "cond": jax.lax.cond,
        "switch": switch,
        "hvp": lambda f: lambda x, v: jax.jvp(jax.grad(f), (x,), (v,))[1],
        "tree_leaves": jax.tree_util.tree_leaves,
    }


def run(text, main, namespace, given):
    """The numbers that a call gives, as arrays."""
    names = {**namespace, **given}
    exec(text, names)
    return [np.asarray(leaf, dtype=float) for leaf in names["tree_leaves"](eval(main, names))]


def differ(one, other, tolerance=1e-7):
    return len(one) != len(other) or any(
        a.shape != b.shape or not np.allclose(a, b, rtol=tolerance, atol=0.1 * tolerance, equal_nan=True)
        for a, b in zip(one, other)
    )
