// What keeps Signal sessions few and small; run by test_parts.py.

import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';

const directory = process.env.ENGINE_DIRECTORY;
const load = name => import(pathToFileURL(join(directory, name)).href);
await load('silence.mjs');
await load('signal_sessions.mjs');
const { hideKnownLids } = await load('known_lids.mjs');
const { keyhelper, ProtocolAddress, SessionBuilder, SessionCipher, SessionRecord } = createRequire(join(directory, 'x.js'))('libsignal');

const turn = () => new Promise(setImmediate);
const person = (jid, lid, ...more) => ({
	tag: 'user', attrs: { jid }, content: [{ tag: 'lid', attrs: { val: lid } }, ...more]
});
const devices = { tag: 'devices', attrs: {}, content: [] };
const answer = (...people) => ({
	tag: 'iq', attrs: { id: '1', type: 'result' }, content: [
		{ tag: 'usync', attrs: {}, content: [{ tag: 'result', attrs: {} }, { tag: 'list', attrs: {}, content: people }] }
	]
});
const lids = node => node.content[0].content[1].content.map(({ content }) => content.find(({ tag }) => tag === 'lid')?.attrs.val);

/** Baileys' socket over a store that knows these LIDs, and what its listeners heard. */
function socketOver(known, get = async (kind, ids) => Object.fromEntries(ids.filter(id => known[id]).map(id => [id, known[id]]))) {
	const ws = new EventEmitter();
	const heard = [];
	const asked = [];
	hideKnownLids(ws, { get: (kind, ids) => (asked.push([kind, ids]), get(kind, ids)) });
	ws.on('TAG:1', node => heard.push(node));
	return { ws, heard, asked };
}

test('LIDs: one that is stored is hidden, a new and a changed one are not', async () => {
	const { ws, heard, asked } = socketOver({ 1555: '9001', 1666: '9002' });
	const people = [
		person('1555@s.whatsapp.net', '9001@lid', devices), person('1666@s.whatsapp.net', '7777@lid', devices),
		person('1777@s.whatsapp.net', '9003@lid', devices), person('9004@lid', '9004@lid', devices)
	];
	assert.equal(ws.emit('TAG:1', answer(...people)), true);
	await turn();
	assert.deepEqual(heard.map(lids), [[undefined, '7777@lid', '9003@lid', undefined]]);
	assert.deepEqual(heard[0].content[0].content[1].content[0].content, [devices]);
	assert.deepEqual(asked, [['lid-mapping', ['1555', '1666', '1777', '9004']]]);
});

test('LIDs: an answer to who has which LID, and all else, passes at once and as it is', () => {
	const { ws, heard, asked } = socketOver({ 1555: '9001' });
	const others = [
		answer(person('1555@s.whatsapp.net', '9001@lid')), answer(), { tag: 'iq', attrs: { type: 'result' } },
		{ tag: 'iq', attrs: {}, content: Buffer.from('usync') }, new Uint8Array(2), undefined
	];
	others.forEach(node => ws.emit('TAG:1', node));
	assert.deepEqual(heard, others);
	assert.deepEqual(lids(heard[0]), ['9001@lid']);
	assert.equal(ws.emit('TAG:2', others[0]), false);
	assert.deepEqual(asked, []);
});

test('LIDs: the answer comes also when the store fails', async () => {
	const { ws, heard } = socketOver({}, async () => { throw new Error('link closed'); });
	ws.emit('TAG:1', answer(person('1555@s.whatsapp.net', '9001@lid', devices)));
	await turn();
	assert.deepEqual(heard.map(lids), [['9001@lid']]);
});

/** One side of a talk: what libsignal asks of its storage, in memory. Each record is read anew, as Baileys does. */
function makeSide(name) {
	const identity = keyhelper.generateIdentityKeyPair();
	const signed = keyhelper.generateSignedPreKey(identity, 1);
	const side = { name, identity, signed, stored: null };
	side.storage = {
		isTrustedIdentity: () => true,
		getOurIdentity: () => identity,
		getOurRegistrationId: () => 7,
		loadSignedPreKey: () => signed.keyPair,
		loadPreKey: () => undefined,
		removePreKey: () => {},
		loadSession: () => side.stored && SessionRecord.deserialize(JSON.parse(side.stored)),
		storeSession: (_, record) => (side.stored = JSON.stringify(record.serialize()))
	};
	side.cipher = new SessionCipher(side.storage, new ProtocolAddress('peer', 0));
	side.write = async text => side.cipher.encrypt(Buffer.from(text));
	side.read = async ({ type, body }) => {
		const bytes = Buffer.from(body, 'binary');
		return String(await (type === 3 ? side.cipher.decryptPreKeyWhisperMessage(bytes) : side.cipher.decryptWhisperMessage(bytes)));
	};
	side.chains = () => Object.values(JSON.parse(side.stored)._sessions).map(({ _chains }) => Object.keys(_chains).length);
	return side;
}

/** Two sides after one message each way. */
async function makeTalk() {
	const [ours, theirs] = [makeSide('ours'), makeSide('theirs')];
	await new SessionBuilder(ours.storage, new ProtocolAddress('peer', 0)).initOutgoing({
		identityKey: theirs.identity.pubKey, registrationId: 7,
		signedPreKey: { keyId: 1, publicKey: theirs.signed.keyPair.pubKey, signature: theirs.signed.signature }
	});
	const exchange = async text => {
		assert.equal(await theirs.read(await ours.write(text)), text);
		assert.equal(await ours.read(await theirs.write(text)), text);
	};
	await exchange('hello');
	return { ours, theirs, exchange };
}

test('sessions: a long talk does not make the record grow', async () => {
	const { ours, theirs, exchange } = await makeTalk();
	for (let count = 0; count < 12; count += 1) {
		await exchange(`early ${count}`);
	}
	const size = ours.stored.length;
	for (let count = 0; count < 60; count += 1) {
		await exchange(`late ${count}`);
	}
	assert.deepEqual([ours.chains(), theirs.chains()], [[11], [11]]);
	// Counters and keys vary by a few characters.
	assert.ok(ours.stored.length < size * 1.05, `${size}, then ${ours.stored.length}`);
});

test('sessions: what is late by nine turns is read, what is later is not, and the talk goes on', async () => {
	const { ours, theirs, exchange } = await makeTalk();
	for (const [turns, readable] of [[9, true], [10, false]]) {
		const late = await theirs.write('late');
		for (let count = 0; count < turns; count += 1) {
			await exchange('in time');
		}
		const before = ours.stored;
		if (readable) {
			assert.equal(await ours.read(late), 'late');
		} else {
			await assert.rejects(ours.read(late));
			assert.equal(ours.stored, before);
		}
		await exchange('after');
	}
});
