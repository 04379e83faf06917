"""The backends that come with portnn, installed as ``portnn_backends``.

Each module binds one array library to `portnn.backend.Backend`; portnn finds them through the entry-point group
``portnn.backends``. A module imports its library only inside the methods, so that it loads everywhere.
"""
