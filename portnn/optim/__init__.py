"""Optimizers: ``opt_state = opt.init(params)``, then ``params, opt_state = opt.step(params, grads, opt_state)``."""

from portnn.optim import schedules
from portnn.optim.accumulation import Accumulate
from portnn.optim.adam import Adam, Adamax, AdamW, AMSGrad, NAdam
from portnn.optim.adaptive import Adadelta, Adagrad, CentredRMSProp, RMSProp
from portnn.optim.descent import SGD, Momentum, Nesterov
from portnn.optim.full_batch import BFGS, LBFGS, ConjugateGradient, FullBatch
from portnn.optim.optimizer import Optimizer, UpdateRule
from portnn.optim.penalties import L1, L2, WeightDecay
from portnn.optim.transforms import Chain, ClipByNorm, ClipByValue, GradientTransform, chain

__all__ = [
    "AMSGrad",
    "Accumulate",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "BFGS",
    "CentredRMSProp",
    "Chain",
    "ClipByNorm",
    "ClipByValue",
    "ConjugateGradient",
    "FullBatch",
    "GradientTransform",
    "L1",
    "L2",
    "LBFGS",
    "Momentum",
    "NAdam",
    "Nesterov",
    "Optimizer",
    "RMSProp",
    "SGD",
    "UpdateRule",
    "WeightDecay",
    "chain",
    "schedules",
]
