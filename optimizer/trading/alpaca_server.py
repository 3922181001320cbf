"""How Alpaca's servers are asked: keys, addresses, errors."""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from optimizer.errors import BrokerError
from optimizer.trading.broker import OutageError
from optimizer.trading.secrets import checked_address, hidden

KEY, SECRET = "APCA_API_KEY_ID", "APCA_API_SECRET_KEY"
"""Variables of the environment, as Alpaca's own programs have them."""

_TOO_MANY = 429


class AlpacaServer:
    """A server of Alpaca. Keys come from the environment, and are in no file, message or log.

    Args:
        variable: the variable of the environment that names another address.
        address: the address without it.
        environment: the variables ``APCA_API_KEY_ID``, ``APCA_API_SECRET_KEY`` and that of the address;
            None takes those of this process.
        timeout: seconds that an answer may take.

    Raises:
        BrokerError: a key is missing, or the address is neither one of https nor one of this machine.
    """

    def __init__(
        self, variable: str, address: str, environment: Mapping[str, str] | None, timeout: float
    ) -> None:
        variables = os.environ if environment is None else environment
        missing = [name for name in (KEY, SECRET) if not variables.get(name)]
        if missing:
            raise BrokerError(
                f"alpaca: {' and '.join(missing)}: not set; put the keys of your account into the"
                " environment"
            )
        self._keys = variables[KEY], variables[SECRET]
        text = variables.get(variable) or address
        self._address = checked_address(text, f"alpaca: {variable}", self._keys)
        self._timeout = timeout
        self._opener = urllib.request.build_opener(_NoRedirects())

    def ask(self, method: str, path: str, content: object = None) -> tuple[int, Any]:
        """Ask, and wait for the answer.

        Args:
            method: such as ``GET``.
            path: the path, with its query.
            content: what is sent as JSON; None sends nothing.

        Returns:
            The status and the JSON of the answer.

        Raises:
            OutageError: Alpaca cannot be reached, or asks to wait.
        """
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(f"{self._address}{path}", body, method=method)
        request.add_header("APCA-API-KEY-ID", self._keys[0])
        request.add_header("APCA-API-SECRET-KEY", self._keys[1])
        request.add_header("Content-Type", "application/json")
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                return int(answer.status), _json(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                text, status, wait = error.read(), error.code, error.headers.get("Retry-After")
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise OutageError(
                f"{path.partition('?')[0]}: {hidden(str(reason), self._keys)}"
            ) from None
        if status == _TOO_MANY or status >= 500:
            seconds = float(wait) if wait and wait.isdigit() else 0.0
            message = self.message(_json(text))
            raise OutageError(f"{path.partition('?')[0]}: status {status}: {message}", seconds)
        return status, _json(text)

    def checked(self, status: int, answer: Any, what: str) -> Any:
        """The answer, if it is one.

        Args:
            status: its status.
            answer: its JSON.
            what: what was asked for, for messages.

        Raises:
            BrokerError: the status tells of an error.
        """
        if 200 <= status < 300:
            return answer
        fix = f"; see {KEY} and {SECRET}" if status in (401, 403) else ""
        raise BrokerError(f"alpaca: {what}: status {status}: {self.message(answer)}{fix}")

    def message(self, answer: Any) -> str:
        """What an error says.

        Args:
            answer: its JSON.
        """
        text = answer.get("message", "") if isinstance(answer, dict) else ""
        return hidden(str(text) or "no message", self._keys)[:300]


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, which would take the keys to another host."""

    def redirect_request(self, *arguments: Any, **options: Any) -> None:
        return None


def _json(text: bytes) -> Any:
    try:
        return json.loads(text) if text.strip() else {}
    except ValueError:
        return {}
