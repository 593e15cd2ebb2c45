"""Protocols between the rules and the outside world; each docstring says who may call what and when."""
