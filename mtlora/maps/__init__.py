"""Maps: logits to maps, maps to PNG."""
