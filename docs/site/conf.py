"""Sphinx's settings for a language of the handbook, which docs/site/build.py names."""

import sys
from pathlib import Path

SITE = Path(__file__).resolve().parent
sys.path.insert(0, str(SITE.parents[1]))

project = "Challenge kit"
author = "Challenge kit"
language = "en"
extensions = ["myst_parser", "docs.site.mathml", "docs.site.pages"]
exclude_patterns: list[str] = []
templates_path = [str(SITE / "templates")]

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = project
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_show_sphinx = False
html_use_index = False
html_show_search_summary = False  # a browser hands a page from the disk to no script
html_domain_indices = False
html_static_path = [str(SITE / "static")]
html_css_files = ["handbook.css"]
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/language.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
