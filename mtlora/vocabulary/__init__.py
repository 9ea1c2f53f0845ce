"""The vocabulary of the library as values: specs, tasks, options, errors, shapes. Imports no torch."""
