"""One file per verb of `textclf`; cli.py only dispatches."""
