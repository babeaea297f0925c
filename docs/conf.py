"""The configuration of the documentation site: `make docs`. It builds without a network."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import django

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["DJANGO_SETTINGS_MODULE"] = "docs.site_settings"
django.setup()

from bunce_sync import __version__  # noqa: E402

project = "django-bunce-sync"
author = "the authors of django-bunce-sync"
project_copyright = author
release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
nitpicky = True

# Markdown
myst_heading_anchors = 4
myst_enable_extensions = ["deflist", "colon_fence"]

# The reference, from the docstrings
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_use_ivar = True
napoleon_attr_annotations = False
add_module_names = False
# Types of Python, Django and other packages: their documentation is not on this site.
nitpick_ignore_regex = [("py:.*", ".*")]

# The pages
pygments_dark_style = "github-dark"
html_theme = "furo"
html_title = f"django-bunce-sync {release}"
html_static_path = ["_static"]
html_css_files = ["docs.css"]
html_search_scorer = str(ROOT / "docs" / "search_scorer.js")
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "source_repository": "",
    "navigation_with_keys": False,
}
