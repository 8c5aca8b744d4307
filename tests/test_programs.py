"""Programs: listings and figures, files, C, workers and lanes."""

import contextlib
import ctypes
import math
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import OrderedDict

import pytest
from helpers import SANITIZED
from test_transforms import mlp, moons, random_program

np = pytest.importorskip("numpy")


def small(pg):
    def function(x, w):
        y = x * w
        z = pg.math.tanh(y + 1)
        return z * y

    return pg.value_and_grad(function, argnums=(0, 1))


def batch(pg):
    """A program with lanes, sums over them, arrays and a dict."""

    def loss(params, x, y):
        return (mlp(params, x, pg.math.tanh) - y) ** 2

    def objective(params, data):
        total = pg.vmap(loss, in_axes=(None, 0, 0), reduce="mean")(params, data["x"], data["y"])
        return total + 1e-3 * sum(p * p for p in pg.tree_leaves(params))

    params, X, Y = moons(np.random.default_rng(1), 37)
    return pg.value_and_grad(objective), (params, {"x": X, "y": Y})


def flat(pg, result):
    return np.array([float(x) for x in pg.tree_leaves(result)])


def test_a_listing_names_arguments_operations_and_lines(pg):
    text = str(small(pg).program(0.5, 2.0))
    assert "arguments: x, w\n" in text and "results: result[0], result[1][0], result[1][1]" in text
    assert "%0 = x * w" in text and "tanh(" in text and "result[0] = %" in text
    assert "test_programs.py" in text and "z = pg.math.tanh(y + 1)" in text and "y = x * w" in text


def test_derivatives_are_listed_with_the_line_that_they_belong_to(pg):
    program = small(pg).program(0.5, 2.0)
    lines = program.lines()
    assert len(lines) == program.stats.instructions and all(line.split(":")[0].endswith(".py") for line in lines)
    squares = [line for line, row in zip(lines, str(program).splitlines()[4:]) if "1.0 -" in row]
    assert squares and {line.rpartition(":")[2] for line in squares} == {lines[2].rpartition(":")[2]}


def test_a_listing_of_lanes_names_their_elements_and_may_be_cut(pg):
    function, args = batch(pg)
    program = function.program(*args)
    text = program.listing()
    assert "for each of 37 lanes:" in text and "data['x'][lane, 0]" in text and "sum over lanes of" in text
    assert "bytes a lane" in text
    short = program.listing(10)
    assert "more than 10 lines" in short and len(short.splitlines()) < 20 < len(text.splitlines())


def test_recording_for_the_listing_leaves_the_tape_as_it_was(pg):
    program = small(pg).program(0.5, 2.0)
    before = pg.tape_stats().collect_at
    str(program)
    assert pg.tape_stats().collect_at <= max(before, 1 << 16)


def test_a_program_is_drawn_with_its_lanes_in_a_frame(pg):
    function, args = batch(pg)
    with pytest.raises(ValueError, match="print\\(program\\)"):
        pg.draw_dot(function.program(*args))
    source = pg.draw_dot(pg.vmap(lambda x, w: x * w, (0, None)).program(np.ones(3), 2.0)).source
    assert "for each of 3 lanes" in source and "x[lane]" in source and "result[lane]" in source
    drawing = pg.draw_dot(small(pg).program(0.5, 2.0))
    assert "tanh" in drawing.source
    if sys.modules["pygrad._views.drawing"].find_renderer() is not None:
        assert drawing.pipe(format="svg").count(b"<ellipse") >= 3


def test_a_program_is_called_with_arguments_of_its_structure(pg):
    program = small(pg).program(0.5, 2.0)
    y = 1.0
    assert program(0.5, 2.0)[0] == pytest.approx(math.tanh(y + 1) * y)
    with pytest.raises(ValueError, match="x, w"):
        program(np.ones(2), 2.0)


