"""Application services: bridges and bots that act for many users, and are told what happens around them."""
