"""The control API of the sandbox: how a person, a test or a script moves the virtual phones."""
