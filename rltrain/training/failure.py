"""What a run leaves behind when it fails: the traceback, as a file in its folder, and what was being done."""

from __future__ import annotations

import re
import traceback
from contextlib import suppress

from rltrain.errors import RLTrainError, note
from rltrain.runs.folder import RunFolder
from rltrain.storage.files import write_atomically

FILE = "traceback.txt"


def keep_traceback(folder: RunFolder, error: BaseException, doing: str) -> None:
    """Writes the traceback of an exception that rltrain did not raise by itself into the run folder, and says where.

    Nothing is written for an error that explains itself, or by a rank that does not write.

    Args:
        folder: The run folder.
        error: The exception that ended the run.
        doing: What was being done, such as ``training``.
    """
    explained = isinstance(error, RLTrainError) and (
        error.__cause__ is None or isinstance(error.__cause__, RLTrainError)
    )
    if explained or not isinstance(error, Exception) or not folder.writes:
        return
    path = folder.path / FILE
    with suppress(OSError):
        write_atomically(path, "".join(traceback.format_exception(error)))
        if not isinstance(error, RLTrainError):
            note(error, doing, str(path))
        else:
            error.fix = _with_file(error.fix, f"the traceback is in '{path}'")


def _with_file(fix: str, where: str) -> str:
    """A fix that names the file with the traceback in place of the option that would show it."""
    if not fix:
        return f"{where[0].upper()}{where[1:]}."
    return re.sub(r"--debug shows [^.;]*", lambda at: where if at.start() else where[0].upper() + where[1:], fix)
