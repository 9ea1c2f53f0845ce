"""Photos in, maps out: decoding with limits, and answers in every form. Pure functions for codec threads."""
