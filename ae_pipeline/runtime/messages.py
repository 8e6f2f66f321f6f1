"""Messages: what the package logs below ``ae_pipeline``, and where a command sends it.

A library's user sees what the standard library's ``logging`` is told to show. A command shows
messages beside its progress (:mod:`ae_pipeline.cli.console`); ``AE_PIPELINE_LOG=FILE`` keeps them
in a file as well, with the warnings of other packages, which a terminal never shows.
"""

from __future__ import annotations

import errno
import logging
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ae_pipeline.config import StudyError
from ae_pipeline.runtime.files import project_root
from ae_pipeline.text import visible

__all__ = ["LOGGER", "Message", "configure", "heard", "kept", "replay", "unexpected"]

LOGGER = logging.getLogger("ae_pipeline")
OTHERS = logging.getLogger("py.warnings")
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE)
"""Errors of the machine: the next input would meet them, too."""
FORM = "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"


@dataclass(frozen=True)
class Message:
    """One message, as it goes between processes."""

    logger: str
    level: int
    text: str


class _Visible(logging.Formatter):
    """Nothing in a message moves the cursor of a terminal that shows the log."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


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
            handler.setFormatter(_Visible(FORM))
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


def unexpected(error: Exception, what: object, *, out: Path | None = None) -> str:
    """Return why an input failed where nobody has foreseen it; the traceback goes to a file.

    Parameters
    ----------
    error : Exception
        Raised again where the input is not to blame: a wrong study, a full disk, or a folder
        ``out`` that cannot be written to.
    what : object
        The input, for the message.
    out : Path, optional
        Where results go.
    """
    if isinstance(error, StudyError):
        raise error
    if isinstance(error, OSError):
        place = Path(str(error.filename or "/")).absolute()
        if error.errno in NO_ROOM or (out is not None and place.is_relative_to(out.absolute())):
            raise error
        if error.filename and error.strerror:
            return f"{error.filename}: {error.strerror}; check the file and its permissions"
    file = project_root() / "data" / "errors.log"
    text = "".join(traceback.format_exception(error))
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8", errors="backslashreplace") as log:
            log.write(f"{datetime.now().astimezone():%F %T%z} {what}\n{text}\n")
    kind = type(error).__name__
    return f"{what}: unexpected error ({kind}), please report it with what {file} says"
