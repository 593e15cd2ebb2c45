"""Long-lived loops; each opens with its theory."""
