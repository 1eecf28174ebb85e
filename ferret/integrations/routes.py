"""The route that a framework chose for a request, as it is written in the program: `/users/{user}`.

There are only so many routes, but any number of paths: a span's name must not be made from a path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_DEEPEST = 32  # mounts in mounts; a program that mounts an app into itself must not hang us


def route_of(scope: Mapping[str, Any], outer_root: str) -> str:
    """The template of the route, with those of the mounts around it; empty if there is none, or it cannot be told.

    Read after the application ran: Starlette and FastAPI leave their choice in the scope.

    Args:
        scope: the ASGI scope.
        outer_root: the scope's `root_path` as the server gave it, before any mount.
    """
    route: Any = scope.get("route")
    endpoint = scope.get("endpoint")
    if route is None and endpoint is None:
        return ""
    path, root = str(scope.get("path", "")), str(scope.get("root_path", ""))
    rest = _below(path, root)
    prefix, routes = _mounts(getattr(scope.get("router"), "routes", ()), _below(path, outer_root), rest)
    if route is None:  # Starlette before it told its route
        route = next(
            (one for one in routes if getattr(one, "endpoint", None) is endpoint and _matches(one, rest)), None
        )
    if (route is None and prefix) or _is_mount(route):  # the application in the mount chose nothing that can be seen
        return f"{prefix or route.path}/{{path}}"
    template = _template(route, scope)
    return prefix + template if template else ""


def _template(route: Any, scope: Mapping[str, Any]) -> str:
    """As OpenAPI writes it: without convertors, `{user}` for `{user:int}`."""
    included = scope.get("fastapi")  # a router that FastAPI includes does not know the prefix that it has there
    context = included.get("effective_route_context") if isinstance(included, dict) else None
    if getattr(context, "original_route", None) is not route:
        context = None
    for candidate in (context, route):
        for attribute in ("path_format", "path"):
            if isinstance(found := getattr(candidate, attribute, None), str):
                return found
    return ""


def _mounts(routes: Iterable[Any], path: str, rest: str) -> tuple[str, Iterable[Any]]:
    """Go down the mounts as the router did, until `rest` is left: their templates, and the routes below them."""
    prefix, below = "", routes
    for _ in range(_DEEPEST):
        if path == rest:
            return prefix, below
        mount = next((one for one in below if _is_mount(one) and _matches(one, path)), None)
        if mount is None:
            break
        prefix += mount.path
        path = "/" + _matches(mount, path).group("path")
        below = mount.routes
    return "", routes  # better without its prefix than with what a client sent


def _is_mount(route: Any) -> bool:
    return hasattr(route, "routes") and hasattr(route, "app") and isinstance(getattr(route, "path", None), str)


def _matches(route: Any, path: str) -> Any:
    pattern = getattr(route, "path_regex", None)
    return pattern.match(path) if pattern is not None else None


def _below(path: str, root: str) -> str:
    return path.removeprefix(root) if root and path.startswith(root + "/") else path
