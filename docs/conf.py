"""How the docs are built: `make docs`, which is `sphinx-build -W docs docs/_build/html`."""

import sys
from pathlib import Path

import ferret

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "ferret"
author = "The ferret maintainers"
version = release = ferret.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "ferret_docs"]
exclude_patterns = ["_build"]
suppress_warnings = ["ref.python"]  # an attribute's name in a docstring, such as run_id, may be that of several classes
default_role = "code"  # single backticks in docstrings, as in Markdown

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "exclude-members": "model_config"}
napoleon_numpy_docstring = False
napoleon_use_ivar = True

copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True

html_theme = "furo"
html_title = "ferret"
html_static_path = ["_static"]
html_css_files = ["ferret.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
