"""Logging: structlog, one dotted event name and fields a line; JSON, or colours on a terminal.

``get_logger().info("run.started", version="10.7.2")``. Which service and run it is about is bound
once, around the work (``with bound(service=..., run=...)``), and goes along into tasks and threads.
Times are UTC. Values of fields whose name says that they are secret, and passwords in URLs, are
struck out; that is the net, not the rule: don't log secrets. What would steer a terminal or pass for a
line of its own is made harmless here, whoever wrote it.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from textwrap import indent
from typing import Any, Final, TextIO

import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.processors import ExceptionRenderer, JSONRenderer, TimeStamper, add_log_level
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

from warmd.core.text import escaped, one_line, plain

#: What ``--log-level`` and ``log_level`` may say.
LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
STRUCK_OUT: Final = "[not shown]"

_SECRET_NAME = re.compile(
    r"(?:^|[_.-])(?:pass(?:word|wd|phrase)?|secret|token|authorization|cookie|credentials?|auth"
    r"|api_?key|private_?key|env|environment)s?$",
    re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"(?<=://)[^/@\s:]*:[^/@\s]*(?=@)")


def setup(level: str = "info", *, stream: TextIO | None = None, json_lines: bool | None = None) -> None:
    """Send everything of ``level`` and above to ``stream`` (stderr), one line each.

    ``json_lines``: None asks whether the stream is a terminal. What libraries say through the
    standard ``logging`` goes the same way from ``warning`` up. Calling it again replaces the first.
    """
    stream = sys.stderr if stream is None else stream
    terminal = stream.isatty()
    as_json = not terminal if json_lines is None else json_lines
    structlog.configure(
        processors=[
            merge_contextvars,
            add_log_level,
            TimeStamper(fmt="iso", utc=True, key="at"),
            strike_out,
            *(_json() if as_json else _console(colors=terminal and not os.environ.get("NO_COLOR"))),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )
    logging.captureWarnings(True)
    logging.basicConfig(level=logging.WARNING, handlers=[_Forward()], force=True)


def get_logger() -> Any:
    """A logger; cheap, also at module level: it looks up the set-up when it is used."""
    return structlog.get_logger()


def bound(**fields: str | None) -> AbstractContextManager[None]:
    """Adds ``fields`` (``service``, ``run``) to every line logged inside, the None ones left out."""
    return bound_contextvars(**{key: value for key, value in fields.items() if value is not None})


def strike_out(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The processor that keeps secrets out: by the field's name, and passwords in any URL."""
    return {key: _clean(key, value) for key, value in event.items()}


def _clean(key: str, value: Any) -> Any:
    if isinstance(value, str | bytes | Mapping | list | tuple) and value and _SECRET_NAME.search(key):
        return STRUCK_OUT
    if isinstance(value, str):
        return _URL_PASSWORD.sub("***", value)
    if isinstance(value, Mapping):
        return {k: _clean(str(k), v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(key, v) for v in value]
    return value


def _json() -> list[Processor]:
    # Never the values of local variables: they are where the secrets are.
    return [
        ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
        JSONRenderer(serializer=_serialize, default=str, ensure_ascii=False),
    ]


def _serialize(event: EventDict, **options: Any) -> str:
    return escaped(json.dumps(event, **options))


def _console(*, colors: bool) -> list[Processor]:
    renderer = structlog.dev.ConsoleRenderer(
        colors=colors, timestamp_key="at", exception_formatter=_indented_traceback
    )
    return [_harmless, renderer]


def _harmless(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The processor after which a value is one line that steers nothing. Colours come later."""
    return {one_line(key): value if key == "exc_info" else _fit(value) for key, value in event.items()}


def _fit(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float) else one_line(value)


def _indented_traceback(stream: TextIO, exc_info: Any) -> None:
    """A traceback whose lines can't be taken for lines of the log, whatever the error's message is."""
    text = io.StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    stream.write("\n" + indent(plain(text.getvalue()).rstrip("\n"), "    | "))


class _Forward(logging.Handler):
    """What libraries log, as events of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            get_logger().log(
                record.levelno,
                "library.message",
                library=record.name,
                message=record.getMessage(),
                exc_info=record.exc_info,
            )
        except Exception:  # a log line must not end what it tells about
            self.handleError(record)
