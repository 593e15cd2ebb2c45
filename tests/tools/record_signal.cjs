// Records Signal conversations with the library that Baileys uses, as fixtures for tests/unit/sandbox/test_signal_vectors.py.
//
//   node tests/tools/record_signal.cjs <directory with node_modules> tests/fixtures/signal
//
// Every key pair comes from a seeded generator and is written down per party, so that another implementation that draws
// its keys in the same order must produce the same bytes. Messages are random-free (the IV is derived), signatures are not.
'use strict'
const { createHash } = require('node:crypto')
const { writeFileSync, mkdirSync } = require('node:fs')
const { createRequire } = require('node:module')
const path = require('node:path')

const [modules, outDir] = process.argv.slice(2)
const need = createRequire(path.join(path.resolve(modules), 'x.js'))
const curve = need('libsignal/src/curve')
const libsignal = need('libsignal')
for (const name of ['log', 'info', 'warn', 'error']) console[name] = () => {}

const generate = curve.generateKeyPair
let active = null
const fromPrivate = (privKey) => {
  const { createPrivateKey, createPublicKey } = require('node:crypto')
  const der = Buffer.concat([Buffer.from('302e020100300506032b656e04220420', 'hex'), privKey])
  const spki = createPublicKey(createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })).export({ format: 'der', type: 'spki' })
  return { privKey, pubKey: Buffer.concat([Buffer.from([5]), spki.subarray(12)]) }
}
curve.generateKeyPair = () => (active ? active.draw() : generate())

class Party {
  constructor(scenario, name, registrationId) {
    this.name = name
    this.seed = `${scenario}/${name}`
    this.drawn = []
    this.sessions = {}
    this.registrationId = registrationId
    this.identity = this.fixed('identity')
    this.signed = { keyId: 7, keyPair: this.fixed('signed') }
    this.signed.signature = curve.calculateSignature(this.identity.privKey, this.signed.keyPair.pubKey)
    this.prekeys = { 11: this.fixed('prekey11'), 12: this.fixed('prekey12') }
    this.removed = []
  }
  fixed(label) {
    const raw = createHash('sha256').update(`${this.seed}/${label}`).digest()
    raw[0] &= 248; raw[31] &= 127; raw[31] |= 64
    return fromPrivate(raw)
  }
  draw() {
    const pair = this.fixed(`drawn${this.drawn.length}`)
    this.drawn.push(pair.privKey.toString('base64'))
    return pair
  }
  storage() {
    return {
      loadSession: async (id) => (this.sessions[id] ? libsignal.SessionRecord.deserialize(this.sessions[id]) : undefined),
      storeSession: async (id, record) => { this.sessions[id] = JSON.parse(JSON.stringify(record.serialize())) },
      isTrustedIdentity: async () => true,
      loadPreKey: async (id) => this.prekeys[id],
      removePreKey: async (id) => { this.removed.push(id); delete this.prekeys[id] },
      loadSignedPreKey: async (id) => (id === this.signed.keyId ? this.signed.keyPair : undefined),
      getOurRegistrationId: async () => this.registrationId,
      getOurIdentity: async () => this.identity,
    }
  }
  bundle(prekeyId) {
    return {
      registrationId: this.registrationId,
      identityKey: this.identity.pubKey,
      signedPreKey: { keyId: this.signed.keyId, publicKey: this.signed.keyPair.pubKey, signature: this.signed.signature },
      preKey: prekeyId ? { keyId: prekeyId, publicKey: this.prekeys[prekeyId].pubKey } : undefined,
    }
  }
  export() {
    const b64 = (buffer) => buffer.toString('base64')
    return {
      registrationId: this.registrationId,
      identity: b64(this.identity.privKey),
      identityPublic: b64(this.identity.pubKey),
      signedPreKey: { id: 7, private: b64(this.signed.keyPair.privKey), signature: b64(this.signed.signature) },
      preKeys: this.initialPreKeys,
      drawn: this.drawn,
    }
  }
}

