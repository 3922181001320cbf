"""Classifiers in the event flow: from the market's features to a regime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kernels.codes import NEUTRAL
from optimizer.flow.containers.feature_hub import FeatureHub
from optimizer.market.regime_models import Classifier, RegimeModel
from optimizer.market.regimes import fit_model, fits_at
from optimizer.types import FloatArray


@dataclass(frozen=True, eq=False)
class ClassifierConfig:
    """A regime model and the state that it carries from bar to bar.

    Attributes:
        model: fitted on earlier bars; without one the market is neutral.
        carried: the carried state of the model after the last bar; None before its first.
        probabilities: those of a bear and of a bull market at the last bar; 0 where nobody asked.
    """

    model: RegimeModel | None = None
    carried: FloatArray | None = None
    probabilities: tuple[float, float] = (0.0, 0.0)


class StatelessClassifier:
    """Turns what is observed of the market into a regime."""

    @staticmethod
    def observe(
        name: Classifier, parameters: Mapping[str, float], hub: FeatureHub, market: str | None
    ) -> FloatArray:
        """What a classifier observes at the bar that the hub has seen last.

        Args:
            name: a classifier of the catalogue, or one of the user's own.
            parameters: the parameters of the classifier.
            hub: the features of the bar.
            market: the symbol; None takes the index of all.

        Returns:
            Shape (1, n), see ``optimizer.market.regimes.observations``.
        """
        lookback = int(parameters["lookback"])
        if isinstance(name, str):
            return hub.market_features(market, lookback)
        return hub.market_returns(market)[np.newaxis, -lookback:]

    @staticmethod
    def refit(
        name: Classifier,
        parameters: Mapping[str, float],
        market_returns: FloatArray,
        config: ClassifierConfig,
        probabilities: bool = False,
    ) -> ClassifierConfig:
        """The configuration for a bar: with a new model where one is due, else as it was.

        Args:
            name: a classifier of the catalogue, or one of the user's own.
            parameters: the parameters of the classifier.
            market_returns: all log returns of the market up to the bar, shape (n_bars,).
            config: the model in force; it is not changed.
            probabilities: whether a new model is to give them too.
        """
        number = len(market_returns) - 1
        if not fits_at(name, number, parameters):
            return config
        model = fit_model(name, number, market_returns, parameters, config.model, probabilities)
        return config if model is None else ClassifierConfig(model)

    @staticmethod
    def classify_regime(
        features: FloatArray, config: ClassifierConfig, probabilities: bool = False
    ) -> tuple[int, ClassifierConfig]:
        """Regime code of one bar, and the configuration for the next.

        Args:
            features: what the classifier observes at the bar, see ``observe``.
            config: the model in force and its carried state; it is not changed.
            probabilities: whether to compute them; ``refit`` must have been asked for them too.

        Returns:
            The code, -1, 0 or 1, and the next configuration, which holds the probabilities.
        """
        if config.model is None:
            return NEUTRAL, config
        before = config.model.carried() if config.carried is None else config.carried
        carried = before.copy()
        if not probabilities:
            code = int(config.model.classify(features, carried)[0])
            return code, ClassifierConfig(config.model, carried)
        found = np.empty((1, 2))
        code = int(config.model.classify(features, carried, found)[0])
        bear, bull = found[0].tolist()
        return code, ClassifierConfig(config.model, carried, (bear, bull))
