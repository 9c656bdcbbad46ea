"""Logging: structlog, one JSON object a line on standard error; libraries speak through it too."""

import logging
import sys

import structlog

# Faust and its parts tell their whole life story at INFO.
_QUIET = (
    "faust",
    "mode",
    "aiokafka",
    "kafka",
    "streams.transport",
    "streams.directory",
    "httpx",
    "httpcore",
    "uvicorn",
    "asyncio",
)


def configure_logging(level: str, fmt: str) -> None:
    """Send our logs and the libraries' to standard error.

    Parameters
    ----------
    level
        ``debug``, ``info``, ``warning`` or ``error``.
    fmt
        ``json`` or ``console``.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: structlog.typing.Processor
    if fmt == "json":
        shared.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer()
    else:
        # Plain: the default prints local variables, and with them what customers sent.
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    # kafka-python warns of itself when the machine is busy.
    logging.getLogger("kafka.net").setLevel(logging.ERROR)
