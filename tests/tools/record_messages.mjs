// Records how the real Baileys encodes message contents, as a fixture for tests/unit/sandbox/test_phone_recorded.py.
//
//   node tests/tools/record_messages.mjs <directory with node_modules> tests/fixtures/messages.json
import { writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'

const [modules, out] = process.argv.slice(2)
const need = createRequire(path.join(path.resolve(modules), 'x.js'))
const { generateWAMessage, proto, encodeWAMessage } = await import(need.resolve('baileys'))
const { version } = need('baileys/package.json')

const chat = '201000000002@s.whatsapp.net'
const key = { remoteJid: chat, fromMe: false, id: 'OTHER1' }
const quoted = { key, message: { conversation: 'the question' } }
const contact = { displayName: 'Cy', contacts: [{ displayName: 'Cy', vcard: 'BEGIN:VCARD\nVERSION:3.0\nFN:Cy\nEND:VCARD' }] }
const contents = {
  text: { text: 'مرحبا 😀' },
  quote: { text: 'the answer', __quoted: quoted },
  location: { location: { degreesLatitude: 30.0444, degreesLongitude: 31.2357, name: 'Cairo', address: 'Tahrir' } },
  contact: { contacts: contact },
  contacts: { contacts: { displayName: '2 contacts', contacts: [contact.contacts[0], { displayName: 'Di', vcard: 'BEGIN:VCARD\nEND:VCARD' }] } },
  reaction: { react: { text: '👍', key } },
  reaction_withdrawn: { react: { text: '', key } },
  edit: { text: 'new text', edit: { ...key, fromMe: true } },
  delete: { delete: { ...key, fromMe: true } },
  poll_one: { poll: { name: 'Come?', values: ['yes', 'no'], selectableCount: 1 } },
  poll_any: { poll: { name: 'Which?', values: ['a', 'b', 'c'], selectableCount: 0 } },
  mention: { text: 'hello @201000000003', mentions: ['201000000003@s.whatsapp.net'] },
}
const recorded = {}
for (const [name, { __quoted, ...content }] of Object.entries(contents)) {
  const full = await generateWAMessage(chat, content, { userJid: '201000000001@s.whatsapp.net', quoted: __quoted })
  // What a sender's other devices and the recipient get, before padding.
  recorded[name] = Buffer.from(proto.Message.encode(full.message).finish()).toString('base64')
}
const padded = Buffer.from(encodeWAMessage({ conversation: 'padded' })).toString('base64')
writeFileSync(out, `${JSON.stringify({ recordedWith: `baileys ${version}`, padded, messages: recorded }, null, 1)}\n`)
