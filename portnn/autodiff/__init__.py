"""Automatic differentiation of functions that are written against the array API standard, on any backend.

``grad(f)(x)``, and what is like it, of plain functions of NumPy, CuPy, torch or JAX arrays; no library has to bring a
derivative of its own. The rules stand in ``portnn.autodiff.rules``, what is recorded in ``portnn.autodiff.trace``.
"""

from portnn.autodiff.graph import Graph, GraphEdge, GraphNode, graph
from portnn.autodiff.jacobians import hessian, hvp, jacobian
from portnn.autodiff.pairs import checkpoint, custom
from portnn.autodiff.transforms import grad, jvp, linearize, stop_gradient, value_and_grad, vjp

__all__ = [
    "Graph",
    "GraphEdge",
    "GraphNode",
    "checkpoint",
    "custom",
    "grad",
    "graph",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "linearize",
    "stop_gradient",
    "value_and_grad",
    "vjp",
]
