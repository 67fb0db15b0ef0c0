"""How every page is filled: Jinja escapes all texts, no text is taken for markup, and the styles' hash is allowed."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from miyabi_cli import __version__
from miyabi_cli.report.display import counted, visible_text

TEMPLATES = Path(__file__).parent / "templates"


def open_templates() -> Environment:
    """Return the templates of all pages."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.globals |= {"counted": counted, "version": __version__}
    return environment


def styles(*names: str) -> dict[str, Any]:
    """Return the variables that a page's head takes: the style sheets together, and the hash that its policy names."""
    style = "".join((TEMPLATES / name).read_text("utf-8") for name in names)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return {"style": Markup(style), "style_hash": digest}  # noqa: S704 - the project's own files


def _shown(value: Any) -> Any:
    """Return a value as it goes into a page: characters that hide or reorder text are named in their place."""
    return visible_text(value) if type(value) is str else value  # a Markup is the template's own
