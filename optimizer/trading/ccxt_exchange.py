"""An exchange of ccxt, as the environment names it."""

from __future__ import annotations

import asyncio
import os
import re
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeVar

from optimizer.errors import BrokerError, DataError
from optimizer.extras import optional_module
from optimizer.text import one_line
from optimizer.trading.broker import OutageError
from optimizer.trading.secrets import checked_address, hidden

EXCHANGE, SANDBOX, ADDRESS = "CCXT_EXCHANGE", "CCXT_SANDBOX", "CCXT_ADDRESS"
"""Variables of the environment: the exchange, whether its sandbox is meant, and another address."""

TRADED = ("binance", "binanceus")
"""Exchanges where orders are placed. They find an order by the client order ID, on which it rests that
none is placed twice, and refuse a request that was under way for too long."""

_Result = TypeVar("_Result")


class NotThereError(BrokerError):
    """The exchange has no such order."""


class RefusedError(BrokerError):
    """The exchange refuses what was asked, and would refuse it again."""


class UnreadableError(Exception):
    """An answer is not of the shape that is expected: perhaps a page of something in between."""


class _Guarded:
    """An exchange of ccxt, whose calls fail by ``UnreadableError`` where ccxt stumbles over an answer.

    Errors of those who call it are left as they are.
    """

    def __init__(self, exchange: Any) -> None:
        self._exchange = exchange

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._exchange, name)
        if not callable(found):
            return found

        def guarded(*given: Any, **options: Any) -> Any:
            try:
                return found(*given, **options)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise UnreadableError(one_line(error) or type(error).__name__) from error

        return guarded


def time_of(exchange: Any) -> int | None:
    """The time of an exchange.

    Args:
        exchange: the exchange as ``CcxtExchange.ask`` gives it.

    Returns:
        Milliseconds since 1970, UTC; None where it does not tell.

    Raises:
        UnreadableError: it answers with something else.
    """
    if not exchange.has.get("fetchTime"):
        return None
    time = exchange.fetch_time()
    if not isinstance(time, int):
        raise UnreadableError(f"time: {time!r}")
    return time


