"""The bytes on the wire: Noise handshake and transport, frames, and the binary form of stanzas.

Nothing here knows accounts or queues; `network/` does.
"""
