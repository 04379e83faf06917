"""Print the lowest versions that pyproject.toml allows, one line each, for ``pip install --constraint``.

A bound is `name>=version`; the version must have been released. Only the bounds themselves are pinned: what these
packages need in turn comes in its newest version that goes with them.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"
_BOUND = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[^\]]*\])?>=(?P<version>[0-9][0-9.]*)")


def lowest(project: dict[str, Any]) -> list[str]:
    """The pins of all direct dependencies and extras of a ``[project]`` table, but for the project's own extras.

    Raises
    ------
    ValueError
        A requirement that is more, or less, than one lower bound, so that it has no lowest version to try.
    """
    extras: dict[str, list[str]] = project.get("optional-dependencies", {})
    requirements = [*project["dependencies"], *(one for extra in extras.values() for one in extra)]
    pins = []
    for requirement in requirements:
        if requirement.startswith(f"{project['name']}["):
            continue
        bound = _BOUND.fullmatch(requirement)
        if bound is None:
            raise ValueError(f"{requirement!r} in pyproject.toml is no lower bound: expected name>=version")
        pins.append(f"{bound['name']}=={bound['version']}")
    return sorted(set(pins))


if __name__ == "__main__":
    print(*lowest(tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]), sep="\n")
