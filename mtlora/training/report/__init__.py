"""What a run leaves for people to look at: pictures, curves, tables, and one page of all."""
