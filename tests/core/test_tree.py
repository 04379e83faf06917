import pytest

from portnn import tree
from portnn.errors import ShapeError

TREE = ({"w": 1, "b": 2}, {}, (3, ({"x": 4},)), ())


def test_map_keeps_the_structure():
    assert tree.map(lambda a: 10 * a, TREE) == ({"w": 10, "b": 20}, {}, (30, ({"x": 40},)), ())
    assert tree.map(lambda a, b, c: a + b + c, TREE, TREE, TREE)[0] == {"w": 3, "b": 6}


def test_a_leaf_is_a_tree():
    assert tree.map(lambda a: a + 1, 1) == 2
    assert tree.leaves([1, 2]) == [[1, 2]]
    assert tree.flatten(5) == {"": 5}


def test_order_of_keys_does_not_matter_between_trees():
    assert tree.map(lambda a, b: (a, b), {"w": 1, "b": 2}, {"b": 20, "w": 10}) == {"w": (1, 10), "b": (2, 20)}


@pytest.mark.parametrize(
    ("other", "where"),
    [
        (({"w": 1}, {}, (3, ({"x": 4},)), ()), r"at '0': a dict with keys \['b', 'w'\] against .*\['w'\]"),
        (({"w": 1, "b": 2}, {}, (3, ({"x": (4,)},)), ()), r"at '2.1.0.x': a leaf of type int against a tuple of 1"),
        (({"w": 1, "b": 2}, {}, (3,), ()), r"at '2': a tuple of 2 against a tuple of 1"),
        ({}, "at the top: a tuple of 4 against a dict"),
    ],
)
def test_trees_that_differ(other, where):
    with pytest.raises(ShapeError, match=where):
        tree.map(lambda a, b: a, TREE, other)


def test_flatten_and_back():
    flat = tree.flatten(TREE)
    assert flat == {"0.w": 1, "0.b": 2, "2.0": 3, "2.1.0.x": 4}
    assert tree.unflatten(TREE, dict(reversed(flat.items()))) == TREE
    with pytest.raises(ShapeError, match="missing in the tree: 0.w"):
        tree.unflatten(TREE, {k: v for k, v in flat.items() if k != "0.w"})
    with pytest.raises(ShapeError, match="not expected in the tree: 9.w"):
        tree.unflatten(TREE, flat | {"9.w": 0})


def test_rebuild():
    assert tree.rebuild(TREE, tree.leaves(TREE)) == TREE
    assert tree.rebuild({}, []) == {}
