"""How the pages are built: ``make docs``, without network.

The pages of the reference are made here: one for each room, that lists its public names, and by autosummary one for
each name, from its docstring. They must exist before Sphinx looks for its documents, so no event handler makes them.
"""

import importlib
import inspect
import sys
from pathlib import Path
from types import ModuleType

from docutils.nodes import Element
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx_gallery.sorting import ExplicitOrder

import portnn

sys.path.insert(0, str(Path(__file__).parent))
from house_drawing import drawing

project = "portnn"
author = "The portnn developers"
project_copyright = author
release = portnn.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_templates"]
default_role = "py:obj"
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(collections|numpy|scipy|sklearn)\..*")]  # of other libraries: without network

# Pages in Markdown. Headings can be linked to, as on GitHub: page.md#some-heading.
myst_heading_anchors = 3

# Docstrings. A method that says nothing of its own is on the page of its base.
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the signatures would be longer than the text; docstrings state shapes and types
numpydoc_show_class_members = False

# Mathematics, by the one file of MathJax that brings its own fonts.
mathjax_path = "mathjax/tex-svg.js"

#: The lectures, in the order in which they are read.
LECTURES = [
    "one_neuron.py",
    "hand_computed_update.py",
    "computational_graph.py",
    "backpropagation_by_hand.py",
    "gradient_check.py",
    "optimizer_trajectories.py",
    "learning_rates.py",
    "batch_sizes.py",
    "activation_histograms.py",
    "depth.py",
    "overfitting.py",
    "l1_l2_contours.py",
    "universal_approximation.py",
    "iris.py",
    "grid_search.py",
    "full_batch_methods.py",
    "autoencoder.py",
    "convolution.py",
    "transfer.py",
]

HERE = Path(__file__).parent
PROGRAMS = HERE.resolve().parent / "scripts" / "lectures"

sphinx_gallery_conf = {
    "examples_dirs": "../scripts/lectures",
    "gallery_dirs": "lectures",
    "filename_pattern": r"\.py$",
    "ignore_pattern": r"^lecture\.py$",
    "within_subsection_order": ExplicitOrder([*LECTURES, "*"]),
    "minigallery_sort_order": ExplicitOrder([*(str(PROGRAMS / name) for name in LECTURES), "*"]),
    # A page of the reference shows the lectures that use its name, and their code links to it.
    "doc_module": ("portnn",),
    "backreferences_dir": "lectures/of_names",
    "inspect_global_variables": False,
    "abort_on_example_error": True,
    "capture_repr": (),
    "notebook_extensions": set(),  # a notebook would not find what stands beside the programs
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
    "min_reported_time": 3600,
}

html_theme = "pydata_sphinx_theme"
html_title = f"portnn {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_js_files = ["pages.js"]
html_show_sourcelink = False
toc_object_entries_show_parents = "hide"
html_copy_source = False
html_theme_options = {
    # Every page carries the side bar: with all names in it, the reference would take 15 MB.
    "navigation_depth": 2,
    "collapse_navigation": True,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 5,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}

REFERENCE = HERE / "reference"

#: Modules of public names, in the order of the reference.
ROOMS = [
    "portnn.nn",
    "portnn.functional",
    "portnn.losses",
    "portnn.metrics",
    "portnn.regularizers",
    "portnn.optim",
    "portnn.optim.schedules",
    "portnn.training",
    "portnn.estimators",
    "portnn.data",
    "portnn.data.augmentation",
    "portnn.backend",
    "portnn.kernels",
    "portnn.shapes",
    "portnn.random",
    "portnn.tree",
    "portnn.gradcheck",
    "portnn.testing",
    "portnn.autodiff",
    "portnn.numerical",
    "portnn.errors",
]


# Named one by one: what was kept of an earlier build does not know of new rooms when the stub pages are made.
autosummary_generate = [f"reference/{room}.rst" for room in ROOMS]


def names_of(room: str) -> list[str]:
    """The public names of a room that have a page of their own: all but modules, which are rooms themselves."""
    module, names = importlib.import_module(room), []
    for name in module.__all__:
        if not isinstance(getattr(module, name), ModuleType):
            names.append(name)
        elif f"{room}.{name}" not in ROOMS:
            raise RuntimeError(f"the list of rooms in docs/conf.py lacks {room}.{name}")
    return names


