"""The Signal protocol for one-to-one chats as WhatsApp speaks it: X3DH, the double ratchet, and session records.

Written from the published specifications (X3DH, Double Ratchet, XEdDSA) and checked byte for byte against
conversations recorded with the library that Baileys uses (tests/fixtures/signal).
"""
