"""Churn: clients that change and use adapter sets without pause and hold the server to every word it gave."""
