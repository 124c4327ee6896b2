"""Bridges and bots as people run them, made with the libraries that they are made with."""
