"""What administrators do, as commands: each is written once and given from the command line, by chat and over HTTP."""
