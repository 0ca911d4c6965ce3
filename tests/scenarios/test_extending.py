"""Laws of `extends` and `without`."""

import pytest
from typer.testing import CliRunner

from scenarios.cli import app
from scenarios.files.loading import load

BASE = """
name = "base"
duration_s = 60.0
[load]
process = "requests"
path = "requests.csv"
[[experts]]
name = "a"
device = "one"
profile = "one.json"
max_batch = 2
[[experts]]
name = "b"
device = "two"
profile = "rtx-4090/yi-6b-chat/bf16"
[budgets]
delay_s = { default = 5.0, law = 9.0 }
"""


@pytest.fixture
def folders(tmp_path):
    """Write a base scenario into one folder; return a writer of scenarios that extend it from another."""
    (tmp_path / "base").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "base" / "base.toml").write_text(BASE)

    def write(text, name="mine.toml"):
        path = tmp_path / "mine" / name
        path.write_text('extends = "../base/base.toml"\n' + text)
        return path

    return write


def test_a_difference_changes_what_it_names_and_nothing_else(folders):
    """Tables are merged, experts by name; the base's paths stay relative to the base."""
    path = folders('name = "mine"\n[budgets]\ndelay_s = { law = 3.0 }\n[[experts]]\nname = "b"\nmax_batch = 7\n')
    scenario = load(path)
    file = scenario.file
    assert (file.name, file.duration_s) == ("mine", 60.0)
    assert file.budgets.delay_by_category_s() == {"default": 5.0, "law": 3.0}
    assert [(e.name, e.device, e.max_batch) for e in file.experts] == [("a", "one", 2), ("b", "two", 7)]
    base = path.parent.parent / "base"
    assert file.load.path == str(base / "requests.csv")
    assert file.experts[0].profile == str(base / "one.json")
    assert file.experts[1].profile == "rtx-4090/yi-6b-chat/bf16"


def test_experts_are_added_and_dropped(folders):
    """`without` drops by name; an expert with a new name is added at the end."""
    path = folders('without = ["a"]\n[[experts]]\nname = "c"\ndevice = "three"\nprofile = "c.json"\n')
    assert [e.name for e in load(path).file.experts] == ["b", "c"]


def test_another_process_replaces_the_load_whole(folders):
    """Keys of the base's load do not linger beside another process."""
    path = folders('[load]\nprocess = "poisson"\nrequests_per_s = 2.0\n')
    assert load(path).file.load.process == "poisson"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('without = ["aa"]', "mine.toml: key without: no expert is named 'aa'"),
        ("without = 3", "mine.toml: key without = 3: should be a list of expert names"),
        ("[[experts]]\nmax_batch = 2\n", "key experts.2..name is missing"),
    ],
)
def test_a_wrong_difference_is_refused(folders, text, message):
    """The message names the file and the key."""
    with pytest.raises(ValueError, match=message):
        load(folders(text))


def test_a_circle_and_a_base_that_is_not_there_are_refused(tmp_path):
    """Files that extend each other, and a base without a file, are told apart and named."""
    for name, base in (("a", "b.toml"), ("b", "a.toml"), ("c", "testbad")):
        (tmp_path / f"{name}.toml").write_text(f'extends = "{base}"\n')
    with pytest.raises(ValueError, match=r"a\.toml: extends itself"):
        load(tmp_path / "a.toml")
    with pytest.raises(ValueError, match=r"c\.toml: key extends: .*testbad.*did you mean 'testbed'"):
        load(tmp_path / "c.toml")


def test_the_schema_is_json_schema_and_knows_every_key():
    """`moe2 schema` prints what editors read; keys of the file and of `extends` are in it, with their meaning."""
    import json

    schema = json.loads(CliRunner().invoke(app, ["schema"]).output)
    assert {"extends", "without", "duration_s", "experts", "budgets"} <= set(schema["properties"])
    assert schema["$defs"]["ExpertSpec"]["properties"]["profile"]["description"]
