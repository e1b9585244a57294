"""Sphinx configuration of the documentation site.

The site is complete in itself: formulas are MathML that the browser draws, and no page loads anything
from elsewhere.
"""

import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "refblo"
author = "the refblo developers"
copyright = f"{author}; Apache License 2.0"
version = release = metadata.version("refblo")

extensions = [
    "ages",
    "from_the_code",
    "mathml",
    "myst_parser",
    "plain_docstrings",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build", "_templates", "reproduced"]  # the last are included by a page
suppress_warnings: list[str] = []  # a warning is an error, and none is waved through

html_theme = "furo"
html_title = "refblo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_show_sphinx = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "substitution"]
myst_heading_anchors = 3
myst_dmath_double_inline = True

templates_path = ["_templates"]
default_role = "code"  # docstrings put code in single backticks
autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False


def installed_size(name: str) -> str:
    """State the size of a distribution, as the dependencies page quotes it, if it is installed."""
    try:
        files = metadata.files(name) or []
    except metadata.PackageNotFoundError:  # of an extra that nobody needs to build this page
        return "not installed here"
    paths = [Path(str(file.locate())) for file in files]
    size = sum(path.stat().st_size for path in paths if path.is_file())
    return f"{size / 1e6:.1f}\N{NO-BREAK SPACE}MB"


def direct_dependencies() -> list[str]:
    """Name what refblo asks for itself: for a run, and in its extras."""
    requirements = [Requirement(text) for text in metadata.requires("refblo") or []]
    return sorted({requirement.name for requirement in requirements} - {"refblo"})


myst_substitutions = {
    f"size_{name.replace('-', '_')}": installed_size(name) for name in direct_dependencies()
}
