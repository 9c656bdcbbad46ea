"""What the world may ask of a worker or an API process: is it alive, is it ready, and its metrics."""

from collections.abc import Callable
from typing import Final, Literal

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from streams.metrics import CONTENT_TYPE, exposition

PROBLEM_STATUS: Final = 503


def health_app(
    process: Literal["worker", "api"],
    problems: Callable[[], list[str]],
    render: Callable[[], bytes] = exposition,
) -> FastAPI:
    """Return an app with ``/healthz``, ``/readyz`` and ``/metrics``; nothing here shows a tenant's data.

    Parameters
    ----------
    process
        What answers, so that `doctor` knows an API process, which has no control socket, from a stranger.
    problems
        Why it cannot handle events or requests now, in words; empty when it can.
    render
        Returns the metrics.
    """
    app = FastAPI(title="tenantwatch", openapi_url=None)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        # The event loop answers: that is all that restarting the process could mend.
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        found = problems()
        return JSONResponse(
            {"status": "not ready" if found else "ready", "process": process, "problems": found},
            status_code=PROBLEM_STATUS if found else 200,
        )

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(render(), media_type=CONTENT_TYPE)

    return app
