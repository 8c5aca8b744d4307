"""Labels and operations' names as text, whatever is in them: in drawings, charts, trees, listings and C."""

from __future__ import annotations

import html
import re
import sys
import unicodedata
import xml.etree.ElementTree as ET

import pytest

TEXTS = {
    "quotes": "a\"b'c`d",
    "braces": "{a|b}<c>[d](e)",
    "script": "<script>alert(1)</script>",
    "entities": "&lt;script&gt; &#60; #lt; #35; &amp",
    "html": "<b>x</b><br/>",
    "an html label": "<<b>x</b>>",
    "comments": "*/ /* // -- %% \"\"\" '''",
    "newlines": "a\nb\r\nc\td\x0be\u2028f\u2029g\x85h",
    "backslashes": "a\\b \\n \\N \\l\\",
    "nul": "a\0b",
    "control": "a\x01\x07\x08\x7f\x9bb\ufffe\uffff",
    "terminal": "\x1b[31mred\x1b]0;title\x07",
    "override": "a\u202eb\u202dc\u202cd",
    "embedding": "a\u202bb\u202ac",
    "isolates": "a\u2066b\u2067c\u2068d\u2069e",
    "marks": "a\u200fb\u200ec\u061cd",
    "surrogates": "a\ud800b\udfffc",
    "emoji": "a\U0001f600b\U0001f469\u200d\U0001f467c",
    "letters": "x\u0304 \u03b1\u00e9 \u05d0\u05d1 \u4e2d",
    "keyword": "end",
    "port": "n0:n1",
}
MOVING = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")


@pytest.fixture(params=TEXTS)
def text(request):
    return TEXTS[request.param]


def graph(pg, text):
    """A label of a leaf, one of a result, and an operation of that name."""
    a, b = pg.Value(1.0, label=text), pg.Value(2.0)
    c = a * b
    c.label = text
    d = c + a
    d._op = text
    return d


def check_plain(shown, also="\n"):
    """Check that the text has no control or bidirectional characters, and can be encoded."""
    shown.encode()
    assert not [c for c in shown if c not in also and unicodedata.category(c) in ("Cc", "Cs", "Cn", "Zl", "Zp")]
    assert not MOVING & set(shown)


def joined(text):
    """Without blanks, which drawings may change."""
    return re.sub(r"\s", "", text)


def test_visible_text_is_one_line_and_leaves_what_can_be_seen(pg, text):
    visible = sys.modules["pygrad._core.text"].visible
    check_plain(visible(text), also="")
    assert visible("a\u202eb\0\ud800\x1b\n\u00a0") == "a\\u202eb\\x00\\ud800\\x1b  "
    for same in ("quotes", "script", "backslashes", "emoji", "letters"):
        assert visible(TEXTS[same]) == TEXTS[same]


def test_a_drawing_is_valid_and_shows_the_text(pg, text):
    if sys.modules["pygrad._views.drawing"].find_renderer() is None:
        pytest.skip("no renderer")
    drawing = pg.draw_dot(graph(pg, text))
    check_plain(drawing.source, also="\n\t")
    svg = drawing.pipe(format="svg", encoding="utf-8")
    root = ET.fromstring(svg)
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags <= {"svg", "g", "title", "polygon", "polyline", "ellipse", "path", "text"}
    shown = joined("".join(element.text or "" for element in root.iter() if element.tag.endswith("text")))
    assert shown.count(joined(sys.modules["pygrad._core.text"].visible(text))) == 3
    assert not MOVING & set(html.unescape(svg))


def test_a_chart_is_one_of_mermaid_whatever_the_text(pg, text):
    chart = pg.to_mermaid(graph(pg, text))
    check_plain(chart)
    lines = chart.splitlines()
    assert lines[0] == "flowchart LR" and len(lines) == 1 + 4 + 2 + 6
    content = r"[\w .,+\-*/()=\u0304]|#\d+;"
    box, oval, edge = (
        rf'n\d\["((?:{content})+<br/>)?data \S+<br/>grad \S+"\]',
        rf'op\d\(\["(?:{content})+"\]\)',
        r"\w+ --> \w+",
    )
    for line in lines[1:]:
        assert re.fullmatch(f"    (?:{box}|{oval}|{edge})", line), line[:200]
    # Mermaid turns #123; into its character.
    shown = re.sub(r"#(\d+);", lambda m: chr(int(m[1])), chart)
    assert joined(shown).count(joined(sys.modules["pygrad._core.text"].visible(text))) >= 3
    check_plain(shown)


def test_a_tree_has_a_line_for_each_node(pg, text):
    tree = pg.to_text(graph(pg, text))
    check_plain(tree)
    assert len(tree.splitlines()) == 5 and tree.count(sys.modules["pygrad._core.text"].visible(text)) == 4


def test_json_gives_the_text_back(pg, text):
    import json

    shown = pg.to_json(graph(pg, text))
    assert shown.isascii()
    assert [node["label"] for node in json.loads(shown)["nodes"]] == [text, "", text, ""]
    assert json.loads(shown)["nodes"][-1]["op"] == text


def programs(pg, text):
    """A program that reads a Value of that label and a dict with that key, and one whose file names an argument so."""
    outside = pg.Value(2.0, label=text)
    yield pg.jit(lambda d: d[text] * outside).program({text: 1.0})
    strange = pg.jit(lambda x: x * 2).program(1.0)
    strange.code.names = [text]
    yield strange


def test_listings_have_a_line_for_each_instruction(pg, text):
    for program in programs(pg, text):
        listing = program.listing()
        check_plain(listing)
        assert len(listing.splitlines()) == 7, listing
    assert sys.modules["pygrad._core.text"].visible(text) in listing


def test_generated_c_has_it_in_its_comment_alone(pg, text):
    for program in programs(pg, text):
        source = program.to_c("f")
        check_plain(source)
        comment, _, code = source.partition("*/")
        assert source.count("*/") == source.count("/*") == 1 and "\\" not in source and "??" not in comment
        assert code.splitlines()[1] == "#include <math.h>" and (text not in code or text == "end")


def test_a_drawn_program_shows_the_text(pg, text):
    if sys.modules["pygrad._views.drawing"].find_renderer() is None:
        pytest.skip("no renderer")
    for program in programs(pg, text):
        root = ET.fromstring(pg.draw_dot(program).pipe(format="svg", encoding="utf-8"))
        shown = "".join(element.text or "" for element in root.iter() if element.tag.endswith("text"))
        assert not MOVING & set(shown)
    assert joined(sys.modules["pygrad._core.text"].visible(text)) in joined(shown)
