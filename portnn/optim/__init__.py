"""Optimizers: ``opt_state = opt.init(params)``, then ``params, opt_state = opt.step(params, grads, opt_state)``."""

from portnn.optim.optimizer import Optimizer, UpdateRule
from portnn.optim.rules import SGD, Adam, Momentum

__all__ = ["SGD", "Adam", "Momentum", "Optimizer", "UpdateRule"]
