"""Write docs/scenarios.md, every key of a scenario file, from the schema that checks it.

`python -m tools.reference` writes it; a test holds the page in the tree to what this would write.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scenarios.files.schema import ScenarioFile, json_schema
from tools.pages import markdown_table
from twin.records.tables import SCHEMAS

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "scenarios.md"
Schema = Mapping[str, Any]
_HEADER = ("key", "value", "when left out", "meaning")

_INTRODUCTION = """# Scenario files

Written by `python -m tools.reference` from the schema; change that, not this page. `moe2 schema` prints the same for
editors, `moe2 check FILE` says what is wrong with a file and what is allowed in its place.

A scenario says who asks what, how often and from where, which LLMs serve on which devices, what goes wrong, and what
has to hold. Units are in the keys: seconds, joules, watts, metres. A relative path is taken from the file's own folder.
This one is [docs/examples/depot.toml](examples/depot.toml); two access points, three LLMs and an outage:

```toml
{example}```

Any key can be changed for one call (`--set router.k=1`, or `--set k=1` where one key alone ends so), or varied
(`moe2 sweep … --vary k=1,2,3`). A scenario can be a difference to another: `extends = "testbed"` takes over all of that
one's keys, tables key by key and experts by their name, and `without` drops experts.
"""

_FILES = """## Files that a scenario names

- **Requests** (`[load] process = "requests"`): a CSV with the columns request_id, arrived_s (seconds from the start),
  prompt_tokens, output_tokens and category, and where gate and network are to be left out, experts (names joined
  by `|`).
- **Access points**: a CSV with site_id, and x_m and y_m or latitude and longitude.
- **Positions** (`mobility = "trace"`): a CSV with user_id, at_s, and x_m and y_m or latitude and longitude; between two
  rows a user walks straight.
- **Traces** (`process = "trace"`): the public Azure LLM inference traces or Mooncake's, as CSV, gzipped or not.
- **Profiles**: JSON, as `moe2 fit` writes it and `moe2 profiles validate` checks it; `moe2 profiles show` prints one.
- **Answers and gate**: as `moe2 answers collect` and `moe2 train` write them.

"""

_TABLES = """## What a run writes

Instants are seconds from the run's start; what is not known, or did not happen, is null. A request has a leg for each
expert that it is put to, and one more for each further attempt.

"""


def page() -> str:
    """Return the page."""
    schema = json_schema()
    example = (DOCS / "examples" / "depot.toml").read_text(encoding="utf-8")
    written = [f"- **{name}.parquet**: {', '.join(columns)}\n" for name, columns in SCHEMAS.items()]
    return "\n".join(
        [
            _INTRODUCTION.replace("{example}", example),
            _section("## At the top of the file", _top(schema)),
            *_tables(schema, schema["$defs"]),
            _FILES + _TABLES + "".join(written),
        ]
    )


def _top(schema: Schema) -> dict[str, Any]:
    """Return the keys outside all tables; one that is required is so in a file that extends no other."""
    needed = ScenarioFile.model_json_schema()["required"]
    return {"properties": schema["properties"], "required": needed, "description": "Those required may be inherited."}


def _tables(schema: Schema, definitions: Schema, above: str = "") -> Iterator[str]:
    """Yield a section for every table below a schema, in the order of the file."""
    for key, value in schema["properties"].items():
        names, many = list(_named(value)), value.get("type") == "array"
        path = f"{above}{key}"
        for name in names:
            table = definitions[name]
            only = table["properties"].get("process", {}).get("const") if key == "load" else None
            head = f"[[{path}]]" if many else f"[{path}]"
            title = f"{'#' * (2 + path.count('.'))} `{head}`{f' with `process = {only!r}`' if only else ''}"
            yield _section(title.replace("'", '"'), table)
            yield from _tables(table, definitions, f"{path}.")


def _named(value: Schema) -> Iterator[str]:
    """Yield the names of the tables that a value may be."""
    for part in (value, value.get("items", {}), *value.get("anyOf", ()), *value.get("oneOf", ())):
        if "$ref" in part:
            yield part["$ref"].rpartition("/")[2]


def _section(title: str, table: Schema) -> str:
    """Return a section with a row for every key that holds no table and is not in the title."""
    needed = table.get("required", ())
    rows = [
        (f"`{key}`", _value(value), "required" if key in needed else _default(value), value.get("description", ""))
        for key, value in table["properties"].items()
        if key != "process" and not list(_named(value))
    ]
    return f"{title}\n\n{table['description']}\n\n{markdown_table(_HEADER, rows)}\n"


def _default(value: Schema) -> str:
    default = value.get("default")
    if default in (None, "", {}, []):
        return "—"
    return f"`{str(default).lower()}`" if isinstance(default, bool) else f"`{default}`"


def _value(value: Schema) -> str:
    """Return what is allowed, in words.

    >>> _value({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]}), _value({"enum": ["a", "b"]})
    ('number above 0', '"a", "b"')
    """
    if "anyOf" in value:
        return " or ".join(_value(part) for part in value["anyOf"] if part.get("type") != "null")
    if "enum" in value or "const" in value:
        return ", ".join(f'"{word}"' for word in value.get("enum", [value.get("const")]))
    kind = value.get("type")
    if kind == "array":
        parts = value.get("prefixItems") or [value.get("items", {})]
        return f"list: {_value(parts[0])}"
    if kind == "object":
        return f"table: {_value(value['additionalProperties'])}"
    return f"{_KINDS[kind]}{_bounds(value)}"


_KINDS = {"string": "text", "number": "number", "integer": "whole number", "boolean": "true or false"}
_BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}


def _bounds(value: Schema) -> str:
    return "".join(f" {word} {value[bound]:g}" for bound, word in _BOUNDS.items() if bound in value)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
