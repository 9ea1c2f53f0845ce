"""The API of tasks, GET /tasks."""
