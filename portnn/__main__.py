"""``python -m portnn``: which backends can be used here, and why the others cannot.

``python -m portnn compile``: compile now what training on NumPy would compile when it is first needed.
"""

import os
import sys
from importlib.metadata import version

from portnn.environment import backend_table


def main(arguments: list[str]) -> int:
    """What is wrong is one sentence on standard error, and exit code 2."""
    if arguments and arguments not in (["--help"], ["-h"], ["compile"]):
        given = " ".join(arguments)
        print(f"error: python -m portnn takes no arguments, or compile, and was given {given}", file=sys.stderr)
        return 2
    try:
        print(_answer(arguments), flush=True)
    except OSError as error:  # a full disk; a reader that has gone
        print(f"error: standard output cannot be written: {error.strerror or error}", file=sys.stderr)
        # What could not be written is tried once more at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 2
    return 0


def _answer(arguments: list[str]) -> str:
    if arguments == ["compile"]:
        from portnn.ahead import compile_ahead

        return compile_ahead()
    return str(__doc__) if arguments else f"portnn {version('portnn')}\n\n{backend_table()}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