# `optim.chain` beside `optim.Chain`: one file where names of files do not tell them apart.
autosummary_filename_map = {
    f"{room}.{name}": f"{room}.{name}-function"
    for room in ROOMS
    for name in names_of(room)
    if name.islower() and any(other.lower() == name for other in names_of(room) if other != name)
}


def home_of(name: str) -> str:
    """The room whose pages describe what ``portnn`` itself offers under a name."""
    return next(room for room in ROOMS if name in names_of(room))


def summary_of(room: str) -> str:
    """The first paragraph of a room's docstring, in one line."""
    return " ".join(inspect.cleandoc(importlib.import_module(room).__doc__ or "").partition("\n\n")[0].split())


def write(path: Path, *lines: str) -> None:
    """Write a page, unless it is there: what is unchanged is not read anew."""
    text = "\n".join(lines) + "\n"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def heading(text: str) -> list[str]:
    return [text, "=" * len(text), ""]


def make_reference() -> None:
    shortcuts = [*names_of("portnn"), *names_of("portnn.estimators")]
    write(
        REFERENCE / "index.rst",
        *heading("Reference"),
        "Every public name, with its docstring. ``portnn`` itself offers these, from the rooms below it:",
        ", ".join(f":py:obj:`~{home_of(name)}.{name}`" for name in shortcuts) + ".",
        "",
        *(f"- :doc:`{room}`: {summary_of(room)}" for room in ROOMS),
        "",
        ".. toctree::",
        "   :hidden:",
        "",
        *(f"   {room}" for room in ROOMS),
    )
    names = [f"{room}.{name}" for room in ROOMS for name in names_of(room)]
    pages = {"index", *ROOMS, *(autosummary_filename_map.get(name, name) for name in names)}
    for page in REFERENCE.rglob("*.rst"):
        if page.stem not in pages:  # of a name or a room that is gone
            page.unlink()
    for room in ROOMS:
        write(
            REFERENCE / f"{room}.rst",
            *heading(room),
            f".. automodule:: {room}",
            "",
            f".. currentmodule:: {room}",
            "",
            ".. autosummary::",
            "   :nosignatures:",
            "   :toctree: generated",
            "",
            *(f"   {name}" for name in names_of(room)),
        )


def public_classes() -> set[type]:
    values = (getattr(importlib.import_module(room), name) for room in ROOMS for name in names_of(room))
    return {value for value in values if inspect.isclass(value)}


def silent_bases() -> str:
    """Classes whose members are not shown again on the pages of their subclasses.

    What a class has from a private base is shown on its own page; what it has from a public one, on that one's.
    """
    return ", ".join(
        sorted(
            {
                base.__name__
                for member in public_classes()
                for base in member.__mro__
                if base in public_classes() or not base.__module__.startswith("portnn")
            }
        )
    )


autosummary_context = {"silent_bases": silent_bases()}
autodoc_default_options = {
    # Functions that a member wraps have pages of their own; the others scikit-learn adds, for its routing of metadata.
    "exclude-members": "function, rule, set_fit_request, set_partial_fit_request, set_score_request",
}


def every_name_is_described(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn, which ends a build with ``-W``, of a public name that no page describes."""
    described = env.get_domain("py").objects
    for room in ROOMS:
        for name in names_of(room):
            if f"{room}.{name}" not in described:
                logging.getLogger(__name__).warning("%s.%s is on no page of the reference", room, name)


def seen_from_portnn(app: Sphinx, env: BuildEnvironment, node: pending_xref, text: Element) -> Element | None:
    """Docstrings say `functional.affine` and `Network`, as one does after an import; resolve what means one thing."""
    if node.get("refdomain") != "py":
        return None
    python, name = env.get_domain("py"), node["reftarget"].removeprefix("portnn.")
    found = [target for room in ["portnn", *ROOMS] if (target := f"{room}.{name}") in python.objects]
    if len(found) != 1:
        return None
    return python.resolve_xref(env, node.get("refdoc", ""), app.builder, "obj", found[0], node, text)


def setup(app: Sphinx) -> None:
    app.connect("missing-reference", seen_from_portnn)
    app.connect("env-check-consistency", every_name_is_described)


make_reference()
write(HERE / "_static" / "house.svg", drawing(HERE.parent / "portnn").removesuffix("\n"))
