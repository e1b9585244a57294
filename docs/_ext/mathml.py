"""A Sphinx math renderer that writes MathML with docutils' own converter.

Every current browser draws MathML, so the pages need no script and no network for their formulas. A
formula that the converter does not understand is a warning, and so ends the build.
"""

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.typing import ExtensionMetadata
from sphinx.writers.html5 import HTML5Translator

LOGGER = logging.getLogger(__name__)


def _mathml(node: nodes.math | nodes.math_block, *, as_block: bool) -> str:
    """Convert the LaTeX of a node; on failure warn where it stands and show the source."""
    source = node.astext()
    try:
        return str(tex2mathml(source, as_block=as_block))
    except MathError as error:
        LOGGER.warning("cannot be written as MathML: %s (%s)", source, error, location=node)
        return f"<code>{nodes.unescape(source)}</code>"


def visit_inline(translator: HTML5Translator, node: nodes.math) -> None:
    """Write an inline formula."""
    translator.body.append(_mathml(node, as_block=False))
    raise nodes.SkipNode


def visit_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Write a displayed formula, in a box that scrolls by itself where the page is too narrow."""
    translator.body.append(translator.starttag(node, "div", CLASS="math"))
    translator.body.append(_mathml(node, as_block=True))
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the renderer under the name `mathml`."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
