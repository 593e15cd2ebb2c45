"""The HTTP edge: routes read a request, call one service in one transaction, and write the reply."""
