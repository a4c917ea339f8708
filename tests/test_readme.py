"""The README says what the code says."""

import re
from pathlib import Path

from accounts.settings_table import markdown

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_settings_table_is_the_models() -> None:
    assert markdown().strip() in README


def test_nothing_is_left_to_be_filled_in() -> None:
    assert not re.search(r"@@\w+@@", README)
