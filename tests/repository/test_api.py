"""Reflection: every public name is exported, documented, and in the table of its family."""

import importlib
import inspect
import pkgutil

import pytest
from families import FULL_BATCH, FUNCTIONS, INITIALIZERS, LAYERS, LOSSES, NOT_DIFFERENTIABLE, OPTIMIZERS

import portnn
from portnn import functional, losses, nn, optim

MODULES = [
    importlib.import_module(info.name)
    for info in pkgutil.walk_packages(portnn.__path__, "portnn.")
    if not info.name.endswith("__main__")
]
ids = [module.__name__ for module in MODULES]


def public_members(module):
    """What a module defines itself under a public name."""
    for name, value in vars(module).items():
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__:
            yield name, value


@pytest.mark.parametrize("module", MODULES, ids=ids)
def test_all_is_what_is_public(module):
    exported = set(getattr(module, "__all__", ()))
    assert all(hasattr(module, name) for name in exported)
    if hasattr(module, "__path__"):
        inside = [m for m in MODULES if m.__name__.rpartition(".")[0] == module.__name__]
        unknown = exported - {name for m in inside for name in (*m.__all__, m.__name__.rpartition(".")[2])}
        assert not unknown
    else:
        assert {name for name, value in public_members(module) if callable(value)} <= exported


@pytest.mark.parametrize("module", MODULES, ids=ids)
def test_everything_public_is_documented(module):
    assert module.__doc__
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == module.__name__:
            assert inspect.getdoc(value), f"{module.__name__}.{name} has no docstring"


def test_top_level():
    for name in portnn.__all__:
        assert getattr(portnn, name) is not None
    assert set(portnn.__all__) <= set(dir(portnn))
    assert portnn.__version__ == importlib.import_module("importlib.metadata").version("portnn")
    with pytest.raises(AttributeError, match="no attribute 'keras'"):
        _ = portnn.keras


def family(module, base):
    """The concrete members of a family: public subclasses that can be built."""
    members = (getattr(module, name) for name in module.__all__)
    return {m.__name__ for m in members if inspect.isclass(m) and issubclass(m, base) and not is_abstract(m, base)}


def is_abstract(member, base):
    return inspect.isabstract(member) or member is base or member.__name__ in ("Parameterless", "UpdateRule")


@pytest.mark.parametrize(
    ("members", "table"),
    [
        (family(nn, nn.Layer) - NOT_DIFFERENTIABLE, LAYERS),
        (family(nn, nn.Initializer), INITIALIZERS),
        (family(losses, losses.Loss), LOSSES),
        (family(optim, optim.Optimizer), OPTIMIZERS),
        (family(optim, optim.FullBatch), FULL_BATCH),
        (set(functional.__all__) - NOT_DIFFERENTIABLE, FUNCTIONS),
    ],
    ids=["layers", "initializers", "losses", "optimizers", "full-batch methods", "functions"],
)
def test_every_member_is_in_its_table(members, table):
    assert members == {name.partition("-")[0] for name in table}


def test_layers_have_one_signature():
    for name in family(nn, nn.Layer):
        for method in ("init", "forward", "apply"):
            ours, base = (
                [(p.name, p.kind, p.default) for p in inspect.signature(getattr(c, method)).parameters.values()]
                for c in (getattr(nn, name), nn.Layer)
            )
            assert ours == base, f"{name}.{method}"
