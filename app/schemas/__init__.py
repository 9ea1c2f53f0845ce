"""Bodies of answers, as documented in /openapi.json."""
