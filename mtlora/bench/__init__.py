"""Load on a running server, and what came of it: for `mtlora bench` and `make bench`. Needs no torch."""
