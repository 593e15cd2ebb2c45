"""WhatsApp in a box: protocol server, virtual phones and a control API, for tests and for people without a phone."""