class CcxtExchange:
    """One exchange, asked one thing at a time.

    Keys come from the environment, named as ccxt's own programs name them, such as ``BINANCE_APIKEY`` and
    ``BINANCE_SECRET``. They are in no file, message or log.

    Args:
        environment: the variables ``CCXT_EXCHANGE`` and, with keys, those of the exchange;
            ``CCXT_SANDBOX=off`` trades with real money; None takes those of this process.
        keys: whether an account is meant, and not only what everybody may see. Without them the bars are
            those of the exchange itself and not of its sandbox.
        timeout: seconds that an answer may take.
        window: seconds after which the exchange refuses a request that was under way for so long.

    Raises:
        BrokerError: ccxt or the exchange is missing, a key is, the account is not one of ``TRADED``, or
            the address is neither one of https nor one of this machine.
    """

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        *,
        keys: bool = True,
        timeout: float = 10.0,
        window: float = 5.0,
    ) -> None:
        variables = os.environ if environment is None else environment
        self.name = variables.get(EXCHANGE, "").strip().lower()
        if not self.name:
            raise BrokerError(f"ccxt: {EXCHANGE}: not set; name an exchange, such as binance")
        try:
            self._library = optional_module("ccxt", "crypto")
        except DataError as error:
            raise BrokerError(str(error)) from None
        if self.name not in self._library.exchanges:
            raise BrokerError(f"ccxt: {EXCHANGE}: {self.name}: no such exchange in ccxt")
        if keys and self.name not in TRADED:
            raise BrokerError(
                f"ccxt: {EXCHANGE}: {self.name}: orders are not placed there: ccxt is not known to find"
                " an order there by the client order ID, without which one whose answer is lost could be"
                f" placed twice; valid: {', '.join(TRADED)} (--feed ccxt takes bars of any)"
            )
        sandbox = variables.get(SANDBOX) or "on"
        if sandbox not in ("on", "off"):
            raise BrokerError(f"ccxt: {SANDBOX}: {sandbox}: expected on or off (real money)")
        options = {
            "defaultType": "spot",
            "fetchMarkets": {"types": ["spot"]},
            "adjustForTimeDifference": True,
            "recvWindow": int(window * 1000.0),
        }
        self._exchange = getattr(self._library, self.name)(
            {"enableRateLimit": True, "timeout": int(timeout * 1000.0), "options": options}
        )
        self._exchange.has["fetchCurrencies"] = False  # needs rights that trading does not
        self._exchange.session.max_redirects = 0  # would take the keys to another host
        self._keys: list[str] = []
        if keys:
            self._take_keys(variables)
        if keys and sandbox == "on":
            self._exchange.set_sandbox_mode(True)
        self._move_to(variables.get(ADDRESS, ""))
        self._lock = threading.Lock()
        self._is_ready = False

    def _take_keys(self, variables: Mapping[str, str]) -> None:
        needed = {
            name: f"{self.name}_{name}".upper()
            for name, is_needed in self._exchange.requiredCredentials.items()
            if is_needed
        }
        missing = [variable for variable in needed.values() if not variables.get(variable)]
        if missing:
            raise BrokerError(
                f"{self.name}: {' and '.join(missing)}: not set; put the keys of your account into the"
                " environment"
            )
        self._variables = tuple(needed.values())
        for name, variable in needed.items():
            setattr(self._exchange, name, variables[variable])
            self._keys.append(variables[variable])

    def _move_to(self, address: str) -> None:
        if not address:
            return
        checked = checked_address(address, f"ccxt: {ADDRESS}", self._keys)
        self._exchange.urls["api"] = _moved(self._exchange.urls["api"], checked)

    def step(self, market: Mapping[str, Any]) -> Decimal | None:
        """The units of which the quantities of a market are multiples; None where it does not say.

        Args:
            market: the market in ccxt's own form.
        """
        precision = market["precision"].get("amount")
        if precision is None:
            return None
        if self._exchange.precisionMode == self._library.TICK_SIZE:
            return Decimal(repr(float(precision)))
        return Decimal(1).scaleb(-int(precision))

    async def ask(self, call: Callable[[Any], _Result]) -> _Result:
        """What the exchange answers. Nothing is sent for a caller that no longer waits.

        Args:
            call: asks; takes the exchange as ccxt has it, whose markets are known.

        Raises:
            OutageError: it cannot be reached, or asks to wait.
            NotThereError: it has no such order.
            RefusedError: it refuses.
            BrokerError: the keys are refused.
        """
        given_up = threading.Event()

        def act() -> _Result:
            # One at a time: what was asked before has ended, in time or not, before the next is asked.
            with self._lock:
                if given_up.is_set():
                    raise OutageError("given up")
                return self._asked(call)

        try:
            return await asyncio.to_thread(act)
        except asyncio.CancelledError:
            given_up.set()
            raise

    def ask_here(self, call: Callable[[Any], _Result]) -> _Result:
        """What the exchange answers, asked in this thread. It raises what ``ask`` does.

        Args:
            call: asks; takes the exchange as ccxt has it.

        Returns:
            The answer.
        """
        with self._lock:
            return self._asked(call)

    def _asked(self, call: Callable[[Any], _Result]) -> _Result:
        library, exchange = self._library, _Guarded(self._exchange)
        try:
            if not self._is_ready:
                # The clock that requests are signed by; ``clock`` still tells how wrong this one is.
                exchange.load_markets(bool(exchange.markets))
                self._is_ready = True
            return call(exchange)
        except library.InvalidNonce as error:
            self._is_ready = False
            raise OutageError(self._told(error)) from None
        except library.OrderNotFound as error:
            raise NotThereError(self._told(error)) from None
        except library.OperationFailed as error:
            raise OutageError(self._told(error), self._wait(error)) from None
        except library.AuthenticationError as error:
            fix = f"; see {' and '.join(self._variables)}" if self._keys else ""
            raise BrokerError(f"{self.name}: {self._told(error)}{fix}") from None
        except library.BaseError as error:
            raise RefusedError(self._told(error)) from None
        except UnreadableError as error:
            raise OutageError(f"an answer that cannot be read: {self._told(error)}") from None

    def _wait(self, error: Exception) -> float:
        """Seconds that the exchange asks to wait."""
        limits = self._library.DDoSProtection, self._library.RateLimitExceeded
        headers = self._exchange.last_response_headers if isinstance(error, limits) else None
        wait = (headers or {}).get("Retry-After", "")
        return float(wait) if str(wait).isdigit() else 0.0

    def _told(self, error: Exception) -> str:
        """What an error says, without the parts of a request that are signed."""
        text = re.sub(r"\?\S+", "", one_line(error)).removeprefix(f"{self.name} ")
        if text.startswith(("GET ", "POST ", "DELETE ")):  # all that ccxt says of a lost connection
            text = f"no answer to {text}"
        return hidden(text, self._keys)[:300] or type(error).__name__


def _moved(urls: Any, address: str) -> Any:
    """The addresses of an exchange at another host."""
    if isinstance(urls, Mapping):
        return {name: _moved(one, address) for name, one in urls.items()}
    return f"{address}{urllib.parse.urlsplit(urls).path}"
