"""Users' names in every format: DOT, SVG, HTML, Mermaid, JSON, text, C; and files that can't be written.

A label is always shown as text: never a link, a script or another graph.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import xml.etree.ElementTree as ET
import zlib
from pathlib import Path

import pytest

SVG = "{http://www.w3.org/2000/svg}"
TITLE = "{http://www.w3.org/1999/xlink}title"
PIECES = [
    '<a> URL="javascript:alert(1)" b=<', ">", "<b>x</b>",
    '<TABLE HREF="javascript:alert(1)"><TR><TD>x</TD></TR></TABLE>', "<", "<>",
    '"', "'", "\\", "\\N", "\\G", '\\"', "\\l", "\n", "\t", "\r\n", "\x00", "\x1b[31m", "\x7f", "\u0085", "\u2028",
    "\u2029", "\u202e",
    "\u2066", "\u200b", "\ud800", "\udfff", "\ufeff", "\ufffe", "\U000e0001", "]]>", "<![CDATA[", "<!--", "-->",
    "&", "&lt;", "&#60;",
    "&#x3c;script&#x3e;", "<script>alert(1)</script>", "</script>", '" onload="alert(1)', "javascript:alert(1)",
    "{", "}", "|", "{{data}}",
    "{{title}}", ";", "//", "/*", "*/", "#", "%s", "${x}", "`", "->", "-- ", "[", "]", "]; n0 [URL=x]", "digraph",
    "node", "0", "-1.5",
    "a:b:c", "é", "漢", "🦄", "x" * 50, " ", "  ", "strict", "=", ",", "%0", "%1", "$", "$x$",
]  # fmt: skip


def hostile(rng, count):
    """Strings of the pieces above, and strings that once did harm."""
    long = '<a> URL="javascript:alert(1)" b=<' + "c" * 60 + ">"
    fixed = [
        *(c * 9000 for c in '\\&"<🦄\u202e|'),
        long,
        "<b>x</b>",
        f"{long}{long}",
        "long " * 2000,
        " ",
        "\ud800",
        "\u202egnp.exe",
        "{{data}}",
        "]]>",
        *PIECES,
    ]
    made = ["".join(rng.choice(PIECES) for _ in range(rng.randint(1, 6))) for _ in range(count)]
    return [*(text for text in fixed), *made]


def tidy(text):
    """The text without blanks, which records and SVG join."""
    return " ".join(text.replace("\xa0", " ").split())


def check_svg(pg, svg, boxes, texts, tooltips):
    """Check that it has the right number of nodes, and shows every name as `visible` writes it."""
    root = ET.fromstring(svg)
    for element in root.iter():
        assert element.tag in {
            SVG + tag for tag in ("svg", "g", "title", "text", "polygon", "polyline", "ellipse", "path", "a")
        }
        for name in element.attrib:
            assert not name.lower().startswith("on") and not name.endswith("href"), name
        assert element.tag != SVG + "a" or set(element.attrib) <= {TITLE}, element.attrib
    groups = [g for g in root.iter(SVG + "g") if g.get("class") == "node"]
    assert len(groups) == boxes
    shown = [tidy("".join(t.itertext())) for t in root.iter(SVG + "text")]
    wanted = [tidy(pg._core.text.visible(pg._core.text.shortened(text))) for text in texts]
    assert [text for text in wanted if text and text not in shown] == []
    hovered = {tidy(a.get(TITLE)) for a in root.iter(SVG + "a") if a.get(TITLE)}
    assert {tidy(pg._core.text.visible(text)) for text in tooltips if len(text) < 3000} - {""} <= hovered


def scope_names(names):
    return [name for name in names if all(name.split("/"))]


def marked(pg, names):
    """A graph with each name as a label, an operation and a scope; its root, and how many boxes and ovals it has."""
    root, boxes = pg.Value(0.0), 1
    scopes = scope_names(names)
    for i, name in enumerate(names):
        with pg.scope(scopes[i % len(scopes)]):
            x = pg.Value(1.0, label=name)
            y = pg.Value(2.0, (x,), name or "op", label=name[::-1])
        root = root + y
        boxes += 3
    return root, 2 * boxes - 1 - len(names)


RENDERERS = [name for name in ("dot", "graphviz-pure") if shutil.which(name) or name == "graphviz-pure"]


@pytest.fixture(params=RENDERERS)
def renderer(request, pg, monkeypatch):
    draw = sys.modules["pygrad._views.drawing"]
    if request.param == "graphviz-pure":
        which = shutil.which
        monkeypatch.setattr(shutil, "which", lambda name, *rest: None if name == "dot" else which(name, *rest))
        if draw.find_renderer() is None:
            pytest.skip("graphviz-pure is not installed")
    from graphviz.backend import dot_command

    monkeypatch.setattr(dot_command, "DOT_BINARY", Path("dot"))
    return request.param


def chunks(names, size):
    return [names[i : i + size] for i in range(0, len(names), size)]


def test_drawings_show_names_as_text(pg, renderer, rng):
    for names in chunks(hostile(rng, 40), 60):
        root, boxes = marked(pg, names)
        svg = pg.draw_dot(root, max_nodes=10_000).pipe(format="svg", encoding="utf-8")
        within = scope_names(names)
        tooltips = [f"{name} in {within[i % len(within)]}" for i, name in enumerate(names) if name]
        check_svg(pg, svg, boxes, names, tooltips)


def test_folds_show_names_as_text(pg, renderer, rng):
    names = scope_names(hostile(rng, 40))
    root, _ = marked(pg, names)
    drawing = pg.draw_dot(root, collapse=1)
    folded = sys.modules["pygrad._views.folding"].fold(root, collapse=1)
    titles = [v.title for v in folded.vertices if hasattr(v, "title")]
    assert len(titles) > 60
    boxes = drawing.source.count("label=")
    check_svg(pg, drawing.pipe(format="svg", encoding="utf-8"), boxes, titles, [])


def test_programs_show_the_names_of_arguments_as_text(pg, renderer, rng):
    names = list(dict.fromkeys(hostile(rng, 40)))
    outside = pg.Value(1.0, label='<a> URL="javascript:alert(1)" b=<c>')
    program = pg.jit(lambda t: {name: x * 2.0 + outside for name, x in t.items()}).program(dict.fromkeys(names, 1.0))
    svg = pg.draw_dot(program).pipe(format="svg", encoding="utf-8")
    listing = program.listing()
    lines = listing.splitlines()
    assert all(line.isprintable() for line in lines)
    assert sum(line.lstrip().startswith("result[") for line in lines) == len(names)
    boxes = sum(len(step.operands) > 0 for step in sys.modules["pygrad._program.listing"].steps(program.code))
    check_svg(pg, svg, boxes + len(names) + 2, [f"t[{name!r}]" for name in names], [])
    source = program.to_c("f")
    code = re.sub(r"/\*.*?\*/", "", source, flags=re.DOTALL)
    assert "alert" not in code and "x" * 50 not in code and source.count("/*") == source.count("*/") == 1


def test_pages_hold_names_as_text(pg, rng, tmp_path):
    for names in chunks(hostile(rng, 40), 60):
        root, _ = marked(pg, names)
        root.label = names[0]
        page = pg.explore(root, tmp_path / "page.html")
        text = page.html
        assert text.count("<script") == text.count("</script>") == 3 and text.count("<h1>") == 1
        assert all(c.isprintable() or c in "\n\u200d" for c in text)
        assert (tmp_path / "page.html").read_text(encoding="utf-8") == text
        packed, held = re.search(r'id="data" data-packed="(\w*)">(.*?)</script>', text, re.DOTALL).groups()
        data = json.loads(zlib.decompress(base64.b64decode(held)) if packed else held)
        assert all(pg._core.text.visible(name) in data["labels"].values() for name in names)


def test_text_mermaid_and_json_hold_names_as_text(pg, rng):
    names = hostile(rng, 100)
    root, _ = marked(pg, names)
    lines = pg.to_text(root, lines=10_000)
    assert all(line.isprintable() for line in lines.replace("\u200d", "").splitlines())
    nodes = pg._views.table.node_table(root)
    assert len(lines.splitlines()) == len(nodes)
    for folded in ({}, {"collapse": 1}):
        chart = pg.to_mermaid(root, max_nodes=10_000, **folded)
        for line in chart.splitlines()[1:]:
            assert re.fullmatch(
                r'    (n\d+(\[\[?"[^"<>`\x00-\x1f]*(<br/>[^"<>`]*)*"\]?\])|op\d+\(\["[^"<>`]*"\]\)|\w+ --> \w+)', line
            ), line
            assert line.isprintable() and "javascript:" not in line
    text = pg.to_json(root)
    labels = [row.label.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass") for row in nodes]
    read = [node["label"] for node in json.loads(text)["nodes"]]  # joins two surrogates to one character
    assert text.isascii() and read == labels


def test_messages_hold_names_as_text(pg):
    with pg.scope("\u202e\n\x1b[31m"):
        y = pg.Value(0.0, label="\u202e\n\x1b") * 1.0
    with pytest.raises(FloatingPointError) as caught:
        y.sqrt().backward(check=True)
    with pytest.raises(ValueError) as listed:
        pg.draw_dot(y, unfold="x")
    for error in (caught, listed):
        assert not re.search("[\u202e\x1b]", str(error.value))


# ---- Files -------------------------------------------------------------------------------------------


def writers(pg):
    nn, training = sys.modules["pygrad.nn"], sys.modules["pygrad._learn.fit"]
    x = pg.Value(1.0, label="x")
    return {
        "explore": lambda path: pg.explore(x * 2.0, path),
        "program": lambda path: pg.jit(lambda a: a * 2.0).program(1.0).save(path),
        "module": lambda path: nn.MLP(2, [1]).save(path),
        "checkpoint": lambda path: training.fit(nn.MLP(1, [1]), [[1.0]], [1.0], epochs=1, checkpoint=path),
        "draw": lambda path: sys.modules["pygrad._cli.cli"].main(
            ["draw", "x", "x=1", "-o", str(path), "--format", "dot"]
        ),
    }


@pytest.mark.parametrize("kind", ["explore", "program", "module", "checkpoint", "draw"])
def test_a_failure_leaves_the_file_that_was_there(pg, kind, tmp_path, monkeypatch):
    pytest.importorskip("numpy")
    path, write = tmp_path / "file.dot", writers(pg)[kind]
    path.write_text("as it was")
    path.chmod(0o640)
    files = sys.modules["pygrad._core.files"]

    class Full:
        """A disk that fills up."""

        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, data):
            self.file.write(data[: len(data) // 2])
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        opened = Path.open
        patch.setattr(
            files.Path,
            "open",
            lambda self, mode, **k: Full(opened(self, mode, **k)) if "b" in mode else opened(self, mode, **k),
        )
        if kind == "draw":
            assert write(path) == 2
        else:
            with pytest.raises(OSError, match="No space left"):
                write(path)
    assert path.read_text() == "as it was" and [p.name for p in tmp_path.iterdir()] == ["file.dot"]
    write(path)
    assert path.read_bytes() != b"as it was" and [p.name for p in tmp_path.iterdir()] == ["file.dot"]
    assert os.name == "nt" or stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.skipif(os.name == "nt", reason="links and devices")
def test_links_stay_links_and_devices_are_written(pg, tmp_path):
    write = sys.modules["pygrad._core.files"].write
    (tmp_path / "link").symlink_to("target")
    write(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_text() == "text"
    write(os.devnull, b"bytes")
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE)
    write(tmp_path / "pipe", "through")
    assert reader.communicate()[0] == b"through"
    with pytest.raises(FileNotFoundError) as caught:
        write(tmp_path / "nowhere" / "file", "text")
    assert caught.value.filename == str(tmp_path / "nowhere" / "file")
