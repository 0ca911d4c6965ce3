"""Law of an endpoint's address: what is no URL is one message."""

import pytest

from calibration.runtimes.endpoint import Endpoint


@pytest.mark.parametrize("url", ["http://[::1", "http://127.0.0.1:port", "http://a\x00b"])
def test_what_is_no_url_is_refused_in_one_message(url):
    """It names what was given and shows what a URL looks like, on one line; no error of the HTTP library is left."""
    with pytest.raises(ValueError, match="not a URL") as caught:
        Endpoint(url)
    message = str(caught.value)
    assert type(caught.value) is ValueError
    assert message.startswith(f"{url}: not a URL")
    assert "http://127.0.0.1:8080" in message
    assert "\n" not in message
