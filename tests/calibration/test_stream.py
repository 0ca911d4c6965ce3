"""Whatever a server streams, it is read without an error, and what is kept of it can be written down as JSON."""

import json
from dataclasses import asdict

from hypothesis import given
from hypothesis import strategies as st

from calibration.runtimes.stream import Stream

EVENT = ["choices", "text", "finish_reason", "usage", "timings", "error", "delta"]
CLAIMS = ["prompt_tokens", "completion_tokens", "prompt_tokens_details", "cached_tokens", "prompt_ms", "predicted_ms"]
KEYS = st.sampled_from([*EVENT, *CLAIMS])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just("\ud800")
EVENTS = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=4))
COUNTED = st.fixed_dictionaries({"choices": st.just([]), "usage": EVENTS, "timings": EVENTS})


@given(st.lists(EVENTS | COUNTED, max_size=3))
def test_no_claim_of_a_server_is_an_error(events):
    """Counts are whole numbers of at least 0 or not known, seconds finite, and all of it goes through JSON and back."""
    stream = Stream(4, 2)
    stream.parts = [(1.0, f"data: {json.dumps(event)}\n\n".encode()) for event in events] + [(2.0, b"data: [DONE]\n")]
    found = stream.generation(stream.parsed(""))
    assert found.fault  # not one of them is an answer of two tokens
    text = json.dumps(asdict(found), allow_nan=False)
    assert json.loads(text)["fault"] == found.fault
    found.fault.encode()
    for count in (found.prompt_tokens, found.output_tokens, found.cached_tokens):
        assert count is None or (type(count) is int and count >= 0)
