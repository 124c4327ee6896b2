"""Which tinyserver this is. Not asked of the installed package: looking that up costs two megabytes."""

NAME = "tinyserver"
VERSION = "0.1.0"
