"""What is computed from bars: features and market regimes."""
