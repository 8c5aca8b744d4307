"""Programs that call others: their listings, drawings and C."""

import math
import pickle
import sys

import loops
import pytest
from test_programs import compile_c, flat, run_c

np = pytest.importorskip("numpy")


def random_function(pg, seed):
    """A random function with loops and branches, and arguments for it."""
    found = loops.Loops(seed)
    given = loops.arguments(seed)
    names = ("scan", "fori_loop", "while_loop", "cond", "switch", "checkpoint", "grad", "vmap")
    scope = {name: getattr(pg, name) for name in names}
    scope.update(sin=pg.math.sin, cos=pg.math.cos, tanh=pg.math.tanh, array=np.array, np=np, **given)
    exec(found.text, scope)
    return scope["f"], given


def rnn(pg):
    def function(w, x):
        last, squares = pg.scan(lambda h, r: (pg.math.tanh(w * h + r[0] * r[1]), h * h), 0.0, x)
        return last + squares.sum()

    return function


def counted(pg):
    """A loop with a test, for each lane."""

    def function(x, most):
        step = lambda c: (c[0] + 0.3, c[0] * c[1])  # noqa: E731
        return pg.while_loop(lambda c: c[0] < most, step, (x, 7.0), max_steps=5)[1]

    return pg.vmap(function, in_axes=(0, None))


X = np.arange(6.0).reshape(3, 2)


def test_a_listing_has_calls_and_each_called_program_once(pg):
    text = pg.jit(rnn(pg)).program(0.5, X).listing()
    assert "loop of 3 steps, over program 1: const w; carried 0.0; memory0 x[0, 0] on, 2 further at each step" in text
    assert "%1 = %0.1 + %0.2 + %0.3 + %0.0 " in text
    _, title, rest = text.partition("\n\nprogram 1, a step: 3 instructions\nonce:\n")
    assert title and "= carried[0]*const[0] + memory0[0]*memory0[1]\n" in rest
    assert "  next[0] = %2\n  result[0] = %0" in rest


def test_results_that_nobody_reads_are_left_out_and_long_operands_are_cut(pg):
    text = pg.grad(rnn(pg)).program(0.5, np.ones((30, 2))).listing()
    assert "%0.2, %0.4, %0.6, %0.8, %0.10, %0.12, %0.14, ... 22 more, %0.60 = loop of 30 steps" in text
    assert "%1.1 = loop of 30 steps, backwards, over program 2" in text and "result = %1.1" in text


def test_a_listing_of_a_loop_of_lanes_names_its_test_and_its_lanes(pg):
    text = counted(pg).program(np.ones(3), 2.0).listing()
    assert "%1.1 = loop with a test, of at most 5 steps, over program 1 while program 2" in text
    assert "const w" not in text and "const most; carried x[lane], 7.0" in text
    assert "program 2, a test" in text and "for each of the lanes:\n  %1 = carried[0] < const[0]\n" in text
    assert "goes on = " in text


def test_a_listing_of_branches_names_them(pg):
    def function(x, y):
        return pg.switch(x, [lambda a: pg.math.sin(a) * y, lambda a: a + y * 2, lambda a: a], x)

    text = pg.jit(function).program(1.0, 2.0).listing()
    assert "one of programs 1, 2, 3 by x: const " in text and text.count("a branch") == 3
    assert "= sin(const[" in text and "result[0] = " in text


def test_nested_loops_are_listed_with_one_number_for_one_program_and_within_the_limit(pg):
    def function(w, x):
        inner = lambda c: pg.scan(lambda d, _: (pg.math.sin(d * w), None), c, None, length=4)[0]  # noqa: E731
        return pg.scan(lambda c, r: (inner(c + r), c), 0.1, x)[0]

    program = pg.value_and_grad(function).program(0.5, np.ones(5))
    text = program.listing()
    titles = [line.split(",")[0] for line in text.splitlines() if line.startswith("program ") and ", a " in line]
    assert titles == [f"program {i}" for i in range(1, len(titles) + 1)] and len(titles) >= 4
    assert "over program 3: const const[0]; carried %0" in text
    short = program.listing(6)
    assert "more than 6 lines" in short and sum(line.startswith("  ") for line in short.splitlines()) == 6


def test_a_call_is_drawn_as_one_box(pg):
    source = pg.draw_dot(pg.grad(rnn(pg)).program(0.5, X)).source
    assert source.count('peripheries="2"') == 2
    assert '"loop of 3 steps"' in source and '"loop of 3 steps, backwards"' in source and '"x[0, 0] on"' in source
    with pytest.raises(ValueError, match=r"calls have \d+ operands, more than the 20000"):
        step = lambda h, r: (pg.math.tanh(h + r), None)  # noqa: E731
        run = pg.grad(lambda h, x: pg.scan(step, h, x, checkpoint=None)[0])
        pg.draw_dot(run.program(0.5, np.ones(20_000)))


