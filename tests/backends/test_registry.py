"""How backends are found: the advertised ones, by names and by types of arrays."""

import importlib.metadata

import numpy as np
import pytest

import portnn.backend
import portnn.registry
from portnn import available_backends, backend_of, get_backend
from portnn.backend import Backend, Status
from portnn.environment import backend_table
from portnn.errors import BackendError


def test_unknown_array_types():
    with pytest.raises(BackendError, match=r"no registered backend knows arrays of type builtins\.list"):
        backend_of([1.0])


class Another(Backend):
    """A backend that somebody else ships."""

    name = "another"
    array_modules = ("another",)
    xp = None

    def __init__(self, device=None):
        self.device = device or "here"

    @classmethod
    def status(cls):
        return Status(True, "ready", "1.0")

    from_array = owns = asarray = to_numpy = copy = None


@pytest.fixture
def entry_points(monkeypatch):
    """Replace the advertised backends for the time of a test."""

    def advertise(*more, **entries):
        points = [
            importlib.metadata.EntryPoint(name, value, "portnn.backends") for name, value in [*more, *entries.items()]
        ]
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: points)
        portnn.registry._discover.cache_clear()

    yield advertise
    portnn.registry._discover.cache_clear()


def test_anybody_can_ship_a_backend(entry_points):
    entry_points(another=f"{__name__}:Another")
    assert str(get_backend("another:there")) == "another:there"
    assert available_backends() == {"another": Status(True, "ready", "1.0")}


def test_a_broken_entry_point_does_not_take_the_others_down(entry_points):
    entry_points(broken="there_is_no_such_module:Backend", numpy="portnn_backends.on_numpy.backend:NumpyBackend")
    assert get_backend("cpu").name == "numpy"
    assert available_backends()["broken"].message.startswith("there_is_no_such_module:Backend cannot be loaded")
    with pytest.raises(BackendError, match="cannot be loaded: ModuleNotFoundError"):
        get_backend("broken")


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("collections:OrderedDict", "is no subclass of portnn.backend.Backend"),
        ("collections", "is no subclass of portnn.backend.Backend"),
        (f"{__name__}:Another", "the class must have name = 'mylib', like its entry point"),
    ],
)
def test_an_entry_point_to_something_else(entry_points, value, sentence):
    entry_points(mylib=value, numpy="portnn_backends.on_numpy.backend:NumpyBackend")
    assert get_backend("cpu").name == "numpy"
    with pytest.raises(BackendError, match=sentence):
        get_backend("mylib")


NUMPY = "portnn_backends.on_numpy.backend:NumpyBackend"


class Shadow(Another):
    """A backend that claims what belongs to NumPy's; it would be found first."""

    name = "aaa"
    array_modules = ("aaa", "numpy")


class SameAlias(Another):
    name = "aaa"
    aliases = ("cpu",)
    array_modules = ("aaa",)


class AliasIsAName(SameAlias):
    aliases = ("numpy",)


class NumPyToo(Another):
    name = "numpy"
    array_modules = ("numpy_like",)


class Text(Another):
    name = "aaa"
    array_modules = "numpyx"


class Inner(Another):
    name = "aaa"
    array_modules = ("aaa.arrays",)


class Unfinished(Backend):
    name = "aaa"
    array_modules = ("aaa",)

    def __init__(self, device=None):
        self.device = "here"

    @classmethod
    def status(cls):
        return Status(True, "ready", "1.0")


class Bare(Unfinished):
    from_array = owns = asarray = to_numpy = copy = None


@pytest.mark.parametrize(
    ("rival", "what", "entry"),
    [
        (Shadow, "the arrays of numpy are", "aaa"),
        (SameAlias, "the device 'cpu' is", "aaa"),
        (AliasIsAName, "the device 'numpy' is", "aaa"),
        (NumPyToo, "advertise a backend called 'numpy'", "numpy"),
    ],
)
def test_two_backends_that_claim_the_same_are_both_named(entry_points, rival, what, entry):
    rival = f"{__name__}:{rival.__name__}"
    entry_points(("numpy", NUMPY), ("another", f"{__name__}:Another"), (entry, rival))
    for ask in (lambda: get_backend("cpu" if entry == "aaa" else "numpy"), lambda: get_backend(entry)):
        with pytest.raises(BackendError, match=what) as caught:
            ask()
        assert rival in str(caught.value)
        assert NUMPY in str(caught.value)
    if entry == "aaa":
        with pytest.raises(BackendError, match=f"{what} theirs"):
            backend_of(np.zeros(2))
        with pytest.raises(BackendError, match=f"{what} theirs"):
            portnn.backend.as_host(np.zeros(2))
    assert not available_backends()["numpy"].usable
    assert str(get_backend("another")) == "another:here"


def test_packages_that_claim_the_same_are_named(monkeypatch):
    from types import SimpleNamespace

    points = [
        SimpleNamespace(name=kind.name, value=f"its.module:{kind.__name__}", dist=dist, load=lambda kind=kind: kind)
        for kind, dist in ((Shadow, SimpleNamespace(name="shadow-of-numpy")), (type(get_backend("cpu")), None))
    ]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: points)
    portnn.registry._discover.cache_clear()
    try:
        with pytest.raises(BackendError, match=r"its.module:Shadow \(entry point 'aaa' of shadow-of-numpy\) and its"):
            get_backend("numpy")
    finally:
        monkeypatch.undo()
        portnn.registry._discover.cache_clear()


def test_one_backend_advertised_twice_is_one(entry_points):
    entry_points(("numpy", NUMPY), ("numpy", NUMPY))
    assert get_backend("cpu").name == "numpy"


@pytest.mark.parametrize(
    ("backend", "sentence"),
    [
        (Inner, "array_modules are top-level modules, such as 'aaa', not 'aaa.arrays'"),
        (Unfinished, "the class lacks asarray, copy, from_array, owns, to_numpy: see portnn.backend.Backend"),
        (Bare, "Bare.__init__ must set self.xp"),
    ],
)
def test_a_class_that_is_not_finished(entry_points, backend, sentence):
    """It is said in the table, which shows the others, too."""
    entry_points(aaa=f"{__name__}:{backend.__name__}", numpy=NUMPY)
    with pytest.raises(BackendError, match=sentence):
        get_backend("aaa")
    assert sentence in backend_table()
    assert get_backend("cpu").name == "numpy"


def test_claims_that_are_no_names_are_refused(entry_points):
    entry_points(aaa=f"{__name__}:Text", numpy=NUMPY)
    assert backend_of(np.zeros(2)).name == "numpy"
    with pytest.raises(BackendError, match="array_modules must be a tuple of names, not 'numpyx'"):
        get_backend("aaa")


@pytest.mark.parametrize("answer", [None, RuntimeError("no idea")])
def test_a_status_that_fails(entry_points, monkeypatch, answer):
    def status(cls):
        if answer is not None:
            raise answer

    monkeypatch.setattr(Another, "status", classmethod(status))
    entry_points(another=f"{__name__}:Another", numpy="portnn_backends.on_numpy.backend:NumpyBackend")
    assert "its status cannot be found out" in backend_table()


def test_not_installed_at_all(entry_points):
    entry_points()
    with pytest.raises(BackendError, match="portnn must be installed"):
        get_backend("cpu")