async function record(name, script) {
  const parties = { alice: new Party(name, 'alice', 1111), bob: new Party(name, 'bob', 2222) }
  for (const party of Object.values(parties)) {
    party.initialPreKeys = Object.fromEntries(Object.entries(party.prekeys).map(([id, p]) => [id, p.privKey.toString('base64')]))
  }
  const steps = []
  const address = (who) => new libsignal.ProtocolAddress(who, 0)
  const other = (who) => (who === 'alice' ? 'bob' : 'alice')
  const as = async (who, work) => {
    active = parties[who]
    try { return await work(parties[who], address(other(who))) } finally { active = null }
  }
  const api = {
    start: (who, prekeyId) => as(who, async (party, to) => {
      const bundle = parties[other(who)].bundle(prekeyId)
      await new libsignal.SessionBuilder(party.storage(), to).initOutgoing(bundle)
      steps.push({ op: 'start', who, prekeyId: prekeyId ?? null })
    }),
    encrypt: (who, text) => as(who, async (party, to) => {
      const { type, body } = await new libsignal.SessionCipher(party.storage(), to).encrypt(Buffer.from(text))
      const message = { type: type === 3 ? 'pkmsg' : 'msg', body: Buffer.from(body).toString('base64'), text }
      steps.push({ op: 'encrypt', who, ...message })
      return message
    }),
    decrypt: (who, message) => as(who, async (party, from) => {
      const cipher = new libsignal.SessionCipher(party.storage(), from)
      const body = Buffer.from(message.body, 'base64')
      let text = null
      try {
        const plain = message.type === 'pkmsg' ? await cipher.decryptPreKeyWhisperMessage(body) : await cipher.decryptWhisperMessage(body)
        text = Buffer.from(plain).toString()
      } catch (error) { if (process.env.SHOW) process.stderr.write(`${name}: ${error.stack}\n`) /* recorded as a refusal */ }
      steps.push({ op: 'decrypt', who, type: message.type, body: message.body, text })
    }),
    close: (who) => as(who, async (party, to) => {
      await new libsignal.SessionCipher(party.storage(), to).closeOpenSession()
      steps.push({ op: 'close', who })
    }),
  }
  await script(api)
  const library = need('libsignal/package.json')
  const fixture = {
    name, recordedWith: `${library.name} ${library.version} (baileys ${need('baileys/package.json').version})`,
    alice: parties.alice.export(), bob: parties.bob.export(), steps,
  }
  writeFileSync(path.join(outDir, `${name}.json`), `${JSON.stringify(fixture, null, 1)}\n`)
}

async function main() {
  mkdirSync(outDir, { recursive: true })
  await record('ping_pong', async (a) => {
    await a.start('alice', 11)
    for (let turn = 0; turn < 4; turn++) {
      await a.decrypt('bob', await a.encrypt('alice', `ask ${turn} \u0645\u0631\u062d\u0628\u0627 \u{1F600}`))
      await a.decrypt('alice', await a.encrypt('bob', `answer ${turn} ${'x'.repeat(turn * 15)}`))
    }
  })
  await record('without_one_time_prekey', async (a) => {
    await a.start('alice', undefined)
    const first = await a.encrypt('alice', 'first')
    const second = await a.encrypt('alice', 'second, still with prekeys')
    await a.decrypt('bob', first)
    await a.decrypt('bob', second)
    await a.decrypt('alice', await a.encrypt('bob', 'back'))
    await a.decrypt('bob', await a.encrypt('alice', 'third'))
  })
  await record('out_of_order', async (a) => {
    await a.start('alice', 12)
    const batch = []
    for (let i = 0; i < 6; i++) batch.push(await a.encrypt('alice', `m${i}`))
    for (const i of [3, 0, 5, 1]) await a.decrypt('bob', batch[i])
    await a.decrypt('alice', await a.encrypt('bob', 'stepping'))
    const later = await a.encrypt('alice', 'on the new chain')
    await a.decrypt('bob', later)
    for (const i of [4, 2]) await a.decrypt('bob', batch[i])
    await a.decrypt('bob', batch[2])
    await a.decrypt('bob', later)
  })
  await record('lost_messages', async (a) => {
    await a.start('bob', 11)
    await a.decrypt('alice', await a.encrypt('bob', 'hello'))
    for (let i = 0; i < 5; i++) await a.encrypt('alice', `lost ${i}`)
    await a.decrypt('bob', await a.encrypt('alice', 'arrived'))
    await a.encrypt('bob', 'lost too')
    for (let i = 0; i < 40; i++) await a.encrypt('bob', `gap ${i}`)
    await a.decrypt('alice', await a.encrypt('bob', 'after the gap'))
    const late = await a.encrypt('alice', 'late')
    await a.decrypt('bob', await a.encrypt('alice', 'newest'))
    await a.decrypt('alice', await a.encrypt('bob', 'step'))
    await a.decrypt('bob', await a.encrypt('alice', 'step'))
    await a.decrypt('bob', late)
  })
  await record('both_at_once', async (a) => {
    await a.start('alice', 11)
    await a.start('bob', 12)
    const fromAlice = [await a.encrypt('alice', 'a0'), await a.encrypt('alice', 'a1')]
    const fromBob = [await a.encrypt('bob', 'b0'), await a.encrypt('bob', 'b1')]
    await a.decrypt('bob', fromAlice[0])
    await a.decrypt('alice', fromBob[0])
    await a.decrypt('bob', fromAlice[1])
    await a.decrypt('alice', fromBob[1])
    // Not further: when the recording library tries a session in vain it steps its ratchet all the same, and keeps that
    // when another session can read the message. Two sessions begun at once so break it after this message.
    await a.decrypt('bob', await a.encrypt('alice', 'a then'))
  })
  await record('closed_and_renewed', async (a) => {
    await a.start('alice', 11)
    await a.decrypt('bob', await a.encrypt('alice', 'one'))
    await a.decrypt('alice', await a.encrypt('bob', 'two'))
    const old = await a.encrypt('bob', 'sent before the renewal')
    await a.close('alice')
    await a.start('alice', 12)
    await a.decrypt('bob', await a.encrypt('alice', 'renewed'))
    await a.decrypt('alice', await a.encrypt('bob', 'on the new session'))
    await a.decrypt('bob', await a.encrypt('alice', 'and back'))
    await a.decrypt('alice', old)
  })
}
main().catch((error) => { process.stderr.write(`${error.stack}\n`); process.exit(1) })
