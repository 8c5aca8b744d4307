"""The page that steps through a graph: its numbers against the engine's, in a real browser where there is one.

For the browser: pip install playwright, Chromium on the PATH; AXE=path/to/axe.min.js for the check of accessibility;
SCREENSHOTS=folder keeps pictures.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from pygrad._views.drawing import find_renderer

pytestmark = pytest.mark.skipif(find_renderer() is None, reason="nothing to lay graphs out with")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NASTY = [
    '"><script>alert(1)</script>',
    "</script><script>document.title='gone'</script>",
    "{a|b} <c> \\N \\",
    'it\'s "quoted" & more',
    "🦄 é 漢",
    "long " * 2000,
    "\u202eright to left",
    "line\nbreak\u2028and\x00nul",
    "<!-- comment",
]


def neuron(pg):
    x1, x2 = pg.Value(2.0, label="x1"), pg.Value(0.0, label="x2")
    w1, w2 = pg.Value(-3.0, label="w1"), pg.Value(1.0, label="w2")
    b = pg.Value(6.8813735870195432, label="b")
    x1w1, x2w2 = x1 * w1, x2 * w2
    both = x1w1 + x2w2
    n = both + b
    o = n.tanh()
    pg.label_from({"x1w1": x1w1, "x2w2": x2w2, "x1w1x2w2": both, "n": n, "o": o})
    return o, {"x1": x1, "x2": x2, "w1": w1, "w2": w2, "b": b}


def embedded(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page.html, re.DOTALL)[1])


def test_every_backward_step_adds_what_the_engine_adds(pg, rng):
    leaves = [pg.Value(rng.uniform(0.2, 0.9)) for _ in range(4)]
    cube = pg.custom_op(lambda x, y: x**3 * y, lambda g, v, x, y: (3 * g * x * x * y, g * x**3))
    own = pg.Value(leaves[0].data * 2, (leaves[0],), "twice")

    def push():
        leaves[0].grad += 2 * own.grad

    own._backward = push
    nodes = [*leaves, own]
    methods = ["tanh", "exp", "log", "sqrt", "sigmoid", "sin", "relu", "atan", "erf", "softplus", "expm1"]
    for _ in range(60):
        a, b = (rng.choice(nodes) for _ in range(2))
        made = [
            lambda a, b: a + b, lambda a, b: a * b, lambda a, b: a - b, lambda a, b: a / (b * b + 1),
            lambda a, b: a * a, lambda a, b: (a * a) ** 1.5, lambda a, b: cube(a, b).tanh(),
            lambda a, b: (a * a + 0.1).log(),
            lambda a, b: a.atan2(b * b + 1), lambda a, b: getattr((a * a + 0.1).tanh(), rng.choice(methods))(),
        ]  # fmt: skip
        nodes.append(rng.choice(made)(a, b).tanh())
    root = sum(nodes, pg.Value(0.0))
    before = [(row.data, row.grad) for row in pg._views.table.node_table(root)]
    data = embedded(pg.explore(root, None, precision=17))
    assert [(row.data, row.grad) for row in pg._views.table.node_table(root)] == before
    root.backward()
    rows = pg._views.table.node_table(root)
    grads = {len(rows) - 1: 1.0}
    for i in reversed(range(len(rows))):
        for operand, _words, numbers, shown, exact in data["nodes"][i]["gifts"]:
            grads[operand] = float(exact)
            assert float(shown) == float(exact) and (" · " not in numbers or len(re.split("[·=]", numbers)) == 3)
    assert {i: row.grad for i, row in enumerate(rows) if i in grads} == grads
    assert all(row.grad == 0.0 for i, row in enumerate(rows) if i not in grads)
    assert [node["exact"] for node in data["nodes"]] == [repr(row.data) for row in rows]
    for node, row in zip(data["nodes"], rows):
        if row.operands:
            assert float(node["forward"].rpartition("= ")[2]) == row.data


def test_the_chain_rule_is_in_words_and_numbers(pg):
    o, _ = neuron(pg)
    data = embedded(pg.explore(o, None))
    gifts = {(node["name"], g[0]): g[1:4] for node in data["nodes"] for g in node["gifts"]}
    names = [node["name"] for node in data["nodes"]]
    assert gifts["o", names.index("n")] == ["(1 − o²) · o.grad", "0.5 · 1 = 0.5", "0.5"]
    assert gifts["x1w1", names.index("x1")] == ["w1 · x1w1.grad", "-3 · 0.5 = -1.5", "-1.5"]
    assert data["nodes"][-1]["forward"] == "tanh(n) = tanh(0.881374) = 0.707107"


def test_every_operation_has_its_partials_in_words(pg):
    lib, ffi = pg._core.layer.lib, pg._core.layer.ffi
    for op in range(lib.PGR_OP_FIRST, lib.pgr_op_count()):
        row = lib.pgr_op_row(op)
        for k in range(2 if row.kind == lib.PGR_KIND_BINARY else 1):
            text = pg._views.chain_rule.partial(op, k, ("first", "second", "result"))
            assert text and not re.search(r"[A-Z]{2,}_?|_\b|\bv\b|pgr", text), (ffi.string(row.name), text)
    rows = range(lib.PGR_OP_FIRST, lib.pgr_op_count())
    words = {ffi.string(lib.pgr_op_row(op).name).decode(): op for op in rows}
    shown = {name: pg._views.chain_rule.partial(op, 0, ("x", "y", "z")) for name, op in words.items()}
    assert shown["log10"] == "0.434294 / x" and shown["asinh"] == "1 / hypot(1, x)"
    assert shown["silu"] == "sigmoid(x) · (1 + x · sigmoid(−x))"
    assert shown["gelu"] == "(½ · erfc(−0.707107 · x) + x · 0.398942 · exp(−½ · x²))"
    assert pg._views.chain_rule.partial(words["mod"], 1, ("x", "y", "z")) == "(−floor(x / y − z / y + ½))"
    assert shown["leaky_relu"] == "[1 if x > 0 else y]" and shown["max"] == "[1 if x > y, ½ if equal, else 0]"
    assert shown["erf"] == "2 / sqrt(π) · exp(−x²)" and shown["pow"] == "y · x^(y − 1)"
    assert pg._views.chain_rule.partial(words["pick"], 1, ("x", "y", "z")) == "[1 if x ≠ 0 else 0]"


def test_a_page_is_one_small_file_without_a_network(pg, tmp_path):
    model = pg.nn.MLP(4, [8, 6, 1])
    root = model([0.1, 0.2, 0.3, 0.4])
    assert 250 <= len(pg._views.table.node_table(root)) <= 350
    page = pg.explore(root, tmp_path / "page.html")
    assert page.path.read_text(encoding="utf-8") == page.html and len(page.html.encode()) <= 500_000
    assert not re.search(r"(src|href)=|@import|url\(|fetch\(|XMLHttp", page.html)
    assert "srcdoc=" in page._repr_html_() and "page.html" in repr(page)


def test_bad_arguments_and_large_graphs_are_refused(pg):
    x = pg.Value(1.0)
    for keywords in ({"precision": 0}, {"precision": True}, {"rankdir": "UP"}):
        with pytest.raises(ValueError, match=next(iter(keywords))):
            pg.explore(x, None, **keywords)
    for _ in range(1000):
        x = x.sin()
    with pytest.raises(ValueError, match="1,001 nodes"):
        pg.explore(x, None)


@pytest.mark.parametrize("label", NASTY)
def test_labels_cannot_leave_the_data(pg, label):
    page = pg.explore(pg.Value(1.0, label=label) * 2, None)
    assert page.html.count("<script") == 2 and page.html.count("</script>") == 2
    assert "\u202e" not in page.html and len(page.html) < 60_000 + len(label)


@pytest.fixture(scope="module")
def chromium():
    api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None or "asan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("no Chromium, or one that would run under sanitizers")
    with api.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def screenshot(page, name):
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def accessible(page):
    """What axe-core finds wrong."""
    if "AXE" not in os.environ:
        return []
    page.evaluate(Path(os.environ["AXE"]).read_text(encoding="utf-8"))
    return [(v["id"], [n["html"] for n in v["nodes"]]) for v in page.evaluate("axe.run()")["violations"]]


def shown(page):
    """The numbers on the page, of boxes and of the table, which must be the same."""
    boxes = page.eval_on_selector_all(
        "svg .node", "all => all.map(g => [...g.querySelectorAll('text')].map(t => t.textContent))"
    )
    table = page.eval_on_selector_all("tbody tr", "all => all.map(r => [...r.children].map(c => c.textContent))")
    assert [[r[0], f"data {r[3]}", f"grad {r[4]}"] for r in table] == boxes
    return {box[0]: (box[1][5:], box[2][5:]) for box in boxes}


def open_page(chromium, root, tmp_path, pg, **settings):
    path = pg.explore(root, tmp_path / "backward.html").path
    page = chromium.new_page(**{"viewport": {"width": 1280, "height": 760}, **settings})
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: said.append(request.url) if not request.url.startswith("file:") else None)
    page.goto(path.as_uri())
    return page, said


def test_clicking_through_the_neuron_shows_the_engines_numbers(pg, chromium, tmp_path):
    o, leaves = neuron(pg)
    page, said = open_page(chromium, o, tmp_path, pg)
    nodes, _ = pg.trace(o)
    forward = [v for v in nodes if v._op]
    known = {v.label: f"{v.data:.6g}" for v in nodes if not v._op}
    assert {name: data for name, (data, _) in shown(page).items()} == {**{v.label: "?" for v in forward}, **known}
    for v in forward:
        page.click("#next")
        known[v.label] = f"{v.data:.6g}"
        now = shown(page)
        assert all(now[name][0] == number for name, number in known.items()) and now[v.label][1] == "0"
        assert f"= {v.data:.6g}" in page.inner_text("#said")
    # The same pass by the engine's own steps.
    grads = {v.label: 0.0 for v in nodes}
    for v in nodes:
        v.grad = 0.0
    o.grad = 1.0
    for step, v in enumerate(reversed(nodes), 1):
        page.click("#next")
        assert page.inner_text("#where") == f"backward {step} of 10"
        v._backward()
        grads = {u.label: u.grad for u in nodes}
        assert {name: grad for name, (_, grad) in shown(page).items()} == {k: f"{g:.6g}" for k, g in grads.items()}
        lit = page.eval_on_selector_all(".edge.lit", "all => all.length")
        assert lit == (len(v._operands()) + 1 if v._op else 0)
        if step in (1, 5):
            screenshot(page, f"neuron-backward-{step}")
    assert page.is_disabled("#next")
    final = {name: float(shown(page)[name][1]) for name in leaves}
    assert final == {"x1": -1.5, "w1": 1.0, "x2": 0.5, "w2": 0.0, "b": 0.5}
    o.backward()
    assert all(round(v.grad, 6) in (final[v.label] * 2, final[v.label]) for v in leaves.values())
    assert not said and not accessible(page)
    page.close()


def test_keys_slider_search_and_themes(pg, chromium, tmp_path):
    o, _ = neuron(pg)
    page, said = open_page(chromium, o, tmp_path, pg, color_scheme="dark")
    where = lambda: page.inner_text("#where")  # noqa: E731
    assert page.get_attribute("html", "data-theme") == "dark"
    assert not accessible(page)
    page.click("#theme")
    assert page.get_attribute("html", "data-theme") == "light"
    page.click("h1")
    for key, expected in (
        ("ArrowRight", "forward 1 of 5"), ("End", "backward 10 of 10"), ("ArrowLeft", "backward 9 of 10"),
        ("Home", "start"), ("b", "backward 1 of 10"),
    ):  # fmt: skip
        page.keyboard.press(key)
        assert where() == expected
    page.evaluate(
        "s => { const r = document.getElementById('slider'); r.value = s; r.dispatchEvent(new Event('input')); }", 3
    )
    assert where() == "forward 3 of 5" and "x1w1 + x2w2" in page.inner_text("#said")
    page.keyboard.press("/")
    page.keyboard.type("tanh")
    assert page.eval_on_selector_all(".found", "all => all.map(g => g.id)") == ["n9"]
    page.keyboard.press("Escape")
    before = page.get_attribute("svg > g", "transform")
    page.click("#in")
    assert page.get_attribute("svg > g", "transform") != before
    page.click("summary")
    assert not accessible(page) and not said
    page.click("#first")
    page.click("#play")
    page.get_by_text("forward 1 of 5").wait_for(timeout=5000)
    page.close()


def test_on_a_phone_numbers_are_large_enough(pg, chromium, tmp_path):
    page, said = open_page(
        chromium,
        pg.nn.MLP(3, [4, 1])([1.0, 2.0, 3.0]),
        tmp_path,
        pg,
        viewport={"width": 390, "height": 780},
        has_touch=True,
    )
    page.tap("#backward")
    page.tap("#next")
    screenshot(page, "phone")
    heights = page.eval_on_selector_all("svg .now text", "all => all.map(t => t.getBoundingClientRect().height)")
    assert min(heights) > 10
    inside = page.eval_on_selector(
        "svg .node.now", "g => { const r = g.getBoundingClientRect(); return [r.left, r.right, r.top, r.bottom]; }"
    )
    assert inside[0] >= 0 and inside[1] <= 391 and inside[2] >= 0 and inside[3] <= 780
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    targets = page.eval_on_selector_all("button", "all => all.map(b => b.getBoundingClientRect().height)")
    assert min(targets) >= 40 and not accessible(page) and not said
    page.close()


def test_labels_are_text_on_the_page(pg, chromium, tmp_path):
    root = sum((pg.Value(1.0, label=label) for label in NASTY), pg.Value(0.0))
    root.label = NASTY[0]
    page, said = open_page(chromium, root, tmp_path, pg)
    boxes = page.eval_on_selector_all("svg .node", "all => all.map(g => g.querySelector('text').textContent)")
    titles = page.eval_on_selector_all("svg .node > title", "all => all.map(t => t.textContent)")
    assert NASTY[0] in boxes and NASTY[2] in boxes and NASTY[3] in boxes and NASTY[4] in boxes
    assert max(map(len, boxes)) <= 62 and any(NASTY[5] in title for title in titles)
    page.click("#last")
    screenshot(page, "labels")
    assert page.title().startswith("Backward through") and not said
    page.close()


def test_three_hundred_nodes_step_without_a_delay(pg, chromium, tmp_path):
    page, said = open_page(chromium, pg.nn.MLP(4, [8, 6, 1])([0.1, 0.2, 0.3, 0.4]), tmp_path, pg)
    took = page.evaluate(
        """() => { const times = []; for (let k = 0; k < 60; k++) { const t = performance.now();
        document.getElementById('next').click(); document.body.getBoundingClientRect();
        times.push(performance.now() - t); }
        return times.sort((a, b) => a - b)[30]; }"""
    )
    print(f"a step of the page: {took:.1f} ms")
    assert took < 100 and not said
    page.close()


LINK = "<a> URL=\"javascript:document.title='ran'\" b=<" + "c" * 60 + ">"


def test_a_click_on_a_drawing_runs_nothing(pg, chromium, tmp_path):
    """As in a notebook: the SVG within a page, clicked everywhere."""
    names = [LINK, "<b>x</b>", "<TABLE HREF=\"javascript:document.title='ran'\"><TR><TD>x</TD></TR></TABLE>", *NASTY]
    root = pg.Value(0.0)
    for name in names:
        with pg.scope(name if all(name.split("/")) else "s"):
            root = root + pg.Value(1.0, (pg.Value(1.0, label=name),), name, label=name)
    program = pg.jit(lambda t: list(t.values())).program(dict.fromkeys(names, 1.0))
    drawings = [pg.draw_dot(root), pg.draw_dot(root, collapse=1), pg.draw_dot(program)]
    pictures = [drawing._repr_mimebundle_()["image/svg+xml"] for drawing in drawings]
    path = tmp_path / "notebook.html"
    body = "".join(f"<div>{picture[picture.index('<svg') :]}</div>" for picture in pictures)
    path.write_text(f'<!doctype html><meta charset="utf-8"><title>quiet</title>{body}', encoding="utf-8")
    page = chromium.new_page(viewport={"width": 1600, "height": 1200})
    said = []
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if not request.url.startswith("file:") else None)
    page.goto(path.as_uri())
    clicked = page.evaluate(
        """() => { const all = [...document.querySelectorAll('svg *')];
        const click = () => new MouseEvent('click', { bubbles: true, cancelable: true, view: window });
        for (const e of all) e.dispatchEvent(click());
        return all.length; }"""
    )
    screenshot(page, "hostile")
    assert clicked > 300 and page.title() == "quiet" and page.url == path.as_uri() and not said
    assert page.evaluate("document.querySelectorAll('script, b, [href], [onload], [onclick]').length") == 0
    shown = page.evaluate(
        "[...document.querySelectorAll('svg text')].map(e => e.textContent.replaceAll('\\u00a0', ' '))"
    )
    assert "<b>x</b>" in shown and any(text.startswith('<a> URL="java') for text in shown)
    page.close()
