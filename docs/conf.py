"""Sphinx configuration of this documentation: Markdown pages, nothing loaded from elsewhere. `make docs` builds it."""

project = "sweep"
extensions = ["myst_parser"]
exclude_patterns = ["_build"]

# A link to a page, a heading or a file of the repository that is not there is a warning, and warnings are errors.
nitpicky = True
myst_heading_anchors = 4

html_theme = "furo"
html_title = "sweep"
html_static_path = ["_static"]
html_css_files = ["sweep.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
highlight_language = "text"
pygments_style = "friendly"
pygments_dark_style = "native"
