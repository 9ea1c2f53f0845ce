"""Maps: from logits to what is seen and stored."""
