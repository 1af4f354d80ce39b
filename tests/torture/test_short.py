import subprocess
import sys
from pathlib import Path

import pytest

from tests.torture import frame

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("number", [*frame.rows()])
def test_the_short_form_of_a_row_holds(number, tmp_path):
    command = [sys.executable, "-m", "tests.torture", "--short", "--row", str(number), "--results", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
