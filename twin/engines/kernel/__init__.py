"""The compiled server, one machine code in parts.

It means what `server`, `prefill_first`, `chunked` and `memory` of `twin.servers` say.
"""
