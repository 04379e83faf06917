#!/usr/bin/env -S uv run --script
# /// script
# dependencies = ["nox>=2025.2.9"]
# ///
"""What `make` does, on every Python that is there: nox -s tests."""

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def tests(session: nox.Session) -> None:
    """Run the test suite; arguments go to pytest."""
    session.install("--editable", ".[test,fast]")
    session.run("pytest", "--numprocesses", "auto", *session.posargs)


@nox.session(venv_backend="none", default=False)
@nox.parametrize("target", ["test-lowest", "lint", "docs", "package"], ids=["lowest", "lint", "docs", "package"])
def make(session: nox.Session, target: str) -> None:
    """Have make do it, in its own environment."""
    session.run("make", target, external=True)


if __name__ == "__main__":
    nox.main()
