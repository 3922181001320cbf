"""Shows doctests of docstrings as code: Markdown would read ``>>>`` as three nested quotations."""

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*(?:\n\n>>> .*(?:\n.+)*)*", re.MULTILINE)


class Doctests(griffe.Extension):
    """Puts fences around each run of examples."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of one object."""
        if obj.docstring:
            obj.docstring.value = _EXAMPLE.sub(
                lambda found: f"```python\n{found[0]}\n```", obj.docstring.value
            )
