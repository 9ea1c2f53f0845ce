"""What tests and benchmarks share: factories, servers, fakes. Not part of a release."""
