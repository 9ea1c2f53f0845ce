"""The playground: its page and the files it is made of."""