def test_generated_c_of_loops_switches_and_lanes_gives_the_same_numbers(pg, tmp_path):
    def chosen(x, y):
        return pg.switch(x, [lambda a: a * y, lambda a: a + y * 2, lambda a: -a], x)

    def repeated(n, x):
        return pg.fori_loop(0, n, lambda i, c: c * x + i, 1.0)

    lanes = np.array([-1.0, 0.0, 0.6, 1.5, 2.4, 9.0, np.nan])
    cases = [
        (pg.value_and_grad(rnn(pg), argnums=(0, 1)), (0.5, X)),
        (counted(pg), (lanes, 2.0)),
        (pg.vmap(chosen, in_axes=(0, None)), (lanes, 3.0)),
        (pg.vmap(repeated, in_axes=(0, None)), (lanes[:-1], 3.0)),
        *((pg.jit(chosen), (x, 3.0)) for x in (-4.0, 1.9, 7.0)),
        *((pg.jit(repeated), (n, 0.5)) for n in (-2.0, 0.0, 4.0)),
    ]
    for i, (function, args) in enumerate(cases):
        expected = flat(pg, function(*args))
        compiled = compile_c(function.program(*args), tmp_path / str(i))
        np.testing.assert_allclose(run_c(compiled, flat(pg, args), len(expected)), expected, rtol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_generated_c_of_random_functions_with_loops_gives_the_same_numbers(pg, seed, tmp_path):
    f, given = random_function(pg, seed)
    x, p, lanes, both = (given[name] for name in ("x", "p", "X", "P"))
    cases = [
        (pg.grad(f, argnums=(0, 1)), (x, p)),
        (pg.vmap(f, in_axes=(0, None)), (lanes, p)),
        (pg.vmap(pg.grad(f, argnums=(1, 0))), (lanes, both)),
    ]
    for i, (function, args) in enumerate(cases):
        program = function.program(*args)
        expected = flat(pg, program(*args))
        compiled = compile_c(program, tmp_path / str(i))
        found = run_c(compiled, flat(pg, args), len(expected))
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)
        assert program.listing().count(" = ") >= program.stats.instructions // 2


def test_a_test_may_read_the_memory_that_steps_read(pg):
    def function(x, p):
        bound = lambda: pg.vmap(lambda a: a * a + 1.0, reduce="sum")(p)  # noqa: E731
        return pg.while_loop(lambda c: c < bound(), lambda c: c + 1.0, x, max_steps=20)

    assert pg.jit(function)(0.0, np.arange(3.0)) == 8.0
    assert pg.jit(function)(9.5, np.arange(3.0)) == 9.5


def test_loops_within_loops_are_64_deep_at_most(pg):
    def nested(depth):
        def function(x):
            step = function if depth == 0 else nested(depth - 1)
            return pg.math.sin(x) if depth == 0 else pg.scan(lambda c, _: (step(c), None), x, None, length=1)[0]

        return function

    old = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    try:
        assert pg.jit(nested(64))(0.5) == pytest.approx(math.sin(0.5))
        with pytest.raises(pg.RecordingError, match="the limit is 64"):
            pg.jit(nested(65))(0.5)
    finally:
        sys.setrecursionlimit(old)


def test_programs_with_calls_can_be_pickled_and_saved(pg, tmp_path):
    def nested(x):
        halved = lambda c: pg.while_loop(lambda y: y > x, lambda y: y / 2, c)  # noqa: E731
        return pg.scan(lambda c, _: (halved(c) + 1, c), x, length=3)

    def branch(x):
        return pg.cond(x > 0, lambda: x * x, lambda: pg.fori_loop(0, 2, lambda i, y: y + x, 0.0))

    programs = [(pg.jit(nested).program(0.7), 0.9), (pg.vmap(branch).program(X[0]), X[1])]
    programs.append((pg.grad(rnn(pg), argnums=(0, 1)).program(0.5, X), (0.4, 2 * X)))
    for program, given in programs:
        args = given if isinstance(given, tuple) else (given,)
        program.save(tmp_path / "program")
        for copy in (pickle.loads(pickle.dumps(program)), pg.Program.load(tmp_path / "program")):
            np.testing.assert_array_equal(flat(pg, copy(*args)), flat(pg, program(*args)))
