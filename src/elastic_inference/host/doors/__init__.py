"""The ways in: the control API, metrics and Amazon's API, which translate and decide nothing."""
