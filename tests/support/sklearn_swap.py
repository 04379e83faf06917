"""A pytest plugin that puts portnn's estimators in the place of scikit-learn's, before its tests import them.

PYTHONPATH=tests/support pytest -p sklearn_swap --pyargs sklearn.neural_network.tests.test_mlp
"""


def pytest_configure(config):  # not on import: pytest imports this file also to look for doctests
    from sklearn import neural_network

    import portnn

    neural_network.MLPClassifier, neural_network.MLPRegressor = portnn.MLPClassifier, portnn.MLPRegressor
