"""The event flow: one bar at a time through containers, with a trace of every decision.

Public names are loaded when they are first used. docs/event_flow.md drives them by hand.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optimizer.analytics.reader import open_reader
    from optimizer.analytics.writer import AnalyticsWriter
    from optimizer.flow.broker import Broker, broker_fill
    from optimizer.flow.containers.data import DataContainer
    from optimizer.flow.containers.execution import ExecutionContainer, Market
    from optimizer.flow.containers.feature_hub import FeatureHub
    from optimizer.flow.containers.portfolio import PortfolioContainer
    from optimizer.flow.event_flow import EventFlow, FlowResult
    from optimizer.flow.portfolio_view import PortfolioView
    from optimizer.flow.portfolios import PortfolioSpec
    from optimizer.flow.prepared import PreparedFlow, prepare_flow, run_flow
    from optimizer.flow.services.classifier import ClassifierConfig, StatelessClassifier
    from optimizer.flow.services.risk import Decisions, RiskConfig, StatelessRiskManager
    from optimizer.flow.services.strategy import StatelessStrategy, StrategyConfig
    from optimizer.flow.tracing import Trace
    from optimizer.types import (
        Bar,
        Fill,
        Order,
        PortfolioState,
        Regime,
        Signal,
        Sizing,
        correlation_id,
    )

_HOMES = {
    "AnalyticsWriter": "optimizer.analytics.writer",
    "Bar": "optimizer.types",
    "Broker": "optimizer.flow.broker",
    "ClassifierConfig": "optimizer.flow.services.classifier",
    "DataContainer": "optimizer.flow.containers.data",
    "Decisions": "optimizer.flow.services.risk",
    "EventFlow": "optimizer.flow.event_flow",
    "ExecutionContainer": "optimizer.flow.containers.execution",
    "FeatureHub": "optimizer.flow.containers.feature_hub",
    "Fill": "optimizer.types",
    "FlowResult": "optimizer.flow.event_flow",
    "Market": "optimizer.flow.containers.execution",
    "Order": "optimizer.types",
    "PortfolioContainer": "optimizer.flow.containers.portfolio",
    "PortfolioSpec": "optimizer.flow.portfolios",
    "PortfolioState": "optimizer.types",
    "PortfolioView": "optimizer.flow.portfolio_view",
    "PreparedFlow": "optimizer.flow.prepared",
    "Regime": "optimizer.types",
    "RiskConfig": "optimizer.flow.services.risk",
    "Signal": "optimizer.types",
    "Sizing": "optimizer.types",
    "StatelessClassifier": "optimizer.flow.services.classifier",
    "StatelessRiskManager": "optimizer.flow.services.risk",
    "StatelessStrategy": "optimizer.flow.services.strategy",
    "StrategyConfig": "optimizer.flow.services.strategy",
    "Trace": "optimizer.flow.tracing",
    "broker_fill": "optimizer.flow.broker",
    "correlation_id": "optimizer.types",
    "open_reader": "optimizer.analytics.reader",
    "prepare_flow": "optimizer.flow.prepared",
    "run_flow": "optimizer.flow.prepared",
}
"""The module of each public name."""

__all__ = [
    "AnalyticsWriter",
    "Bar",
    "Broker",
    "ClassifierConfig",
    "DataContainer",
    "Decisions",
    "EventFlow",
    "ExecutionContainer",
    "FeatureHub",
    "Fill",
    "FlowResult",
    "Market",
    "Order",
    "PortfolioContainer",
    "PortfolioSpec",
    "PortfolioState",
    "PortfolioView",
    "PreparedFlow",
    "Regime",
    "RiskConfig",
    "Signal",
    "Sizing",
    "StatelessClassifier",
    "StatelessRiskManager",
    "StatelessStrategy",
    "StrategyConfig",
    "Trace",
    "broker_fill",
    "correlation_id",
    "open_reader",
    "prepare_flow",
    "run_flow",
]

if not TYPE_CHECKING:  # a module's __getattr__ would let every misspelt name pass

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
