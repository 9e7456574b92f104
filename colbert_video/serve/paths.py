"""Where in the service a request goes, wherever the service is mounted."""

from starlette.types import Scope


def path_within(scope: Scope) -> str:
    """The path below the place where the service is mounted, as its routes know it.

    Another application that mounts the service, and a proxy that strips nothing, leave their prefix in the path and say
    so in `root_path` (ASGI specification, HTTP connection scope); a proxy that strips it says so too, but the path is
    without it.
    """
    path, root = scope["path"], scope.get("root_path", "")
    if root and path.startswith(f"{root}/"):
        return path[len(root) :]
    return path
