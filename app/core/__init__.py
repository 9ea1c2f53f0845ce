"""The basics that every other folder may use: names, errors, values. Imports nothing else of the service."""
