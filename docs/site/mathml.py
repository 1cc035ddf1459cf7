"""Formulae as MathML, which browsers draw themselves: no script, no font, no picture, and screen readers know it."""

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError


def visit_inline(self: Any, node: nodes.math) -> None:
    """Write a formula within a sentence."""
    self.body.append(_mathml(node, "inline"))
    raise nodes.SkipNode


def visit_block(self: Any, node: nodes.math_block) -> None:
    """Write a formula on a line of its own, which scrolls where the page is narrower than it is."""
    self.body.append(f'<div class="formula">{_mathml(node, "block")}</div>\n')
    raise nodes.SkipNode


def _mathml(node: nodes.Element, display: str) -> str:
    """Raises ExtensionError, which ends the build, for what is no formula."""
    text = node.astext()
    try:
        return str(convert(text, display=display))
    except Exception as error:
        raise ExtensionError(f"{node.source}:{node.line}: no formula: {text}", error) from error


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
