"""Recorded functions travel: pickle, cloudpickle, copies, other processes, Dask; and arrays come as they are."""

from __future__ import annotations

import copy
import dataclasses
import functools
import pickle
import sys
import textwrap
import types
from typing import Any, NamedTuple

import helpers
import pytest

np = pytest.importorskip("numpy")

X = np.array([1.0, 2.0, 3.0])


class Pair(NamedTuple):
    a: Any
    b: Any


@dataclasses.dataclass
class Scaled:
    w: Any
    k: Any = dataclasses.field(default=2, metadata={"static": True})


def square(x, y=1.0):
    return (x * x * y).sum() if getattr(x, "shape", ()) else x * x * y


def residuals(x):
    return [x[0] * x[1], {"s": x.sum(), "n": None}]


def of_classes(t, scale):
    return Scaled(t.a * scale + t.b.w**t.b.k, t.b.k)


def repeated(x, n):
    return sum(x**k for k in range(n))


def with_aux(x):
    return square(x), {"x": x}


# Each: how it is made, calls of it as (arguments, arguments by name).
CASES = {
    "jit": (lambda pg: pg.jit(square), [((2.0,), {}), ((X,), {"y": 3.0})]),
    "jit, eager": (lambda pg: pg.jit(square, record=False), [((2.0,), {"y": 3.0})]),
    "jit, static": (lambda pg: pg.jit(repeated, static_argnames="n"), [((2.0, 3), {}), ((2.0,), {"n": 4})]),
    "jit of classes": (lambda pg: pg.jit(of_classes), [((Pair(1.0, Scaled(X, k)), 2.0), {}) for k in (2, 3)]),
    "grad": (lambda pg: pg.grad(square, argnums=(1, 0)), [((2.0, 3.0), {}), ((X, 3.0), {})]),
    "grad, aux": (lambda pg: pg.grad(with_aux, has_aux=True), [((X,), {})]),
    "value_and_grad": (lambda pg: pg.value_and_grad(square), [((X,), {"y": 2.0})]),
    "vmap": (lambda pg: pg.vmap(square, in_axes=(0, None)), [((X, 2.0), {})]),
    "vmap, reduced": (lambda pg: pg.vmap(pg.grad(square), reduce="mean", workers=2), [((X,), {})]),
    "vmap, out_axes": (lambda pg: pg.vmap(lambda_free, out_axes=1), [((np.ones((3, 2)),), {})]),
    "jacobian": (lambda pg: pg.jacobian(residuals), [((X,), {})]),
    "jacrev": (lambda pg: pg.jacrev(residuals), [((X,), {})]),
    "jacfwd": (lambda pg: pg.jacfwd(residuals), [((X,), {})]),
    "hessian": (lambda pg: pg.hessian(square), [((X,), {})]),
    "hvp": (lambda pg: pg.hvp(square), [((X, X), {}), ((X, X, 2.0), {})]),
    "jit of grad of vmap": (lambda pg: pg.jit(pg.grad(pg.vmap(square, reduce="sum"))), [((X,), {})]),
    "vjp": (lambda pg: pg.vjp(residuals, X)[1], [(([1.0, {"s": 2.0, "n": None}],), {})]),
    "vjp, eager": (lambda pg: pg.vjp(residuals, X, record=False)[1], [(([1.0, {"s": 2.0, "n": None}],), {})]),
    "linearize": (lambda pg: pg.linearize(residuals, X)[1], [((X,), {})]),
    "partial": (lambda pg: functools.partial(pg.jit(square), y=4.0), [((2.0,), {})]),
}


def lambda_free(x):
    return x * 2.0


def alike(a, b):
    if isinstance(a, np.ndarray):
        return type(b) is np.ndarray and np.array_equal(a, b)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(alike(a[k], b[k]) for k in a)
    if isinstance(a, Scaled):
        return type(a) is type(b) and a.k == b.k and alike(a.w, b.w)
    return type(a) is type(b) and a == b


