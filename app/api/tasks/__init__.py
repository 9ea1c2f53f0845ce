"""GET /tasks."""
