"""Telemetry for operators: metrics, logs, audit log, traces."""