@pytest.mark.parametrize("make", [small, batch])
def test_pickled_and_saved_programs_give_the_same_bits(pg, make, tmp_path):
    function, args = make(pg) if make is batch else (small(pg), (0.5, 2.0))
    program = function.program(*args)
    expected = flat(pg, function(*args))
    copied = pickle.loads(pickle.dumps(program))
    assert (flat(pg, copied(*args)) == expected).all() and copied.stats == program.stats
    assert copied.arguments == program.arguments and copied.results == program.results
    program.save(tmp_path / "f.pygrad")
    loaded = pg.Program.load(tmp_path / "f.pygrad")
    assert (flat(pg, loaded(*args)) == expected).all()
    assert loaded.listing().splitlines()[:4] == program.listing().splitlines()[:4]


def test_programs_that_read_values_from_outside_are_pickled_with_them_and_not_saved(pg, tmp_path):
    k = pg.Value(3.0, label="k")
    program = pg.jit(lambda x: x * k).program(1.0)
    copied = pickle.loads(pickle.dumps(program))
    k.data = 5.0
    assert (program(2.0), copied(2.0)) == (10.0, 6.0)
    with pytest.raises(ValueError, match="pass them as arguments"):
        program.save(tmp_path / "f.pygrad")
    assert "k" in str(program)


def test_arrays_from_outside_that_are_mapped_over_go_into_the_file(pg, tmp_path):
    data = np.linspace(0, 1, 50)
    function = pg.grad(lambda w: pg.vmap(lambda x: (x * w).tanh(), reduce="sum")(data))
    program = function.program(0.5)
    program.save(tmp_path / "f.pygrad")
    expected = (data * (1 - np.tanh(0.5 * data) ** 2)).sum()
    assert pg.Program.load(tmp_path / "f.pygrad")(0.5) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("make", [small, batch])
def test_damaged_files_give_an_error_or_a_program_and_nothing_else(pg, make, rng, tmp_path):
    function, args = make(pg) if make is batch else (small(pg), (0.5, 2.0))
    function.program(*args).save(tmp_path / "f.pygrad")
    good = (tmp_path / "f.pygrad").read_bytes()
    refused = 0
    for _ in range(600):
        data = bytearray(good)
        kind = rng.random()
        if kind < 0.2:
            data = data[: rng.randrange(len(data))]
        elif kind < 0.3:
            data += bytes(rng.randrange(1, 9))
        else:
            for _ in range(rng.choice([1, 1, 2, 8])):
                at = rng.randrange(len(data))
                data[at] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256), (data[at] + 1) % 256])
        (tmp_path / "bad.pygrad").write_bytes(data)
        try:
            program = pg.Program.load(tmp_path / "bad.pygrad")
        except ValueError as error:
            assert "bad.pygrad: not a program, or a damaged one" in str(error)
            refused += 1
            continue
        with contextlib.suppress(ValueError, TypeError, MemoryError):
            program(*args)
        program.listing(20)
    assert refused > 100


