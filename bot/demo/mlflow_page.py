"""MLflow's own server in one process: `python -P mlflow_page.py STORE_URI ARTIFACTS PORT`.

The command `mlflow server` imports MLflow twice, in a parent that only waits and in its child; this is the child. It
ends when its standard input closes, so it outlives nobody, even if the demo is killed.
"""

import os
import socket
import sys
import threading


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def _environment(store_uri: str, artifacts: str) -> dict[str, str]:
    """What `mlflow server` tells its child, and no background jobs or telemetry in a demo."""
    from mlflow.server import (
        ARTIFACT_ROOT_ENV_VAR,
        ARTIFACTS_DESTINATION_ENV_VAR,
        BACKEND_STORE_URI_ENV_VAR,
        SERVE_ARTIFACTS_ENV_VAR,
    )

    return {
        BACKEND_STORE_URI_ENV_VAR: store_uri,
        ARTIFACT_ROOT_ENV_VAR: artifacts,
        ARTIFACTS_DESTINATION_ENV_VAR: artifacts,
        SERVE_ARTIFACTS_ENV_VAR: "true",
    }


def main(store_uri: str, artifacts: str, port: str) -> None:
    """Serves until SIGTERM, or until nobody holds the other end of standard input; fails at once on a taken port."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    listening = socket.create_server(("127.0.0.1", int(port)))
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    os.environ |= _environment(store_uri, artifacts)
    import uvicorn

    server = uvicorn.Server(uvicorn.Config("mlflow.server.fastapi_app:app", access_log=False))
    server.run(sockets=[listening])


if __name__ == "__main__":
    main(*sys.argv[1:])
