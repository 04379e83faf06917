"""Regularizers: penalties on the parameters that are added to the loss; see `portnn.Trainer`."""

from portnn.optim.penalties import ElasticNet, Regularizer

__all__ = ["ElasticNet", "Regularizer"]
