"""Names that moved work where they were, warn whoever asks for them there, and go when they were said to go."""

import importlib
import pkgutil

import pytest

import portnn
from portnn._deprecated import ALIASES

for _info in pkgutil.walk_packages(portnn.__path__, "portnn."):
    if not _info.name.endswith("__main__"):
        importlib.import_module(_info.name)


def numbers(version):
    return tuple(int(number) for number in version.split(".")[:2])


@pytest.mark.parametrize("alias", ALIASES, ids=lambda alias: alias.old)
def test_what_moved_warns_and_is_what_it_was(alias):
    module, _, name = alias.old.rpartition(".")
    home, _, new_name = alias.new.rpartition(".")
    with pytest.warns(DeprecationWarning, match=f"^{alias.old} is {alias.new} since portnn {alias.since}") as said:
        found = getattr(importlib.import_module(module), name)
    assert found is vars(importlib.import_module(home))[new_name]
    assert [warning.filename for warning in said] == [__file__]


@pytest.mark.parametrize("alias", ALIASES, ids=lambda alias: alias.old)
def test_an_alias_goes_when_it_was_said_to_go(alias):
    assert numbers(alias.since) < numbers(alias.until)
    assert numbers(portnn.__version__) < numbers(alias.until), f"remove {alias.old}: it is {alias.new} now"


def test_who_imports_a_moved_name_is_the_one_who_is_warned():
    code = compile("from portnn.checks import enter", "somebody.py", "exec")
    with pytest.warns(DeprecationWarning, match=r"portnn\.checks\.enter is portnn\.door\.enter since") as said:
        exec(code, {})
    assert [warning.filename for warning in said] == ["somebody.py"]


def test_other_names_are_not_found():
    with pytest.raises(AttributeError, match=r"module 'portnn\.checks' has no attribute 'entre'"):
        _ = importlib.import_module("portnn.checks").entre
