"""The one thing that pyproject.toml cannot say: where the native twin is not even tried.

It is optional. Without a compiler, or without Python's headers, the build goes on, and ferret runs in plain Python.
"""

import sys
import sysconfig

from setuptools import Extension, setup

has_twin = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
twin = Extension("ferret._native", ["ferret/_native.c", "ferret/_queue.c"], optional=True)

setup(ext_modules=[twin] if has_twin else [])
