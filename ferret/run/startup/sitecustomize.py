"""Python imports this at its start, as `ferret run` put this folder on its path; and then there is no trace of it left."""

import gc
import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec

_folder = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != _folder]
sys.path_importer_cache.pop(_folder, None)
_ended_with: BaseException | None = None
_spec = PathFinder.find_spec("sitecustomize")
if _spec is None or _spec.loader is None:  # what Python takes as the sign that there is none
    _ended_with = ModuleNotFoundError("No module named 'sitecustomize'", name="sitecustomize")
else:  # the one that would have been imported
    sys.modules["sitecustomize"] = _module = module_from_spec(_spec)
    try:
        _spec.loader.exec_module(_module)
    except BaseException as error:  # noqa: BLE001 - it is for Python to say what is wrong with it
        _ended_with = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)

_before = set(sys.modules)
if PathFinder.find_spec("ferret") is None:  # it runs from a checkout
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(_folder))))

_collects = gc.isenabled()  # the user's own may have had a say
gc.disable()  # what is imported now stays for good, and is not to be looked through, now or while the program runs
from ferret.run.session import begin  # noqa: E402 - not before the collector rests

begin(_before)
gc.freeze()
if _collects:
    gc.enable()
if _ended_with is not None:
    raise _ended_with
