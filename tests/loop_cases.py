"""Functions f(x, p) with loops that are hard to record, as text: see loops.py for what they call."""

CASES = {
    "carried numbers that are the same": """
    return sum(scan(lambda c, _: ((c[0] * x, c[0]), None), (x, x), length=4)[0])
""",
    "a number carried as it is": """
    return scan(lambda c, _: (c, c * x), x, length=3)[1].sum()
""",
    "results that are what is carried": """
    return scan(lambda c, r: (c * r, c), x, p)[1].sum()
""",
    "results that are the rows": """
    return scan(lambda c, r: (c, r), x, p)[1].sum() * scan(lambda c, r: (c, r), x, p)[0]
""",
    "constants only": """
    return (
        x * scan(lambda c, _: (c * 0.5 + 1, 2.0), 1.0, length=3)[0] * p[0]
        + scan(lambda c, _: (c * 0.5 + 1, 2.0), 1.0, length=3)[1].sum()
    )
""",
    "loops and branches that nobody uses": """
    scan(lambda c, r: (c * r, c), x, p)
    while_loop(lambda c: c < 3.0, lambda c: c + 1.0, x, max_steps=5)
    cond(x > 0, lambda: p[0], lambda: p[1])
    return x * p[1]
""",
    "a step used by two loops": """
    def step(c, r):
        return c * r + x * c, c * c

    a, ys = scan(step, x, p)
    b, zs = scan(step, a, ys)
    return a * b + zs[0] * ys[2]
""",
    "a variable of a derivative that is captured": """
    return grad(lambda q: scan(lambda c, _: (c * q * x, None), q, length=3)[0])(x)
""",
    "an element of a variable": """
    return (grad(lambda q: scan(lambda c, _: (c + q[1] * q[1] * c * 0.1, None), x, length=3)[0])(p) * p).sum()
""",
    "an element of a variable, used outside later": """
    return (
        grad(lambda q: scan(lambda c, _: (c + q[1] * c * 0.1, None), x, length=3)[0] * q[1] * q[0])(p) * p
    ).sum()
""",
    "an element of a variable, used outside before": """
    return (
        grad(lambda q: q[1] * q[0] * scan(lambda c, _: (c + q[1] * c * 0.1, None), x, length=3)[0])(p) * p
    ).sum()
""",
    "a vmap's result that is captured": """
    v = vmap(lambda a: a * x)(p)
    return scan(lambda c, _: (c + v[1] * c, None), x, length=3)[0]
""",
    "a vmap over lanes within a step": """
    v = vmap(lambda a: a * x)(p)
    return scan(lambda c, _: (vmap(lambda a: sin(a * c))(v).sum(), None), x, length=3)[0] + v[1]
""",
    "a vmap over an argument within a step": """
    return scan(lambda c, _: (vmap(lambda a: sin(a * c))(p).sum(), None), x, length=3)[0]
""",
    "a vmap over a strided view, in two loops": """
    return scan(
        lambda c, _: (
            scan(lambda d, _: (vmap(lambda a: sin(a * c + d))(p[::2]).sum(), None), c, length=2)[0],
            None,
        ),
        x,
        length=3,
    )[0]
""",
    "a vmap over a reversed view, in two loops": """
    return scan(
        lambda c, _: (
            scan(lambda d, _: (vmap(lambda a: sin(a * c + d))(p[::-1]).sum(), None), c, length=2)[0],
            None,
        ),
        x,
        length=3,
    )[0]
""",
    "a vmap over columns, in two loops": """
    return scan(
        lambda c, _: (
            scan(lambda d, _: (vmap(lambda a: sin(a[0] * c + d * a[2]))(B.T).sum(), None), c, length=2)[0],
            None,
        ),
        x,
        length=3,
    )[0]
""",
    "rows and elements of a gradient": """
    g = grad(lambda q: (q * q * q * x).sum())(p)
    return scan(lambda c, r: (c * r + g[0], c), x, g)[0] + g[1]
""",
    "a vmap over a gradient within a step": """
    g = grad(lambda q: (q * q * q * x).sum())(p)
    return scan(lambda c, r: (c + vmap(lambda a: a * c * r)(g).sum(), c), x, g)[0]
""",
    "rows of a tree": """
    v = vmap(lambda a: a * x)(p)
    return scan(lambda c, r: (c * r["b"][1] + r["a"], c * r["a"]), x, {"a": v, "b": B})[1].sum()
""",
    "rows of rows": """
    M = np.outer(p, p * x)
    return scan(lambda c, r: (scan(lambda d, s: (d * s + c, d), c, r)[0], None), x, M)[0]
""",
    "rows of rows, turned": """
    M = np.outer(p, p * x)
    return scan(lambda c, r: (scan(lambda d, s: (d * s + c, d), c, r)[0], None), x, M.T[::-1])[0]
""",
    "rows of three dimensions": """
    T = np.outer(B, p).reshape(3, 2, 3) * x
    return scan(lambda c, r: (scan(lambda d, s: (d * s[0] + c * s.sum(), d), c, r)[0], None), x, T)[0]
""",
    "a closure over lanes": """
    return vmap(lambda a: scan(lambda c, _: (c * a + x, None), a, length=3)[0])(p).sum()
""",
    "a vmap in a loop in a vmap": """
    return vmap(lambda a: scan(lambda c, _: (c + vmap(lambda b: sin(b * a * c))(p).sum(), None), a, length=3)[0])(
        p
    ).sum()
""",
    "lanes that end apart": """
    return vmap(
        lambda a: while_loop(
            lambda s: s[0] < 2.0, lambda s: (s[0] + 0.3 + a * a, s[1] * a + x), (a, x), max_steps=9
        )[1]
    )(p).sum()
""",
    "a branch in a loop in a vmap": """
    return vmap(
        lambda a: scan(lambda c, r: cond(c > r, lambda c, a: (c * a, c), lambda c, a: (c + r * a, a), c, a), x, p)[
            1
        ].sum()
    )(p).sum()
""",
    "a derivative by what is carried": """
    return scan(lambda c, r: (grad(lambda q: q * q * c * r + sin(q) * x)(c), None), x, p)[0]
""",
    "a second derivative in a step": """
    return scan(lambda c, r: (hessian(lambda q: q * q * q * c * r + sin(q) * x)(c), None), x, p)[0]
""",
    "a jvp in a step": """
    return scan(lambda c, r: (jvp(lambda q: q * q * c * r + sin(q) * x, (c,), (r,))[1], None), x, p)[0]
""",
    "a vjp used twice in a step": """
    def step(c, r):
        v, back = vjp(lambda q, s: q * q * c * s + sin(q) * x, c, r)
        a, b = back(1.0)
        d, e = back(c)
        return a * b + e, d

    return scan(step, x, p)[1].sum()
""",
    "a linearization used twice in a step": """
    def step(c, r):
        v, push = linearize(lambda q, s: q * q * c * s + sin(q) * x, c, r)
        return push(1.0, c) + push(r, x), v

    return scan(step, x, p)[1].sum()
""",
    "a jit in a step": """
    return scan(lambda c, r: (jit(lambda a, b: sin(a * b) + x)(c, r), None), x, p)[0]
""",
    "a loop that captures another's state": """
    return scan(lambda c, r: (scan(lambda d, s: (d * c * s + r, c), c * x, p)[0], c), x, p)[1].sum()
""",
    "branches that read nothing": """
    a = cond(x > 0.1, lambda: 1.0, lambda: 2.0)
    b = cond(x > 0.1, lambda y: y, lambda y: y, x)
    c = cond(x < 0.1, lambda y: p[0], lambda y: 3.0, x)
    return a * b + c * x
""",
    "an index that is nan or large": """
    return (
        switch(0.0 / (x * 0.0), [lambda y: y, lambda y: y * y], x)
        + switch(x * 1e300, [lambda y: y, lambda y: y * y, lambda y: p[1] * y], x)
        + switch(x, [lambda: x])
    )
""",
    "trees from checkpoint": """
    a, b = checkpoint(lambda q: (sin(q) * x, {"a": q * p[1]}))(p[0])
    return a * b["a"] + checkpoint(lambda q: checkpoint(lambda r: sin(r * q))(q * x))(x)
""",
    "checkpoint and loops in each other": """
    return checkpoint(lambda q: scan(lambda c, r: (checkpoint(lambda c: sin(c * q * r))(c), None), q, p)[0])(x)
""",
    "checkpoint in lanes": """
    return (
        vmap(lambda a: checkpoint(lambda q: sin(q * a) * x)(a))(p).sum()
        + vmap(lambda a: checkpoint(lambda q: sin(q))(x))(p).sum()
    )
""",
    "nothing carried": """
    return scan(lambda c, r: (None, r * x), None, p)[1].sum()
""",
    "empty trees": """
    return (
        scan(lambda c, r: ({}, r * x), {}, p)[1].sum() + scan(lambda c, r: ((), (r * x, None)), (), p)[1][0].sum()
    )
""",
    "ints, bools and NumPy's scalars": """
    return (
        scan(lambda c, r: (c * r, c + 1), 1, p)[1].sum() * x
        + scan(lambda c, r: (c * r, 1), True, p)[0]
        + scan(lambda c, r: (c * r, True), np.float32(2), p)[0]
    )
""",
    "a matrix": """
    M = np.outer(p, p)
    return scan(lambda c, _: (np.sin(c @ M), c.sum()), M * x, length=3)[1].sum()
""",
    "an argument that is carried": """
    return scan(lambda c, r: (np.sin(c * r), c[1]), p, p)[1].sum() * x
""",
    "rows without numbers": """
    return scan(lambda c, r: (c * x, c.sum()), p, np.zeros((3, 0)))[1].sum()
""",
    "an array without dimensions": """
    return scan(lambda c, r: (np.asarray(c) * x, c), np.array(0.5), p)[0] * p[0]
""",
    "rows of stacked values": """
    return scan(lambda c, r: (c * r[0] + r[1] * x, r), x, np.stack([p, p * x], axis=1))[1].sum()
""",
    "rows of stacked values, turned": """
    return scan(lambda c, r: (c * r[0] + r[1] * x, r), x, np.stack([p, p * x]).T[::-1])[1][0, 1]
""",
    "elements in a step": """
    return scan(lambda c, r: (c * p[0] + p[1] * c + p[2] * p[1] + A[1], None), x, length=4)[0]
""",
    "an element used in a step, then outside": """
    a = scan(lambda c, r: (c * p[0], None), x, length=2)[0]
    return a * p[0] + p[1]
""",
    "computed elements": """
    q = p * 2
    a = scan(lambda c, r: (c * q[0] + (q * c).sum(), None), x, length=2)[0]
    return a * q[0]
""",
    "rows of lanes": """
    v = vmap(lambda a, b: a * x + b)(p, B)
    return scan(lambda c, r: (c * r[0] + r[1], v[0, 1]), x, v)[0]
""",
    "rows of lanes, reversed": """
    v = vmap(lambda a, b: a * x + b)(p, B)
    return scan(lambda c, r: (c * r[0] + r[1], v[0, 1]), x, v[::-1])[1].sum()
""",
    "lanes of lanes in a step": """
    v = vmap(lambda a, b: a * x + b)(p, B)
    return scan(lambda c, r: (c + vmap(lambda w: (w * r[0] * c).sum())(v).sum(), v[0, 1]), x, v[:, ::-1])[0]
""",
    "a condition that always holds": """
    return while_loop(lambda c: True, lambda c: sin(c * p[0]) + x, x, max_steps=4)
""",
    "a condition that never holds": """
    return while_loop(lambda c: False, lambda c: sin(c * p[0]) + x, x, max_steps=4) * p[1]
""",
    "a condition from outside": """
    return while_loop(lambda c: x < 5, lambda c: sin(c * p[0]) + x, x, max_steps=4)
""",
    "a loop in a while_loop": """
    return while_loop(
        lambda c: c[0] < 2.5,
        lambda c: (c[0] + 1.0, scan(lambda d, r: (sin(d * r) + c[0] * x, None), c[1], p)[0]),
        (0.0, x),
        max_steps=6,
    )[1]
""",
    "a while_loop in a loop": """
    return scan(
        lambda c, r: (
            while_loop(lambda s: s < 2.0, lambda s: s + 0.5 + c * c * 0.1 + p[0] ** 2, r + c, max_steps=8),
            c,
        ),
        x,
        p,
    )[0]
""",
    "a derivative of a vmap of loops": """
    def g(q):
        return vmap(lambda a: scan(lambda c, r: (sin(c * a * r + q[1]), None), a, q)[0])(q).sum()

    return (grad(g)(p) * p).sum() * x
""",
    "a derivative by what a step maps over": """
    def g(q):
        return scan(lambda c, r: (c + vmap(lambda a: sin(a * c))(q).sum(), None), x, length=3)[0]

    return (grad(g)(p) * p).sum() * x
""",
    "a derivative by lanes and elements": """
    def g(q):
        v = vmap(lambda a: a * a * x)(q)
        return scan(lambda c, r: (c + vmap(lambda a: sin(a * c))(v).sum() + v[1], None), x, length=3)[0]

    return (grad(g)(p) * p).sum() * x
""",
    "a derivative of a loop in a step": """
    def step(c, r):
        g = lambda q: scan(lambda d, s: (sin(d * s * q + c), None), q, p)[0]
        return grad(g)(r * c), None

    return scan(step, x, p)[0]
""",
    "a derivative by an array in a step": """
    def step(c, r):
        g = lambda q: scan(lambda d, s: (sin(d * s * q[1] + c), None), q[0], q)[0]
        return grad(g)(p * c)[1] * r, None

    return scan(step, x, p)[0]
""",
    "rows in reverse": """
    return (
        scan(lambda c, r: (c * r, None), x, p, reverse=True)[0]
        + (scan(lambda c, r: (c * r, c * r), x, p, reverse=True)[1] * p).sum()
    )
""",
    "bounds of fori_loop": """
    return (
        fori_loop(0, 3, lambda i, c: c * p[0] + i * x, 1)
        + fori_loop(3, 0, lambda i, c: c * p[0], x)
        + fori_loop(2, 3, lambda i, c: i, x)
    )
""",
    "kept states, with a rest": """
    n = scan(lambda c, _: (c * x, None), 1.0, length=17, checkpoint=4)[0]
    m = scan(lambda c, r: (sin(c * r), c), x, np.concatenate([p] * 6)[:17], checkpoint=5, reverse=True)
    return n + m[0] + m[1][3] + m[1].sum()
""",
    "vmaps in each other": """
    return vmap(lambda a: vmap(lambda b: scan(lambda c, r: (sin(c * r * a + b), None), x, p)[0])(p).sum())(p).sum()
""",
    "elements of lanes of a loop's results": """
    v = vmap(lambda a: scan(lambda c, r: (sin(c * r * a), c), x, p)[1])(p)
    return v[0, 2] * v[1].sum() + v[:, 1].sum()
""",
    "a loop over a vmap's results, turned": """
    v = vmap(lambda a: scan(lambda c, r: (sin(c * r * a), c), x, p)[1], out_axes=1)(p)
    return scan(lambda c, r: (c * r.sum() + x, None), x, v)[0]
""",
    "rows of a vmapped matrix": """
    return vmap(lambda r: scan(lambda c, s: (c * s + x, None), x, r)[0], in_axes=1)(np.outer(p, p * x)).sum()
""",
    "rows of a matrix of constants": """
    return vmap(lambda r: scan(lambda c, s: (c * s + x, None), x, r)[0], in_axes=1)(B).sum() * p[0]
""",
    "an argument that is mapped over and not": """
    return vmap(lambda r, s: scan(lambda c, t: (c * t + s, None), x, r)[0], in_axes=(None, 0))(p, p).sum()
""",
    "a closure over a lane in a branch": """
    return vmap(lambda a: scan(lambda c, r: (cond(r > 0, lambda: a * c, lambda: c + a), None), x, p)[0])(p).sum()
""",
    "a loop that is the same in all lanes": """
    return vmap(lambda a: scan(lambda c, r: (c * r + x, None), x, p)[0] * a)(p).sum()
""",
    "a state that lanes make": """
    return vmap(lambda a: scan(lambda c, _: (c * a, c), 1.0, length=3)[1].sum())(p).sum() * x
""",
    "branches that are the same in all lanes": """
    return vmap(lambda a: switch(3 * a, [lambda: x, lambda: x * x, lambda: 1.0]))(p).sum()
""",
    "branches of lanes": """
    return vmap(lambda a: cond(x > 0, lambda: a * x, lambda: a * a))(p).sum()
""",
    "bounds of lanes": """
    return vmap(lambda a: while_loop(lambda s: s < 1.0 + a, lambda s: s + 0.25, x, max_steps=20))(p).sum()
""",
    "a jacobian in lanes": """
    return sum(
        vmap(lambda a: scan(lambda c, r: (jacobian(lambda q: [q * q * a, sin(q) * c])(c)[0], None), x, p)[0])(p)
    )
""",
    "hessians and jacobians of loops": """
    h = hessian(lambda q: scan(lambda c, r: (sin(c * r), None), x, q)[0])(p)
    return (h * h).sum() + jacobian(lambda q: scan(lambda c, r: (sin(c * r), c), x, q)[1])(p).sum()
""",
    "a fixed point in a step": """
    return scan(lambda c, r: (fixed_point(lambda z: 0.3 * sin(z) + c * r, 0.0), c), x, p)[1].sum()
""",
    "the same expression within and outside": """
    y = x * p[0]
    return scan(lambda c, r: (x * p[0] * c, y), y, p)[1].sum() + y
""",
    "numbers that change places": """
    return scan(lambda c, r: ((c[1], c[2], c[0]), c[1]), (x, p[0], p[1]), length=4)[1].sum() * p[2]
""",
    "lists and Nones": """
    return scan(lambda c, r: ([c[0] * c[1], c[1]], {"k": c[0], "n": [None, r]}), [x, p[0]], p)[1]["k"].sum()
""",
    "copies of rows": """
    return scan(lambda c, r: (c * (r * 1.0) + c * 1.0, None), x, p)[0]
""",
    "comparisons as results": """
    return (
        scan(lambda c, r: (where(c > r, c * x, r * x), c > r), x, p)[1].sum() * x
        + scan(lambda c, r: (where(c > r, c * x, r * x), c > r), x, p)[0]
    )
""",
    "results as bounds": """
    n = scan(lambda c, r: (c + r * r, None), x, p)[0]
    return while_loop(lambda s: s < n, lambda s: s + 0.25 + n * 0.01, x, max_steps=30) * n
""",
    "a mean over lanes": """
    return vmap(lambda a: fori_loop(0, 3, lambda i, c: sin(c * a + i), x), reduce="mean")(p)
""",
    "a sum of loops in a step": """
    return scan(
        lambda c, r: (vmap(lambda a: scan(lambda d, s: (sin(d * s * a), None), c, p)[0], reduce="sum")(p), None),
        x,
        length=2,
    )[0]
""",
    "a while_loop in lanes in a loop": """
    return scan(
        lambda c, r: (
            c
            + vmap(lambda a: while_loop(lambda s: s < 1.0, lambda s: s + 0.4 + c * c, a * r, max_steps=9))(p).sum()
            * 0.1,
            None,
        ),
        x,
        p,
    )[0]
""",
    "rows and products of a matrix": """
    M = np.outer(p, p) * x
    return scan(lambda c, r: (vmap(lambda row: (row * c).sum())(M).sum() + (M @ r).sum(), r), x, M)[0]
""",
    "a vmap over a row in an inner loop": """
    return (
        scan(
            lambda c, r: (scan(lambda d, _: (vmap(lambda a: sin(a * d))(r).sum(), None), c, length=2)[0], None),
            x,
            B,
        )[0]
        * p[0]
    )
""",
    "lanes and elements of a row": """
    return (
        scan(
            lambda c, r: (vmap(lambda a: sin(a * c))(r).sum() + r[0] * c + (r * r).sum(), r[1]),
            x,
            np.concatenate([B, B]),
        )[0]
        * p[0]
    )
""",
    "a vmap over a row that is computed": """
    return (
        scan(
            lambda c, r: (vmap(lambda a: sin(a * c))(r.T).sum() + r[0] * c + (r * r).sum(), r[1]),
            x,
            np.array([[B, B * 2], [B * 3, B * 4]])[:, :, 1, 0],
        )[0]
        * p[0]
    )
""",
    "a vmap by a variable, in a step": """

    def step(c, r):
        g = grad(lambda q: vmap(lambda b: sin(b * c))(q).sum())(p)
        return c + g[1] * r, g[2]

    last, rows = scan(step, x, A)
    return last * rows[1]
""",
    "arrays in a branch of lanes": """

    def branch(a):
        def step(c, r):
            return c * 0.5 + r[1] * vmap(lambda q: sin(q * c))(p).sum(), r[0] + p[1]

        last, rows = scan(step, x, B)
        return last * rows[1]

    return vmap(lambda a: cond(a > 0.1, branch, lambda a: a * a, a))(p).sum()
""",
    "lanes of the vmap around, in a vmap in a step": """

    def step(c, r):
        v = vmap(lambda q: sin(q * r) + x)(p)
        return c * 0.5 + v[0] * v[2], v[1]

    last, rows = scan(step, p[0], A)
    return last + rows[1]
""",
    "a custom_vjp that is not the derivative": """
    cube = custom_vjp(lambda a, b: a * a * b)
    cube.defvjp(lambda a, b: (a * a * b, (a, b)), lambda s, g: (g * 2 * s[0] * s[1], g * s[0] * s[0] * 3.0))
    return scan(lambda c, r: (cube(c, r) + x, None), x, p)[0]
""",
    "a custom_jvp that is not the derivative": """
    cube = custom_jvp(lambda a, b: a * a * b)
    cube.defjvp(lambda pr, t: (pr[0] * pr[0] * pr[1], 2 * pr[0] * pr[1] * t[0] + 3 * pr[0] * pr[0] * t[1]))
    return scan(lambda c, r: (cube(c, r) + x, None), x, p)[0]
""",
}
