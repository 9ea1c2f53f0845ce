"""The HTTP API: thin handlers that parse, call and answer. One folder for each API."""
