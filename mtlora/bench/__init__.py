"""Load tests of a running server, for `mtlora bench` and `make bench`. Needs no torch."""