def compile_c(program, path, *more):
    path.mkdir(exist_ok=True)
    (path / "f.c").write_text(program.to_c("f"))
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    flags = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-fPIC"]
    command = [compiler, *flags, *more, "-c", "-o", path / "f.o", path / "f.c"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    (path / "report").write_text(done.stderr)
    assert done.returncode == 0, done.stderr
    # Linked with -ffast-math, a library may flush this process's subnormal numbers to zero.
    subprocess.run([compiler, "-shared", "-o", path / "f.so", path / "f.o", "-lm"], check=True)
    return ctypes.CDLL(str(path / "f.so")).f


def run_c(function, numbers, count):
    pointer = ctypes.POINTER(ctypes.c_double)
    numbers, out = np.ascontiguousarray(numbers, dtype=float), np.full(count, np.nan)
    function(numbers.ctypes.data_as(pointer), out.ctypes.data_as(pointer))
    return out


def test_generated_c_computes_the_same_value_and_gradient(pg, rng, tmp_path):
    function, args = batch(pg)
    expected = flat(pg, function(*args))
    compiled = compile_c(function.program(*args), tmp_path / "batch")
    np.testing.assert_allclose(run_c(compiled, flat(pg, args), len(expected)), expected, rtol=1e-12, atol=1e-14)
    for i in range(4):
        program = random_program(rng, 60, 3)
        x = np.array([rng.uniform(-1, 1) for _ in range(3)])
        both = pg.value_and_grad(program)
        expected = flat(pg, both(x))
        compiled = compile_c(both.program(x), tmp_path / str(i))
        np.testing.assert_allclose(run_c(compiled, x, len(expected)), expected, rtol=1e-12, atol=1e-13)


LANES = {
    "results": lambda pg: (pg.jit(pg.vmap(lambda x, y: x * pg.math.exp(y) / (1 + x * x), in_axes=(0, None))), 1),
    "sums": lambda pg: (pg.value_and_grad(lambda x, y: pg.vmap(lambda x: pg.math.tanh(x * y), reduce="sum")(x)), 1),
    "sums and results": lambda pg: (pg.grad(lambda x, y: pg.vmap(lambda x: (x * y) ** 2 - y)(x).sum(), (0, 1)), 1),
    "two groups": lambda pg: (
        pg.jit(lambda x, y: (pg.vmap(lambda a: a * y)(x), pg.vmap(lambda a, b: a + b * y)(x[:-1], x[1:]).sum())),
        2,
    ),
    "many sums": lambda pg: (
        pg.jit(lambda x, y: [s.sum() for s in pg.vmap(lambda a: tuple(a * (y + k) for k in range(70)))(x)]),
        0,
    ),
}


@pytest.mark.parametrize("name", LANES)
@pytest.mark.skipif(shutil.which("gcc") is None, reason="reads gcc's report")
def test_lanes_of_generated_c_are_vectorised(pg, rng, tmp_path, monkeypatch, name):
    f, loops = LANES[name](pg)
    args = (np.array([rng.uniform(0.5, 1.5) for _ in range(101)]), 0.75)
    expected = flat(pg, f(*args))
    monkeypatch.setattr(shutil, "which", lambda _, which=shutil.which: which("gcc"))
    flags = ["-O3", "-fopenmp-simd", "-ffast-math", "-fopt-info-vec-optimized"]
    compiled = compile_c(f.program(*args), tmp_path, *flags)
    np.testing.assert_allclose(run_c(compiled, flat(pg, args), len(expected)), expected, rtol=1e-12)
    source, report = (tmp_path / "f.c").read_text(), (tmp_path / "report").read_text()
    assert source.count("#pragma omp simd") == loops
    assert report.count("loop vectorized") >= loops


def test_generated_c_has_constants_stores_and_values_from_outside(pg, tmp_path):
    data, k = np.linspace(-1, 1, 5), pg.Value(3.0, label="k")
    program = pg.jit(lambda x, w: (pg.vmap(lambda t, d: t * d + k)(x, data), w * math.inf)).program(data, 1.0)
    compiled = compile_c(program, tmp_path)
    np.testing.assert_array_equal(run_c(compiled, [*data, 2.0, 4.0], 6), [*(data * data + 4.0), math.inf])
    with pytest.raises(ValueError, match="name of a C function"):
        program.to_c("not a name")
    with pytest.raises(ValueError, match="name of a C function"):
        program.to_c("double")


def test_names_cannot_leave_the_comment_of_generated_c(pg, tmp_path):
    key, label = '*/ int evil; /* "?" ??/', "k */ #error \\\n int evil;"
    k = pg.Value(2.0, label=label)
    program = pg.jit(lambda d: d[key] * k).program({key: 1.0})
    source = program.to_c("f")
    assert source.count("*/") == source.count("/*") == 1 and "\\" not in source
    assert run_c(compile_c(program, tmp_path), [3.0, 2.0], 1)[0] == 6.0


@pytest.mark.parametrize("lanes", [1, 255, 256, 257, 511, 512, 513, 5_000, 60_001])
def test_results_do_not_depend_on_workers(pg, lanes):
    x = np.random.default_rng(lanes).normal(size=(lanes, 3))

    def loss(w, x):
        return ((w * x).sum().tanh() - x[0]).exp()

    def objective(w, x):
        return pg.vmap(loss, in_axes=(None, 0), reduce="mean")(w, x), pg.vmap(loss, in_axes=(None, 0))(w, x)

    w = np.array([0.1, -0.2, 0.3])
    program = pg.jit(objective).program(w, x)
    mean, each = program(w, x)
    expected = np.exp(np.tanh(x @ w) - x[:, 0])
    np.testing.assert_allclose(each, expected, rtol=1e-12)
    assert mean == pytest.approx(expected.mean(), rel=1e-12)
    gradient = pg.grad(lambda w, x: objective(w, x)[0])(w, x)
    for workers in (2, 3, 7):
        again = program(w, x, workers=workers)
        assert again[0] == mean and (again[1] == each).all()
        assert (pg.grad(lambda w, x: objective(w, x)[0], workers=workers)(w, x) == gradient).all()


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, 1000, None])
def test_a_wrong_number_of_workers_is_named(pg, workers):
    with pytest.raises(ValueError, match="workers="):
        pg.jit(lambda x: x, workers=workers)


