"""Messages: what the package logs below ``ae_pipeline``, and where a command sends it.

A library's user sees what the standard library's ``logging`` is told to show. A command shows
messages beside its progress (:mod:`ae_pipeline.cli.console`); ``AE_PIPELINE_LOG=FILE`` keeps them
in a file as well, with the warnings of other packages, which a terminal never shows.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ae_pipeline.config import StudyError

__all__ = ["LOGGER", "Message", "configure", "heard", "kept", "replay"]

LOGGER = logging.getLogger("ae_pipeline")
OTHERS = logging.getLogger("py.warnings")
FORM = "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"


@dataclass(frozen=True)
class Message:
    """One message, as it goes between processes."""

    logger: str
    level: int
    text: str


class _Hearing(logging.Handler):
    """Passes every message to a function."""

    def __init__(self, hear: Callable[[Message], None]) -> None:
        super().__init__()
        self.hear = hear

    def emit(self, record: logging.LogRecord) -> None:
        self.hear(Message(record.name, record.levelno, record.getMessage()))


def configure() -> None:
    """Keep warnings of other packages off the terminal; log to the file of ``AE_PIPELINE_LOG``.

    Raises
    ------
    StudyError
        Where that file cannot be written.
    """
    logging.captureWarnings(True)
    OTHERS.propagate = False
    if not OTHERS.handlers:
        handler: logging.Handler = logging.NullHandler()
        file = os.environ.get("AE_PIPELINE_LOG")
        if file:
            try:
                handler = logging.FileHandler(file, encoding="utf-8")
            except OSError as error:
                raise StudyError(
                    f"AE_PIPELINE_LOG: {file} cannot be written ({error.strerror}); name another "
                    "file or unset it"
                ) from None
            handler.setFormatter(logging.Formatter(FORM))
            LOGGER.addHandler(handler)
            LOGGER.setLevel(logging.INFO)
        OTHERS.addHandler(handler)


@contextmanager
def heard(hear: Callable[[Message], None]) -> Iterator[None]:
    """Pass messages to a function too, and no longer to handlers above the package's own."""
    handler, level, propagate = _Hearing(hear), LOGGER.level, LOGGER.propagate
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)
        LOGGER.propagate = propagate


@contextmanager
def kept() -> Iterator[list[Message]]:
    """Keep messages in a list instead of handing them on."""
    messages: list[Message] = []
    others = LOGGER.handlers[:]
    LOGGER.handlers[:] = []
    try:
        with heard(messages.append):
            yield messages
    finally:
        LOGGER.handlers[:] = others


def replay(messages: Sequence[Message], prefix: str = "") -> None:
    """Log messages that were kept, in this process or another."""
    for message in messages:
        logging.getLogger(message.logger).log(message.level, "%s%s", prefix, message.text)
