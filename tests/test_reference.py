"""The page of scenario files says what the schema says, and its example runs."""

import re

from scenarios.files.keys import keys_of
from scenarios.files.loading import load
from scenarios.runs.replicating import assemble
from tools.reference import DOCS, PAGE, page


def test_the_page_is_that_of_the_schema():
    """No key is added, renamed or described anew without its page: run `python -m tools.reference`."""
    assert PAGE.read_text(encoding="utf-8") == page()


def test_the_page_has_every_key_of_a_scenario():
    """Whatever key a scenario has stands on the page, in the section of its table."""
    sections = dict(re.findall(r"^#+ `\[+([\w.]+)\]+`[^\n]*\n(.*?)(?=^#|\Z)", page(), flags=re.DOTALL | re.MULTILINE))
    for key in keys_of(load("rush-hour").file):
        table, _, name = re.sub(r"\[\d+\]", "", key).rpartition(".")
        if table not in {"load", "", "budgets.delay_s", "power_switches"}:  # a section for each process; at the top
            assert f"| `{name}` |" in sections[table] or f"{table}.{name}]" in page(), key


def test_the_example_of_the_page_is_ready_to_run():
    """The file that the page shows names profiles, access points and devices that are there."""
    assert len(assemble(load(DOCS / "examples" / "depot.toml")).experts) == 3
