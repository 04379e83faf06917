"""The backends that come with portnn, installed as ``portnn_backends``.

A folder for each library binds it to `portnn.backend.Backend` in its ``backend.py``. portnn finds those through the
entry-point group ``portnn.backends``; each imports its library only inside its methods, so that it loads everywhere.
Beside it are the twins of portable functions, in files named as those of `portnn.functional`, and of the update rules
of `portnn.optim` in ``updates.py``; ``kernels.py`` has the table of all of them. What several libraries share is here.
"""
