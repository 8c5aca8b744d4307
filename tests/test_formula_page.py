"""The page that shows a formula's graph as it is written: what it reads, against pygrad.formula."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from browser import accessible, new_page, screenshot
from test_formula import FORMULAS, POINT

from pygrad._views.table import node_table
from pygrad.formula import FormulaError, parse

CORPUS = Path(__file__).parent / "fuzz" / "corpus" / "formula"
WRONG = [
    "x y", "x +", "(x", "x)", "x,y", "()", "x ^ y", "x // y", "x @ y", "not x", "x if y else z", "lambda: x", "x.y",
    "x[0]",
    "x = 1", "x < y", "1j*x", "2x", "012*x", "f(x)", "tanh()", "tanh(x, y)", "atan2(x)", "leaky_relu(x, y)",
    "tanh(x=1)",
    "tanh(*x)", "tanh(x)(y)", "'x'", "x # y", "True*x", "1e999*x", "x**", "~x", "x & y", "sum(x)",
    "pow(x, y)",
    "-" * 600 + "x", "(" * 300 + "x" + ")" * 300, "x" + "+x" * 600, "__class__(x)", "constructor(x)", "log(-1)*x",
    "1/0+x",
]  # fmt: skip
MORE = [
    "(tanh)(x)", "x", "2", "2**3", "pi*x", "-x**-y**2", "+-+x", "x*(y)", "tanh(x,)",
    "0x1F*x + 0b11 + 0o17 + 1_000.5e-1 + .5 + 5.",
    "detach(x)*x + detach(y*y)", "max(2, x) + max(x, 2)", "2 - x", "x**0.5", "leaky_relu(x) + elu(y, 2)", "x - x",
    "ñ*x",
    "-" * 400 + "x", "(" * 150 + "x" + ")" * 150, "x" + "+x" * 400,
]  # fmt: skip

SHOW = """text => { const input = document.getElementById('text'); input.value = text;
    input.dispatchEvent(new Event('input'));
    return [document.getElementById('mistake').textContent, [...document.querySelectorAll('svg .node')].map(g =>
        [g.querySelector('.symbol')?.textContent ?? '', g.querySelector('title').textContent])]; }"""


@pytest.fixture
def page(chromium, tmp_path):
    path = parse("x + y*z").explore(tmp_path / "formula.html", **POINT).path
    page, said = new_page(chromium)
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-engine=runs]")
    yield page
    assert not said
    page.close()


def expected(text):
    """The nodes that Python makes of a formula: symbol, data, grad; or None where it refuses it."""
    try:
        formula = parse(text)
        root = formula.value(**{name: POINT.get(name, 1.0) for name in formula.names})
    except (FormulaError, ArithmeticError, ValueError):
        return None
    root.backward()
    return [(row.op if row.operands else "", row.data, row.grad) for row in node_table(root)]


def test_the_page_makes_pythons_graph_of_a_formula(page):
    for text in [*FORMULAS, *MORE]:
        mistake, nodes = page.evaluate(SHOW, text.replace("\n", " "))
        wanted = expected(text)
        assert not mistake and len(nodes) == len(wanted), (text[:60], mistake)
        numbers = [[float(line.split()[1]) for line in title.rsplit("\n", 2)[1:]] for _, title in nodes]
        for (symbol, _), (data, grad), (op, *right) in zip(nodes, numbers, wanted):
            assert symbol == op and all(
                math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-12) for a, b in zip((data, grad), right)
            )


def test_the_page_refuses_what_python_refuses(page):
    for text in WRONG:
        assert expected(text) is None, text
        assert page.evaluate(SHOW, text)[0], text
    page.fill("#text", "exp(x) * sim(x)")
    assert "no function is named sim (at character 10)" in page.inner_text("#mistake")
    assert page.get_attribute("#text", "aria-invalid") == "true" and not accessible(page)
    screenshot(page, "formula-wrong")
    read = 0
    for file in sorted(CORPUS.iterdir()):
        text = file.read_bytes().decode("utf-8", "ignore")
        if any(c in text for c in "\n\r\0") or len(text) > 500:
            continue
        try:
            formula = parse(text)
        except FormulaError:
            assert page.evaluate(SHOW, text)[0], text
            continue
        if expected(text) is not None and len(formula.names) < 50:
            mistake, nodes = page.evaluate(SHOW, text)
            assert not mistake and nodes, (text, mistake)
            read += 1
    assert read > 10


def test_variables_keep_their_numbers(page):
    page.fill("#text", "tanh(x*w)")
    page.locator("svg .node").filter(has=page.get_by_text("w", exact=True)).focus()
    page.keyboard.press("e")
    page.fill("#edited", "-3")
    page.keyboard.press("Enter")
    page.fill("#text", "sigmoid(x*w + b)")
    titles = page.eval_on_selector_all(
        "svg .node > title", "all => all.map(t => t.textContent.split('\\n').slice(0, 2))"
    )
    assert ["w", "data -3.0"] in titles and ["x", "data 0.7"] in titles and ["b", "data 1.0"] in titles
    screenshot(page, "formula")
    assert not accessible(page)