WAYS_THROUGH = {
    "pickle": lambda f: pickle.loads(pickle.dumps(f)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "cloudpickle": lambda f: pickle.loads(pytest.importorskip("cloudpickle").dumps(f)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("through", WAYS_THROUGH.values(), ids=WAYS_THROUGH)
def test_every_transform_is_the_same_after_a_round_trip(pg, name, through):
    make, calls = CASES[name]
    expected = [make(pg)(*args, **keywords) for args, keywords in calls]
    f = make(pg)
    before = through(f)
    called = [f(*args, **keywords) for args, keywords in calls]
    assert alike(called, expected)
    after = through(f)
    again = through(after)
    for g in (before, after, again):
        for _ in range(2):
            assert alike([g(*args, **keywords) for args, keywords in calls], expected)


@pytest.mark.parametrize("through", WAYS_THROUGH.values(), ids=WAYS_THROUGH)
def test_programs_travel_with_their_function(pg, through, monkeypatch):
    f = pg.jit(square)
    f(2.0), f(X, 3.0), f(2.0, y=4.0)
    g = through(f)
    assert len(g.programs) == 3 and str(g.programs[0]) == str(f.programs[0]) and ": return" in str(g.programs[0])
    monkeypatch.setattr(pg._record.function, "_record", None)  # nothing is recorded
    assert (g(2.0), g(X, 3.0), g(2.0, y=4.0)) == (4.0, 42.0, 16.0)


def test_functions_by_value(pg):
    cloudpickle = pytest.importorskip("cloudpickle")
    k, w = 3.0, pg.Value(2.0)
    f = pg.grad(lambda x: x * x * k + x * w)
    for _ in range(2):
        g = pickle.loads(cloudpickle.dumps(f))
        assert g(1.0) == f(1.0) == 8.0
    w.data = 5.0
    assert (f(1.0), g(1.0)) == (11.0, 8.0)  # a copy of the Value, which is its own
    kept, h = pickle.loads(cloudpickle.dumps((w, f)))
    kept.data = 7.0
    assert h(1.0) == 13.0


def test_a_function_whose_name_its_decorator_has_taken(pg, monkeypatch):
    module = types.ModuleType("decorated_functions")
    monkeypatch.setitem(sys.modules, "decorated_functions", module)
    exec(
        textwrap.dedent("""
            import pygrad
            @pygrad.jit
            def one(x): return x * x
            @pygrad.jit(workers=2)
            @pygrad.grad
            def two(x): return x ** 3
            class A:
                k = 2.0
                @pygrad.grad
                def f(self, x): return self.k * x * x
        """),
        module.__dict__,
    )
    for _ in range(2):
        for through in (lambda f: pickle.loads(pickle.dumps(f)), copy.deepcopy):
            assert through(module.one)(3.0) == 9.0 and through(module.two)(2.0) == 12.0
            assert through(module.two.__wrapped__)(2.0) == 12.0
            assert through(module.A().f)(3.0) == 12.0
        module.one(1.0), module.two(1.0), module.A().f(1.0)


def test_programs_of_another_version_of_the_code_stay_behind(pg, monkeypatch):
    module = types.ModuleType("versions")
    monkeypatch.setitem(sys.modules, "versions", module)
    texts = [
        "K = 2.0\ndef g(x): return x\ndef f(x): return K * g(x)",
        "K = 3.0\ndef g(x): return x\ndef f(x): return K * g(x)",
        "K = 2.0\ndef g(x): return x + 1\ndef f(x): return K * g(x)",
        "K = 2.0\ndef g(x): return x\ndef f(x): return K * g(x) * x",
        "K = 2.0\ndef g(x, y=1.0): return x + y\ndef f(x): return K * g(x)",
        "K = [2.0]\ndef g(x): return x\ndef f(x): return K[0] * g(x)",
        "K = [5.0]\ndef g(x): return x\ndef f(x): return K[0] * g(x)",
        "import numpy\nK = numpy.array([5.0])\ndef g(x): return x\ndef f(x): return K[0] * g(x)",
        "import numpy\nK = numpy.array([6.0])\ndef g(x): return x\ndef f(x): return K[0] * g(x)",
    ]
    rule = (
        "import pygrad\n@pygrad.custom_vjp\ndef h(x): return x\nh.defvjp(lambda x: (x, 1.0), lambda r, g: ({} * g,))\n"
    )
    texts += [rule.format(k) + "g = pygrad.grad(lambda x: h(x))\ndef f(x): return g(x)" for k in ("2.0", "3.0")]
    # What is read through names, positions, attributes and methods, and what differs by its order alone.
    reads = """import collections, enum, fractions, types
class C:
    k = {0}
    def m(self, x): return x * {0}
c, d = C(), C()
d.k, A, B = {0}, {0}, {1}
L, T, D = [{0}, {1}], ({0}, {1}, {1}), {{'a': {0}, 'b': {1}}}
N, F, S = types.SimpleNamespace(k={0}), fractions.Fraction({0}), frozenset([{0}])
G = {{'k': {0}}}.get
class Own(dict): pass
class Listed(list): pass
class Kind(enum.Enum):
    A = {0}
    B = {1}
class Slotted: __slots__ = ("k",)
own, listed, slotted, d1, d2 = Own(k={0}), Listed([{0}, {1}]), Slotted(), C(), C()
slotted.k, d1.k, d2.k = {0}, 5.0, {0}
O, Q, P = collections.OrderedDict(k={0}), collections.deque([{0}]), collections.namedtuple("P", "k")({0})
def t(x): return x
def g(x): return x * {0}
def h(x): return x * {1}
def made(a, b):
    def inner(x): return x * (a or 1.0) - (b or 1.0)
    return inner
p, q, t.k, r = g, h, {0}, made(*((None, 2.0) if {0} == 2.0 else (2.0, None)))
"""
    uses = ["x * A + B", "x * L[0] + L[1]", "x * T[0] + T[2]", "x * D['a'] + D['b']", "x * C.k", "x * d.k", "x * N.k"]
    uses += ["c.m(x)", "p(x) + 2 * q(x)", "x * float(F)", "x * max(S)", "x * own['k']", "x * listed[0] - listed[1]"]
    uses += [
        "x * Kind.A.value",
        "x * slotted.k",
        "x * d1.k + d2.k",
        "x * O['k']",
        "x * Q[0]",
        "x * P.k",
        "x * G('k')",
        "t(x) * t.k",
        "r(x)",
    ]
    for use in uses:
        texts += [reads.format(*pair) + f"def f(x): return {use}" for pair in ((2.0, 3.0), (3.0, 2.0))]

    def begin():
        module.__dict__.clear()
        module.__name__ = "versions"

    travelled = 0
    for first in texts:
        begin()
        exec(first, module.__dict__)
        f = pg.jit(module.f)
        expected = f(3.0)
        data = pickle.dumps(f)
        travelled += len(pickle.loads(data).programs)
        assert pickle.loads(data)(3.0) == expected
        for second in texts:
            begin()
            exec(second, module.__dict__)
            assert pickle.loads(data)(3.0) == module.f(3.0), (first, second)
    assert travelled >= len(texts) - 6


def test_what_is_too_deep_to_compare_is_recorded_again(pg, monkeypatch):
    module = types.ModuleType("deep")
    monkeypatch.setitem(sys.modules, "deep", module)
    exec("L = 1.0\nfor _ in range(5000): L = [L]\ndef f(x): return x * len(L)", module.__dict__)
    f = pg.jit(module.f)
    assert f(2.0) == 2.0 == pickle.loads(pickle.dumps(f))(2.0) and pickle.loads(pickle.dumps(f)).programs == []


def test_programs_of_variables_that_have_changed_stay_behind(pg, monkeypatch):
    module = types.ModuleType("changing")
    monkeypatch.setitem(sys.modules, "changing", module)
    exec("K = 2.0\ndef f(x): return x * K", module.__dict__)
    f = pg.jit(module.f)
    assert f(1.0) == 2.0
    module.K = 5.0
    assert pickle.loads(pickle.dumps(f))(1.0) == 5.0 == f(1.0)


def test_what_pickle_cannot_save_is_recorded_again(pg):
    @dataclasses.dataclass
    class Local:
        x: Any

    f = pg.jit(square_of_local)
    assert f(Local(3.0)) == 9.0
    g = pickle.loads(pickle.dumps(f))
    assert g.programs == [] and g(Local(3.0)) == 9.0
    odd = pg.jit(called, static_argnums=1)
    assert odd(3.0, lambda x: x * 2.0) == 6.0
    assert pickle.loads(pickle.dumps(odd))(3.0, lambda x: x * 3.0) == 9.0


def square_of_local(t):
    return t.x * t.x


def called(x, f):
    return f(x)


def test_a_file_cannot_name_a_class(pg, tmp_path):
    """Files may come from anyone: classes come with a pickle only, by number."""
    path = tmp_path / "f.pygrad"
    f = pg.jit(lambda t: {"a": None, "b": t[0]})
    f.program([1.0]).save(path)
    assert pg.Program.load(path)([2.0]) == {"a": None, "b": 2.0}
    for change in ('["registered", 0, "scalar"]', '["registered", "Pair", "scalar"]', '["none", "scalar"]', '["node"]'):
        magic, length, rest = path.read_bytes().split(b"\n", 2)
        header = rest[: int(length)].replace(b'["list", "scalar"]', change.encode())
        assert header != rest[: int(length)]
        bad = tmp_path / "bad.pygrad"
        bad.write_bytes(b"\n".join([magic, str(len(header)).encode(), header + rest[int(length) :]]))
        with pytest.raises(ValueError, match="not a program"):
            pg.Program.load(bad)


def test_a_class_that_is_unknown_here_is_named(pg):
    class Gone:
        pass

    with pytest.raises(ValueError, match=r"Gone.*register_tree_node"):
        pg._core.tree_nodes._node(Gone, None)


# ---- Other processes -----------------------------------------------------------------------------

SCRIPT = """
import numpy as np, sys
import pygrad
from pygrad import grad, hessian, hvp, jacfwd, jacobian, jacrev, jit, value_and_grad, vmap

@jit
def decorated(x):
    return (x * x * k).sum()

k, x = 3.0, np.array([1.0, 2.0])
pairs = [(lambda x: (x ** 3).sum(), lambda x: x * k)]
f, v = pairs[0]
functions = [decorated, jit(f), grad(f), value_and_grad(f), hessian(f), jacobian(v), jacrev(v), jacfwd(v), vmap(v)]
functions += [vmap(grad(lambda t: t ** 2)), jit(grad(decorated)), lambda x: hvp(f)(x, x)]

def same(a, b):
    return all(np.array_equal(*pair) for pair in zip(pygrad.tree_flatten(a)[0], pygrad.tree_flatten(b)[0]))

def check(apply):
    before = apply(functions, x)          # before their first call, and after
    expected = [f(x) for f in functions]
    after = apply(functions, x)
    assert all(map(same, before, expected)) and all(map(same, after, expected))
    print("same results", len(before))
"""
WAYS = {
    "joblib": "from joblib import Parallel, delayed\n"
    "check(lambda fs, x: Parallel(n_jobs=2)(delayed(f)(x) for f in fs))\n"
    "from joblib.externals.loky import get_reusable_executor\nget_reusable_executor().shutdown(wait=True)",
    "dask": "import dask\nfrom dask import delayed\n"
    "check(lambda fs, x: dask.compute(*[delayed(f)(x) for f in fs], scheduler='processes', num_workers=2))",
}


@pytest.mark.parametrize("layer", ["compiled", "cffi"])
@pytest.mark.parametrize("way", WAYS)
def test_other_processes_give_the_same_results(way, layer, tmp_path):
    pytest.importorskip(way)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT + "if __name__ == '__main__':\n" + textwrap.indent(WAYS[way], "    "), encoding="utf-8")
    code = f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')"
    assert helpers.run_python(code, layer) == "same results 12\n"


@pytest.mark.parametrize("start", ["spawn", "fork"])
def test_multiprocessing_gives_the_same_results(start, tmp_path):
    (tmp_path / "worked.py").write_text(
        textwrap.dedent("""
            import multiprocessing, sys
            from pygrad import grad, jit, vmap
            import numpy as np

            @jit
            def square(x):
                return (x * x).sum()

            cube = grad(lambda x: x ** 3)
            def slope(x): return (x * x * 3.0).sum()

            if __name__ == "__main__":
                square(np.ones(3))
                with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
                    print(pool.map(square, [np.ones(3), np.ones(2)]), pool.map(grad(slope), [np.ones(1)] * 2))
        """),
        encoding="utf-8",
    )
    import subprocess

    out = subprocess.check_output([sys.executable, "worked.py", start], cwd=tmp_path, text=True)
    assert out == "[3.0, 2.0] [array([6.]), array([6.])]\n"


def test_dask_names_equal_functions_alike(pg):
    tokenize = pytest.importorskip("dask.base").tokenize
    f = pg.grad(square)
    before = tokenize(f)
    f(2.0)
    assert tokenize(f) == before == tokenize(pg.grad(square)) == tokenize(copy.copy(f))
    others = [pg.jit(square), pg.grad(square, argnums=1), pg.grad(repeated), pg.grad(square, record=False)]
    others += [pg.vmap(square), pg.vmap(square, in_axes=1), pg.jit(square, static_argnums=1), pg.grad(lambda x: x)]
    assert len({before, *map(tokenize, others)}) == 9


# ---- Arrays as they come -------------------------------------------------------------------------


def unaligned(x):
    """The same numbers at an odd address."""
    raw = np.zeros(x.nbytes + 1, dtype=np.uint8)
    odd = raw[1:].view("d").reshape(x.shape)
    odd[...] = x
    assert not odd.flags.aligned
    return odd


def readonly(x):
    x = np.array(x)
    x.flags.writeable = False
    return x


def of_bytes(x):
    return np.frombuffer(b"-" + x.tobytes(), dtype="d", offset=1).reshape(x.shape)


@pytest.mark.parametrize("make", [unaligned, readonly, of_bytes, lambda x: unaligned(x)[::-1][::-1].T.T])
def test_arrays_that_are_unaligned_or_read_only_are_taken(pg, make, tmp_path):
    x = np.arange(6.0).reshape(2, 3)
    for record in (True, False):
        f = pg.jit(lambda x, k: (k * x * x, pg.vmap(lambda row: row.sum())(x)), record=record)
        for y in (x, make(x), make(x), x):
            got = f(y, 2.0)
            np.testing.assert_array_equal(got[0], 2 * x * x)
            np.testing.assert_array_equal(got[1], x.sum(1))
            assert got[0].flags.writeable and got[0].flags.aligned
    outside = make(x)
    assert pg.jit(lambda k: pg.vmap(lambda row: row.sum() * k, reduce="sum")(outside))(2.0) == 30.0
    assert pg.jit(lambda x: x).program(x)(make(x)).tolist() == x.tolist()
    k = pg.Value(2.0)
    assert pg.jit(lambda x: (x * k).sum())(make(x)) == 30.0


def test_unaligned_arrays_are_read_where_they_are(pg):
    tracemalloc = pytest.importorskip("_tracemalloc")  # which PyPy lacks
    f = pg.vmap(lambda w, row: (w * row).sum().tanh(), in_axes=(None, 0), reduce="sum")
    w, x = np.linspace(-1.0, 1.0, 20), np.linspace(-2.0, 2.0, 40_000).reshape(2000, 20)
    expected, odd = pg.value_and_grad(f)(w, x), (unaligned(w), unaligned(x))
    for g in (pg.value_and_grad(f), pg.value_and_grad(f).program(w, x)):
        for _ in range(2):
            tracemalloc.start(1)
            value, slope = g(*odd)
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert value == expected[0] and slope.tobytes() == expected[1].tobytes()
        assert most < x.nbytes / 2


def test_memory_mapped_arrays_are_taken(pg, tmp_path):
    x = np.arange(6.0).reshape(2, 3)
    np.save(tmp_path / "x.npy", x)
    f = pg.grad(lambda x: (x * x).sum())
    for _ in range(2):
        np.testing.assert_array_equal(f(np.load(tmp_path / "x.npy", mmap_mode="r")), 2 * x)


def test_a_description_names_each_object(pg):
    """What is made on the way may have the number (id) of what has gone."""
    objects = [types.SimpleNamespace(k=float(i), f=[float(-i)]) for i in range(1, 200)]
    text = repr(pg._record.travel._Description().of(objects))
    assert all(f"'{i}.0'" in text and f"'-{i}.0'" in text for i in range(1, 200))
