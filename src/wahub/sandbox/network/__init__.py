"""The server side of the sandbox: accounts, devices, queues and the conversation with each socket.

It never sees plaintext. State changes are plain assignments on one event loop; `store.py` says what survives a crash.
`network.py` is the way in (for phones and the control API), `asgi.py` the way in for sockets.
"""
