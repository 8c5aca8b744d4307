"""Functions with derivatives of their own, for random programs: over pygrad, over dual numbers, and over JAX.

The rules of `twist` and `bend` are not the derivatives of their functions, so a derivative that does not go by the rule
is noticed. Both use the function in the rule, so derivatives of any order go by it. `tilt` has the derivative's
formula, for a whole array. `cubic` and `knot` are solved, and differentiated as roots; their oracles are a closed form,
and many plain steps.
"""

from __future__ import annotations

import math

SCALAR = ["twist({}, {})", "bend({}, {})", "cubic({}, {})", "knot({}, {})"]  # elementwise on arrays


def twist_slopes(names, x, y, v):
    return names["cos"](x) * v * 0.5 + 0.25, names["tanh"](x) + y * 0.1


def bend_slopes(names, x, y, v):
    return names["tanh"](y) * 0.7 + v * 0.2, names["sin"](x + y)


def closed_form(names, a, b):
    """The root of x**3 + (1 + b**2) * x = a."""
    p = 1.0 + b * b
    u = names["asinh"](1.5 * a * math.sqrt(3.0) / (p * names["sqrt"](p))) / 3.0
    return names["sqrt"](p / 3.0) * (names["exp"](u) - names["exp"](-u))


def knot_steps(names, a, b, x):
    for _ in range(14):
        x = a - 0.3 * names["tanh"](b - 0.3 * names["sin"](x))
    return x


def in_pygrad(pg):
    """The functions over pygrad, whatever its transforms are."""
    names = vars(pg.math)
    detach = names["detach"]

    @pg.custom_jvp
    def twist(x, y):
        return names["sin"](x) * y

    @twist.defjvp
    def _twist_rule(primals, tangents):
        x, y = primals
        v = twist(x, y)
        dx, dy = twist_slopes(names, x, y, v)
        return v, dx * tangents[0] + tangents[1] * dy

    @pg.custom_vjp
    def bend(x, y):
        return names["atan"](x * y)

    def forward(x, y):
        v = bend(x, y)
        return v, {"slopes": bend_slopes(names, x, y, v)}

    bend.defvjp(forward, lambda kept, g: tuple([g * slope for slope in kept["slopes"]]))

    @pg.custom_vjp
    def tilt(x):
        return x * names["tanh"](sum(x))

    def tilt_back(x, g):
        t = names["tanh"](sum(x))
        return (g * t + sum(g * x) * (1.0 - t * t),)

    tilt.defvjp(lambda x: (tilt(x), x), tilt_back)

    def cubic(a, b):
        def solve(f, _x):
            x = closed_form(names, detach(a), detach(b))
            return x - f(x) / pg.grad(f)(x)

        return pg.custom_root(lambda x: x * x * x + (1.0 + b * b) * x - a, 0.0, solve)

    def knot(a, b):
        def step(x):
            return {"x": a - 0.3 * names["tanh"](x["y"]), "y": b - 0.3 * names["sin"](x["x"])}

        return pg.fixed_point(step, {"x": 0.0, "y": 0.0}, steps=28)["x"]

    found = {f.__name__: f for f in (twist, bend, cubic, knot)}
    return {**{name: lambda x, y, f=f: names["_elementwise"](f, x, y) for name, f in found.items()}, "tilt": tilt}


def in_duals(names, elementwise):
    """All but twist and bend, which are rows of the dual numbers' own table."""
    return {
        "cubic": lambda a, b: elementwise(lambda x, y: closed_form(names, x, y), a, b),
        "knot": lambda a, b: elementwise(lambda x, y: knot_steps(names, x, y, 0.0), a, b),
        "tilt": lambda x: x * names["tanh"](sum(x)),
    }


def in_jax(names):
    import jax
    import jax.numpy as jnp

    @jax.custom_jvp
    def twist(x, y):
        return jnp.sin(x) * y

    @jax.custom_jvp  # not custom_vjp, which JAX does not take forward
    def bend(x, y):
        return jnp.arctan(x * y)

    for f, slopes in ((twist, twist_slopes), (bend, bend_slopes)):

        @f.defjvp
        def _rule(primals, tangents, f=f, slopes=slopes):
            v = f(*primals)
            return v, sum(slope * t for slope, t in zip(slopes(names, *primals, v), tangents))

    def cubic(a, b):
        def solve(_f, _x):
            return closed_form(names, a, b)

        def residual(x):
            return x * x * x + (1.0 + b * b) * x - a

        return jax.lax.custom_root(residual, 0.0 * a, solve, lambda g, y: y / g(1.0))

    def knot(a, b):
        def residual(x):
            return knot_steps(names, a, b, x) - x

        return jax.lax.custom_root(residual, 0.0 * a, lambda _f, x: knot_steps(names, a, b, x), lambda g, y: y / g(1.0))

    elementwise = {f.__name__: jnp.vectorize(f) for f in (cubic, knot)}
    given = {name: lambda a, b, f=f: f(1.0 * a, 1.0 * b) for name, f in elementwise.items()}
    given.update({f.__name__: jnp.vectorize(lambda x, y, f=f: f(1.0 * x, 1.0 * y)) for f in (twist, bend)})
    return {**given, "tilt": lambda x: x * jnp.tanh(sum(x))}
