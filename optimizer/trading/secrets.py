"""What keeps the keys of an account to where they belong: which addresses they go to, what is shown."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable

from optimizer.errors import BrokerError


def hidden(text: str, keys: Iterable[str]) -> str:
    """A text in which keys are blotted out.

    Args:
        text: the text.
        keys: the keys.
    """
    for key in keys:
        text = text.replace(key, "***")
    return text


def checked_address(text: str, name: str, keys: Iterable[str]) -> str:
    """An address to which keys may go.

    Args:
        text: the address.
        name: what states it, for messages.
        keys: the keys, which no message shows.

    Returns:
        The address without a slash at its end.

    Raises:
        BrokerError: it is neither one of https nor one of this machine.
    """
    parts = urllib.parse.urlsplit(text)
    own = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost")
    if parts.scheme != "https" and not own:
        raise BrokerError(
            f"{name}: {hidden(text, keys)}: expected an address that begins with https://"
        )
    return text.rstrip("/")