def test_ctrl_c_stops_a_long_run_soon_and_leaves_everything_usable(pg):
    x = np.linspace(0, 1, 2_000_000)

    def slow(t):
        for _ in range(400):
            t = (t * 1.01).sin().exp().tanh()
        return t

    function = pg.vmap(slow, reduce="sum", workers=2)
    program = function.program(x)
    sent = []

    def interrupt():
        time.sleep(0.3)
        sent.append(time.perf_counter())
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        program(x, workers=2)
    assert time.perf_counter() - sent[0] < 0.5 * SANITIZED
    assert pg.vmap(lambda t: t * 2, reduce="sum")(np.ones(1000)) == 2000.0


def test_a_plan_has_only_structures_that_c_knows(pg):
    """Others run without a plan: C never reads a structure of a kind that only trees.py knows."""
    layer, kinds_in = pg._core.layer, pg._core.trees.kinds_in
    x = {"a": [1.0, (2.0,)], "b": np.ones(2), "n": None, "o": OrderedDict(k=3.0)}
    program = pg.jit(lambda t: {"c": [t["a"][0], (t["b"] * t["a"][1][0],), None, t["o"]]}).program(x)
    assert kinds_in(program.code.structure_in) == kinds_in(program.code.structure_out)
    if layer.OPERANDS == "cffi":
        assert layer.structure_kinds() == () and program.plan(1) is None
        return
    assert kinds_in(program.code.structure_in) == set(layer.structure_kinds())
    result = layer.call(program.plan(1), (x,))
    assert result["c"][0] == 1.0 and result["c"][1][0].tolist() == [2.0, 2.0]
    assert result["c"][2:] == [None, OrderedDict(k=3.0)]
    program.code.structure_out = ("dict", ("c",), ("set", "scalar"))
    assert program.plan(1) is None


FIRST = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "neg": lambda a, b: -a,
}
SECOND = {
    "v + c": lambda v, c: v + c,
    "v * c": lambda v, c: v * c,
    "v - c": lambda v, c: v - c,
    "c - v": lambda v, c: c - v,
    "v / c": lambda v, c: v / c,
    "c / v": lambda v, c: c / v,
    "-v": lambda v, c: -v,
    "v * v": lambda v, c: v * v,
    "v, kept": lambda v, c: (v - c) * v,
    "v * (0 < c)": lambda v, c: v * is_positive(c),
    "c * (0 < v)": lambda v, c: c * is_positive(v),
}


def is_positive(x, above=0.0):
    return x.__class__(above).less(x) if hasattr(x, "less") else np.less(above, x) * 1.0


