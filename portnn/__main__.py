"""``python -m portnn``: which backends can be used here, and why the others cannot."""

from importlib.metadata import version

from portnn.environment import backend_table

if __name__ == "__main__":
    print(f"portnn {version('portnn')}\n")
    print(backend_table())
