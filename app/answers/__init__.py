"""Answers: from logits to documents, pictures and arrays, one file for each form."""
