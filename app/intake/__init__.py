"""What clients send: bodies of the three forms, bounded while they stream, and the form of answer they ask for."""