@pytest.mark.parametrize("lanes", [1, 13, 300])
def test_two_operations_in_a_row_are_as_one_after_the_other(pg, rng, lanes):
    normal = np.random.default_rng(rng.randrange(2**32)).normal
    arrays = [np.append(normal(size=lanes - 1), 0.5) for _ in range(3)]
    arrays[1][: lanes // 4] = arrays[0][: lanes // 4]
    for name in [*FIRST, "<"]:
        first, oracle = FIRST.get(name, pg.math.less), FIRST.get(name, lambda a, b: np.less(a, b) * 1.0)
        for then, second in SECOND.items():
            for mapped in [(0, 0, 0), (0, None, None), (None, 0, 0), (None, 0, None)]:
                numbers = [x if axis == 0 else 0.75 for x, axis in zip(arrays, mapped)]
                run = pg.vmap(lambda a, b, c, f=first, g=second: g(f(a, b), c), in_axes=mapped)
                with np.errstate(all="ignore"):
                    v = oracle(numbers[0], numbers[1])
                    expected = second(v, numbers[2])
                    got = run(*numbers)
                is_dot = (name, then) == ("*", "v + c")  # rounded once
                close = np.isclose(got, expected, rtol=4e-16 if is_dot else 0, atol=1e-15 if is_dot else 0)
                assert np.all(close | ~np.isfinite(expected)), (name, then, mapped)


@pytest.mark.parametrize("lanes", [1, 13, 300])
def test_a_positive_part_of_a_sum_is_zero_below_zero_and_keeps_nan_and_the_sign_of_zero(pg, rng, lanes):
    normal = np.random.default_rng(rng.randrange(2**32)).normal
    x, y = normal(size=lanes), normal(size=lanes)
    x[-1] = y[-1] = np.nan
    if lanes > 1:
        x[0], y[0] = -0.0, -0.0
    run = pg.vmap(lambda a, b, w, v: pg.math.relu(a * w + b * v), in_axes=(0, 0, None, None))
    total = x * 0.5 + y * 0.25
    expected = np.where(total < 0, 0.0, total)
    got = run(x, y, 0.5, 0.25)
    assert np.allclose(got, expected, rtol=1e-15, atol=1e-16, equal_nan=True)
    assert np.array_equal(np.signbit(got), np.signbit(expected))

    def both(a, b, w, v):
        total = a * w + b * v
        return pg.math.relu(total) - total

    got = pg.vmap(both, in_axes=(0, 0, None, None))(x, y, 0.5, 0.25)
    assert np.allclose(got, expected - total, rtol=1e-15, atol=1e-16, equal_nan=True)


SPECIAL = [0.0, -0.0, 1.5, -2.5, 1e-300, -1e-300, np.inf, -np.inf, np.nan]


@pytest.mark.parametrize("lanes", [1, 13, 300])
@pytest.mark.parametrize("mapped", [(0, 0, 0), (0, 0, None), (None, 0, 0), (0, None, None)])
def test_a_product_with_a_rectifiers_slope_has_every_special_number_that_it_has_in_numpy(pg, rng, lanes, mapped):
    """The slope of relu times a gradient is one operation, and ends a product or a sum of products before it."""
    numbers = [[rng.choice(SPECIAL) for _ in range(lanes)] for _ in range(3)]
    x, y, c = (np.array(n) if axis == 0 else n[0] for n, axis in zip(numbers, mapped))

    def gates(x, y, c):
        slope, sum_ = is_positive(c), x * 0.5 + y * 0.25
        return [
            x * slope,
            slope * y,
            (x * y) * slope,
            sum_ * slope,
            (x * 0.5 - y) * slope,
            slope * slope,
            x * is_positive(c, 1.0),
        ]

    def kept(x, y, c):
        product, sum_ = x * y, x * 0.5 + y * 2.0
        return [product * is_positive(c) + product, sum_ * is_positive(c) - sum_]

    def own(x, y, c):
        sum_ = x * 0.5 + y * 0.25
        return [sum_ * is_positive(sum_)]

    for function in (gates, kept, own):
        with np.errstate(all="ignore"):
            expected = [np.broadcast_to(e, lanes) for e in function(x, y, c)]
        got = pg.vmap(function, in_axes=mapped)(x, y, c)
        assert np.array_equal(got, expected, equal_nan=True), function
        assert np.array_equal(np.signbit(got) | np.isnan(got), np.signbit(expected) | np.isnan(expected)), function
