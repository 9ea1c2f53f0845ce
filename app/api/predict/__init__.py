"""The API of predictions, POST /predict."""
