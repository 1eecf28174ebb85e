"""Python imports this at its start, as `ferret run` put this folder on its path; and then there is no trace of it left."""

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec

_folder = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != _folder]
_spec = PathFinder.find_spec("sitecustomize")
if _spec is not None and _spec.loader is not None:  # the one that would have been imported
    sys.modules["sitecustomize"] = _module = module_from_spec(_spec)
    _spec.loader.exec_module(_module)

_before = set(sys.modules)
if PathFinder.find_spec("ferret") is None:  # it runs from a checkout
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(_folder))))

from ferret.run.session import begin  # noqa: E402

begin(_before)
