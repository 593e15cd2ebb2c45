"""Engines: the libraries that speak WhatsApp, each in its own side process."""
