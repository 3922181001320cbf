"""Classifiers in the event flow: from the market's features to a regime."""

from __future__ import annotations

from dataclasses import dataclass

from kernels.codes import NEUTRAL
from optimizer.market.regime_models import RegimeModel
from optimizer.types import FloatArray


@dataclass(frozen=True, eq=False)
class ClassifierConfig:
    """A regime model and the state that it carries from bar to bar.

    Attributes:
        model: fitted on earlier bars; without one the market is neutral.
        carried: the carried state of the model after the last bar; None before its first.
    """

    model: RegimeModel | None = None
    carried: FloatArray | None = None


class StatelessClassifier:
    """Turns the features of the market into a regime."""

    @staticmethod
    def classify_regime(
        features: FloatArray, config: ClassifierConfig
    ) -> tuple[int, ClassifierConfig]:
        """Regime code of one bar, and the configuration for the next.

        Args:
            features: the features of the market at the bar, shape (1, n_features).
            config: the model in force and its carried state; it is not changed.

        Returns:
            The code, -1, 0 or 1, and the next configuration.
        """
        if config.model is None:
            return NEUTRAL, config
        before = config.model.carried() if config.carried is None else config.carried
        carried = before.copy()
        code = int(config.model.classify(features, carried)[0])
        return code, ClassifierConfig(config.model, carried)
