"""How an API asks for predictions and answers them; what happens in between is the same for all (`app.predictions`)."""
