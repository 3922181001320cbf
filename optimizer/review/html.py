"""HTML from templates, which escape every value that they do not call safe."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def _environment(package: str) -> Environment:
    return Environment(
        loader=PackageLoader(package, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(package: str, template: str, **values: Any) -> str:
    """Fill in a template.

    Args:
        package: whose folder ``templates`` holds it.
        template: name of its file.
        values: what it names; texts are escaped where the template does not call them ``safe``.

    Returns:
        A piece of HTML.

    Raises:
        jinja2.UndefinedError: the template names a value that is not given.
    """
    return _environment(package).get_template(template).render(**values)
