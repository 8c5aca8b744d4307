"""The site: `pip install -e '.[docs]' && make -C docs html`, then open docs/_build/html/index.html."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
os.environ.setdefault("MPLBACKEND", "Agg")  # for notebooks' kernels, too

import pygrad  # noqa: E402

project = "pygrad"
project_copyright = "the authors of pygrad. MIT licence"
version = release = pygrad.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "pygrad_site",
]
exclude_patterns = ["_build", "gallery/GALLERY_HEADER.rst", "gallery/*.ipynb", "gallery/*.py", "gallery/*.md5"]
root_doc = "index"

html_theme = "furo"
html_title = "pygrad"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_theme_options = {
    "navigation_with_keys": True,
    "top_of_page_buttons": [],
    "source_repository": "https://github.com/pygrad-engine/pygrad/",
    "source_branch": "main",
    "source_directory": "docs/",
}
html_show_sphinx = False
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"

# ---- Markdown, and the notebooks of the course --------------------------------------------------------

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_code_prompt_show = "Show a solution"
nb_code_prompt_hide = "Hide the solution"
nb_merge_streams = True
# In drawings, and in explore's pages, these are fallbacks of each other.
nb_mime_priority_overrides = [("html", "image/svg+xml", 5)]
suppress_warnings = ["config.cache"]  # sphinx-gallery's settings hold functions

# ---- The reference --------------------------------------------------------------------------------------

default_role = "literal"  # docstrings write code in single backticks
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
intersphinx_mapping = {  # inventories of the few names that we mention: the build needs no network
    "python": ("https://docs.python.org/3", "_build/inventories/python.inv"),
    "numpy": ("https://numpy.org/doc/stable", "_build/inventories/numpy.inv"),
    "scipy": ("https://docs.scipy.org/doc/scipy", "_build/inventories/scipy.inv"),
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# ---- The gallery ----------------------------------------------------------------------------------------

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "ignore_pattern": r"__init__\.py",
    "image_scrapers": ("pygrad_gallery.pictures",),
    "reset_argv": "pygrad_gallery.arguments",
    "reset_modules": ("matplotlib",),
    "remove_config_comments": True,
    "download_all_examples": False,
    "show_memory": False,
    "plot_gallery": "True",
    "abort_on_example_error": True,
    "min_reported_time": 10_000,
    "write_computation_times": False,  # pages that would load scripts from other sites
    "within_subsection_order": "ExampleTitleSortKey",
}
