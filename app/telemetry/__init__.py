"""What operators see: metrics and JSON logs."""
