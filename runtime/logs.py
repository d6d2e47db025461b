"""Configures logs: structlog over the standard library, to stderr.

An event is a constant phrase, facts are fields. Prompts, tokens and signed URLs must not be logged;
a filter redacts what looks like one.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog
from structlog.typing import EventDict, Processor

from domain.traces import current_trace
from settings import Settings

_VERBOSE_LOGGERS: Final = (
    "httpcore2",
    "httpx2",  # every URL, with its query
    "pymongo",  # every command, with its values
    "uvicorn",  # each WebSocket, with its query
    "websockets",  # every frame
)
_REDACTED: Final = "[…]"
_SECRET_FIELD = re.compile(r"(?i)token|secret|password|authorization|prompt|(^|_)(uri|url|link)s?$")
_SECRET_TEXT = re.compile(
    r"eyJ[\w-]{5,}\.[\w-]+(\.[\w-]*)?"  # a JSON Web Token
    r"|(?i:bearer)\s+[\w.~+/-]{8,}=*"
    r"|(?<=://)[^/\s@]+(?=@)"  # the user and password of a URI
    r"|(?<=\?)[^\s'\"]*(?i:sig|signature|token|expires)=[^\s'\"]*"  # the query of a signed link
)


def configure_logs(settings: Settings) -> None:
    """One line of JSON for each event in production, lines for people in development."""
    production = settings.environment == "production"
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _with_trace,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso" if production else "%H:%M:%S", utc=production),
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # Without the values of local variables, which other formatters add.
                structlog.processors.format_exc_info,
                _without_secrets,
                _rendered_for(production=production),
            ],
        )
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name in _VERBOSE_LOGGERS:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)


def _with_trace(_: Any, __: str, event: MutableMapping[str, Any]) -> EventDict:
    """Add the request that the line is about, whichever process writes it."""
    trace = current_trace()
    if trace is not None:
        event.setdefault("request_id", trace.request_id)
        if trace.trace_id is not None:
            event.setdefault("trace_id", trace.trace_id)
    return event


def _rendered_for(*, production: bool) -> Processor:
    if production:
        return structlog.processors.JSONRenderer(ensure_ascii=False)
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )


def _without_secrets(_: Any, __: str, event: MutableMapping[str, Any]) -> EventDict:
    return {
        key: _REDACTED if _SECRET_FIELD.search(key) else _redacted(value)
        for key, value in event.items()
    }


def _redacted(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    return _SECRET_TEXT.sub(_REDACTED, value if isinstance(value, str) else str(value))
