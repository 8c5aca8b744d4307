"""The site's pages: each public name is in the reference, and each page in a table of contents.

`make -C docs html` builds the site, runs the code of every page and checks all links; .ci/nightly does so.
"""

import importlib
import re
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
sys.path.insert(0, str(DOCS / "_ext"))
import links  # noqa: E402

pytest.importorskip("numpy")
MODULES = ["", ".engine", ".formula", ".math", ".nn", ".optim", ".plot", ".scipy.special", ".scipy.stats.norm"]
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in DOCS.glob("reference/*.md"))
DOCUMENTED = re.findall(r"^\.\. auto(?:function|class|exception|data|method):: ([\w.]+)", TEXT, re.MULTILINE)
WHOLE = re.findall(r"^\.\. automodule:: ([\w.]+)", TEXT, re.MULTILINE)


def _found(dotted):
    """The object of a name, such as pygrad.nn.MLP."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for name in parts[count:]:
            found = getattr(found, name)
        return found
    raise AssertionError(dotted)


@pytest.mark.parametrize("name", [*MODULES, ".sklearn"])
def test_every_public_name_is_in_the_reference(name):
    if name == ".sklearn":
        pytest.importorskip("sklearn")
    module = importlib.import_module(f"pygrad{name}")
    shown = [_found(x) for x in DOCUMENTED if name == ".sklearn" or "sklearn" not in x]
    missing = []
    for key in module.__all__:
        if f"pygrad{name}" not in WHOLE and not any(x is getattr(module, key) for x in shown):
            missing.append(key)
    assert missing == (["random"] if name == ".nn" else [])  # Python's own


def test_every_page_is_in_a_table_of_contents():
    pages = {p.relative_to(DOCS).with_suffix("").as_posix() for p in DOCS.rglob("*.md") if "_" not in p.parts[-2][0]}
    pages -= {p for p in pages if p.startswith("gallery/")}
    listed = {"index"}
    for page in pages:
        folder = Path(page).parent
        for tree in re.findall(r"^```\{toctree\}\n(.*?)^```$", (DOCS / f"{page}.md").read_text(), re.M | re.S):
            for entry in (line for line in tree.splitlines() if line and not line.startswith(":")):
                listed.add(entry[1:] if entry.startswith("/") else (folder / entry).as_posix())
    assert pages - listed == set() and listed - pages == {"gallery/index"}


def test_dead_links_are_found(tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html#there">x</a><a href="b.html#gone">y</a><img src="no.png">')
    (tmp_path / "b.html").write_text('<p id="there"><a href="https://example.org/no">far</a></p>')
    assert links.dead(tmp_path) == ["a.html: b.html#gone", "a.html: no.png"]
