"""The Baileys engine: our side of the pipe, and the JavaScript on the other side of it."""
