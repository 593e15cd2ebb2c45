"""The control API of the sandbox: how a person, a test or a script moves the virtual phones.

Calls, status codes and main shapes are those of spec/sandbox.md section 1. What that table leaves open, as built here:
lists are wrapped (`{"phones"}`, `{"faults"}`, `{"stanzas"}` for the trace); a scan and a code answer
`{"device": <id>}`; what has nothing to tell answers `{"ok": true}`, `/online` answers `{"online"}`.
A message has `fromMe` besides the listed fields and, by its type, `quote {messageId, text}`, `location`,
`contact {name, vcard}`, `contacts`, `reaction {messageId, emoji}`, `edit {messageId, text}`, `delete {messageId}`,
`vote {pollId}`. To be sent, a location is `{latitude, longitude, name?, address?}`, a contact `{name, phone}` or
`{name, vcard}`, a quote the quoted message's id.
"""
