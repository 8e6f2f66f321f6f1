"""What a study says of its operation, and when its schedule was due."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from ae_pipeline.runtime.operation import Dask, Operation, Processes, Sequential, due_between

VIENNA = ZoneInfo("Europe/Vienna")


def test_a_runner_may_be_named_or_written_out() -> None:
    assert Operation(inbox="in").runner == Sequential()
    assert Operation(inbox="in", runner="process").runner == Processes()
    there = {"kind": "dask", "scheduler": "tcp://cluster:8786"}
    assert Operation(inbox="in", runner=there).runner == Dask(scheduler="tcp://cluster:8786")
    for wrong in ("threads", "dask", {"kind": "dask", "scheduler": "tcp://me:secret@host:1"}):
        with pytest.raises(ValidationError):
            Operation(inbox="in", runner=wrong)


def test_a_schedule_is_due_between_two_times_and_knows_its_zone() -> None:
    start = datetime(2026, 3, 27, 12, tzinfo=VIENNA)
    end = datetime(2026, 3, 30, 1, 59, tzinfo=VIENNA)
    found = due_between("0 2 * * *", start, end=end, zone="Europe/Vienna")
    # on the 29th two o'clock is skipped: the clock goes to summer time, the run is not lost
    assert [moment.day for moment in found] == [28, 29]
    assert due_between("0 2 * * *", start, end=start) == []
    assert len(due_between("* * * * *", start, end=end)) == 400, "bounded"
