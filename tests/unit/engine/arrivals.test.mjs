// From a stanza to what is kept and told; run by test_parts.py.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';

const directory = process.env.ENGINE_DIRECTORY;
const load = name => import(pathToFileURL(join(directory, name)).href);
const { envelopeOf } = await load('addresses.mjs');
const { Backlog } = await load('backlog.mjs');
const { GroupKeys } = await load('group_keys.mjs');
const { Inbound } = await load('inbound.mjs');
const { Mappings } = await load('mappings.mjs');
const { decodePlaintext } = await load('reading.mjs');
const require = createRequire(join(directory, 'x.js'));
const { MISSING_KEYS_ERROR_TEXT, decodeMessageNode, proto } = await import(pathToFileURL(require.resolve('baileys')).href);

const me = { id: '1555:3@s.whatsapp.net', lid: '777:3@lid' };
const PEER = { from: '1666:7@s.whatsapp.net', sender_lid: '888@lid' };
const USED = new Error(MISSING_KEYS_ERROR_TEXT);
const PADDING = Buffer.of(1);
const plain = message => Buffer.concat([proto.Message.encode(proto.Message.fromObject(message)).finish(), PADDING]);

/** An inbound side with a spool in memory; `lids` are the account's stored mappings. */
function scene({ statuses = false, spooled = [], lids = {}, answered = async () => {} } = {}) {
	const files = new Map(spooled.map((entry, index) => [index + 1, entry]));
	const aside = [];
	const told = [];
	const missed = [];
	let sequence = 100;
	const keys = { get: async (kind, ids) => Object.fromEntries(ids.filter(id => lids[id]).map(id => [id, lids[id]])) };
	const inbound = new Inbound({
		stored: async () => {},
		answered,
		spool: {
			nextSequence: () => (sequence += 1),
			write: async (seq, entry) => void files.set(seq, entry),
			remove: async seq => void files.delete(seq),
			setAside: async (seq, why) => void (files.delete(seq), aside.push([seq, why])),
			load: async () => [...files].map(([seq, entry]) => ({ seq, entry }))
		},
		keys,
		statuses,
		me: () => me,
		report: (seq, body) => told.push({ seq, ...body }),
		miss: news => missed.push(news),
		pollOf: async () => null,
		onSpoolFailure: () => assert.fail('spool'),
		log: () => {},
		backlog: new Backlog(() => 0)
	});
	return { inbound, files, aside, told, missed, keys };
}

/** A stanza with that many ciphertexts. */
function stanza(attrs, parts = 1) {
	const content = Array.from({ length: parts }, () => ({ tag: 'enc', attrs: { type: 'msg' }, content: Buffer.of(1, 2, 3) }));
	return { tag: 'message', attrs: { id: 'M1', t: '1763715150', ...attrs }, content };
}

/** What repository.mjs does with each ciphertext: `steps` are messages, or errors of the decryption. @returns plaintexts, or null */
async function take({ inbound, keys }, node, ...steps) {
	inbound.note(node);
	const results = [];
	for (const [index, step] of steps.entries()) {
		const arrival = await inbound.arrivalOf(node.content[index].content, keys);
		if (step instanceof Error) {
			results.push(inbound.knownPlaintext(arrival, step));
		} else {
			const plaintext = plain(step);
			const kept = await inbound.keep(arrival, plaintext, decodePlaintext(plaintext));
			inbound.committed(arrival, kept);
			results.push(plaintext);
		}
	}
	return results;
}

const texts = told => told.map(({ text }) => text);

// --- where it came from ---------------------------------------------------------------------------------------------

const OWN = { sender: '1555@s.whatsapp.net', sender_phone: '1555', sender_lid: '777', from_me: true };
/** stanza, stored mappings, envelope */
const ENVELOPES = {
	'by number': [
		{ from: '1666:7@s.whatsapp.net', sender_lid: '888@lid' }, {},
		{ chat: '1666@s.whatsapp.net', sender: '1666@s.whatsapp.net', sender_phone: '1666', sender_lid: '888', chat_phone: '1666', chat_lid: '888' }
	],
	'by LID': [
		{ from: '888:7@lid', sender_pn: '1666@s.whatsapp.net' }, {},
		{ chat: '888@lid', sender: '888@lid', sender_phone: '1666', sender_lid: '888', chat_phone: '1666', chat_lid: '888' }
	],
	'by LID, the number is known to the account': [
		{ from: '888@lid' }, { '888_reverse': '1666' },
		{ chat: '888@lid', sender: '888@lid', sender_phone: '1666', sender_lid: '888', chat_phone: '1666', chat_lid: '888' }
	],
	'by LID, the number is hidden': [
		{ from: '888@lid' }, {},
		{ chat: '888@lid', sender: '888@lid', sender_phone: null, sender_lid: '888', chat_phone: null, chat_lid: '888' }
	],
	'from the own phone, by number': [
		{ from: '1555@s.whatsapp.net', recipient: '1666@s.whatsapp.net', peer_recipient_lid: '888@lid' }, {},
		{ chat: '1666@s.whatsapp.net', chat_phone: '1666', chat_lid: '888', ...OWN }
	],
	'from the own phone, by LID': [
		{ from: '777@lid', recipient: '888@lid', peer_recipient_pn: '1666@s.whatsapp.net' }, {},
		{ chat: '888@lid', chat_phone: '1666', chat_lid: '888', ...OWN, sender: '777@lid' }
	],
	'from the own phone, in the older words': [
		{ from: '777@lid', recipient: '888@lid', recipient_pn: '1666@s.whatsapp.net' }, {},
		{ chat: '888@lid', chat_phone: '1666', chat_lid: '888', ...OWN, sender: '777@lid' }
	],
	'from the own phone, known to the account': [
		{ from: '777@lid', recipient: '888@lid' }, { '888_reverse': '1666' },
		{ chat: '888@lid', chat_phone: '1666', chat_lid: '888', ...OWN, sender: '777@lid' }
	],
	'to oneself': [
		{ from: '1555@s.whatsapp.net', recipient: '1555@s.whatsapp.net' }, {},
		{ chat: '1555@s.whatsapp.net', chat_phone: '1555', chat_lid: '777', ...OWN }
	],
	'in a group by LID': [
		{ from: '1-2@g.us', participant: '888:7@lid', participant_pn: '1666@s.whatsapp.net' }, {},
		{ chat: '1-2@g.us', sender: '888@lid', sender_phone: '1666', sender_lid: '888', chat_phone: null, chat_lid: null }
	],
	'in a group by number': [
		{ from: '1-2@g.us', participant: '1666:7@s.whatsapp.net', participant_lid: '888@lid' }, {},
		{ chat: '1-2@g.us', sender: '1666@s.whatsapp.net', sender_phone: '1666', sender_lid: '888', chat_phone: null, chat_lid: null }
	],
	'on the status list': [
		{ from: 'status@broadcast', participant: '888@lid', participant_pn: '1666@s.whatsapp.net' }, {},
		{ chat: 'status@broadcast', sender: '888@lid', sender_phone: '1666', sender_lid: '888', chat_phone: null, chat_lid: null }
	],
	'from a hosted account': [
		{ from: '1666:99@hosted' }, { 1666: '888' },
		{ chat: '1666@hosted', sender: '1666@hosted', sender_phone: '1666', sender_lid: '888', chat_phone: '1666', chat_lid: '888' }
	]
};

for (const [name, [attrs, lids, expected]] of Object.entries(ENVELOPES)) {
	test(`envelope: ${name}`, async () => {
		const node = stanza({ ...attrs, notify: 'Ada' });
		const { fullMessage, author } = decodeMessageNode(node, me.id, me.lid);
		const found = await envelopeOf(fullMessage, author, node.attrs, me, scene({ lids }).keys);
		assert.deepEqual(found, { message_id: 'M1', from_me: false, push_name: 'Ada', timestamp: 1763715150, ...expected });
	});
}

test('mappings: told once, whichever way round they come, and again when they change', () => {
	const told = [];
	const mappings = new Mappings({ me: () => me, tell: person => told.push(person) });
	mappings.note([{ lid: '888:3@lid', pn: '1666@s.whatsapp.net' }]);
	mappings.note([{ lid: '1666@s.whatsapp.net', pn: '888@lid' }, { lid: 'nonsense', pn: '1@s.whatsapp.net' }]);
	mappings.note([{ lid: '889@lid', pn: '1666@s.whatsapp.net' }]);
	// The account itself is nobody's contact.
	mappings.note([{ lid: '777@lid', pn: '1555:3@s.whatsapp.net' }]);
	assert.deepEqual(told, [{ phone: '1666', lid: '888' }, { phone: '1666', lid: '889' }]);
});

// --- what is kept and told ----------------------------------------------------------------------------------------------

test('arrivals: kept before it is told, dropped when it is stored, and the second copy is known', async () => {
	const all = scene();
	await take(all, stanza(PEER), { conversation: 'hi' });
	assert.deepEqual([texts(all.told), [...all.files.keys()], all.inbound.latest], [['hi'], [101], 'M1']);
	assert.deepEqual(all.files.get(101).me, { phone: '1555', lid: '777' });
	const [again] = await take(all, stanza(PEER), USED);
	assert.equal(decodePlaintext(again).conversation, 'hi');
	await all.inbound.acknowledged([101]);
	assert.equal(all.files.size, 0);
	const [later] = await take(all, stanza(PEER), USED);
	assert.deepEqual([...later], [1]);
	// Its sender encrypted it anew: the same message.
	await take(all, stanza(PEER), { conversation: 'hi' });
	assert.deepEqual([texts(all.told), all.missed, all.files.size], [['hi'], [], 0]);
});

test('arrivals: those of one commit are dropped together, when their receipts have left', async () => {
	let receiptsLeft = async () => assert.fail('link closed');
	const all = scene({ answered: () => receiptsLeft() });
	await take(all, stanza({ ...PEER, id: 'M0' }), { conversation: 'stays' });
	await all.inbound.acknowledged([101]);
	const { promise, resolve } = Promise.withResolvers();
	receiptsLeft = () => promise;
	await take(all, stanza({ ...PEER, id: 'M1' }), { conversation: '1' });
	await take(all, stanza({ ...PEER, id: 'M2' }), { conversation: '2' });
	const dropped = all.inbound.acknowledged([102, 103, 999]);
	assert.deepEqual([...all.files.keys()], [101, 102, 103]);
	resolve();
	await dropped;
	assert.deepEqual([...all.files.keys()], [101]);
});

test('arrivals: what cannot be read is told once, and is no gap any more when it comes', async () => {
	const all = scene();
	for (const error of [new Error('bad mac'), USED]) {
		assert.deepEqual(await take(all, stanza(PEER), error), [null]);
	}
	await take(all, stanza({ ...PEER, id: 'M2' }), USED);
	const where = { chat: '1666@s.whatsapp.net', sender: '1666@s.whatsapp.net', at: 1763715150 };
	assert.deepEqual(all.missed, [{ id: 'M1', ...where, why: 'undecryptable' }, { id: 'M2', ...where, why: 'key_used' }]);
	await take(all, stanza(PEER), { conversation: 'at last' });
	assert.deepEqual([texts(all.told), all.missed.length], [['at last'], 2]);
});

test('arrivals: a message whose text WhatsApp did not keep for us', async () => {
	const all = scene();
	const without = (id, type, attrs = PEER) => ({
		tag: 'message', attrs: { t: '5', id, ...attrs }, content: [{ tag: 'unavailable', attrs: type ? { type } : {} }]
	});
	const foreign = { tag: 'message', attrs: { ...PEER, t: '5', id: 'X' }, content: [{ tag: 'plaintext', attrs: {}, content: Buffer.of(0) }] };
	for (const node of [
		without('M1'), without('M1'), without('M2', 'view_once'), without('M3', 'hosted_unavailable_fanout'), foreign,
		without('M4', undefined, { from: 'status@broadcast', participant: '888@lid' })
	]) {
		all.inbound.note(node);
	}
	await new Promise(setImmediate);
	assert.deepEqual(all.missed.map(({ id, why }) => [id, why]), [['M1', 'nobody_kept']]);
	await take(all, stanza(OWN_PHONE), resent(infoOf('M1')));
	assert.deepEqual(texts(all.told), ['M1']);
});

test('arrivals: no gap where nothing would be told', async () => {
	const all = scene();
	await take(all, stanza({ from: 'status@broadcast', participant: '888@lid' }), new Error('bad mac'));
	await take(all, stanza({ from: '1555@s.whatsapp.net', category: 'peer' }), new Error('bad mac'));
	await take(all, stanza({ from: 'status@broadcast', participant: '888@lid' }), { conversation: 'my day' });
	await take(all, stanza({ from: '1555@s.whatsapp.net', category: 'peer' }), { conversation: 'between devices' });
	assert.deepEqual([all.told, all.missed, all.files.size], [[], [], 0]);
	const curious = scene({ statuses: true });
	await take(curious, stanza({ from: 'status@broadcast', participant: '888@lid' }), { conversation: 'my day' });
	await take(curious, stanza({ from: 'status@broadcast', participant: '888@lid', id: 'M2' }), new Error('bad mac'));
	assert.deepEqual([texts(curious.told), curious.missed.length], [['my day'], 1]);
});

const GROUP = { from: '1-2@g.us', participant: '888@lid' };
const KEY = { senderKeyDistributionMessage: { groupId: '1-2@g.us', axolotlSenderKeyDistributionMessage: Buffer.of(9) } };

test('arrivals: in a group the message counts, not the key that came before it', async () => {
	const all = scene();
	await take(all, stanza(GROUP, 2), KEY, new Error('no session'));
	assert.deepEqual([texts(all.told), all.missed.map(({ why }) => why)], [[], ['undecryptable']]);
	const other = scene();
	// A crash after the step that took the key: it is used, and the message can be read.
	const [key] = await take(other, stanza(GROUP, 2), USED, { conversation: 'hi' });
	assert.deepEqual([[...key], texts(other.told), other.missed], [[1], ['hi'], []]);
	const lost = scene();
	assert.deepEqual((await take(lost, stanza(GROUP, 2), USED, USED)).map(Boolean), [true, false]);
	assert.equal(lost.missed.length, 1);
});

test('arrivals: the key of a group is taken in the step that read it, and once', async () => {
	const taken = [];
	const keys = new GroupKeys({ processSenderKeyDistributionMessage: async options => void taken.push(options.authorJid) });
	const item = proto.Message.fromObject(KEY).senderKeyDistributionMessage;
	await keys.take(proto.Message.fromObject(KEY), '888:1@lid');
	await keys.process({ authorJid: '888:1@lid', item });
	assert.deepEqual(taken, ['888:1@lid']);
	await keys.process({ authorJid: '888:2@lid', item });
	await keys.process({ authorJid: '888:1@lid', item });
	assert.equal(taken.length, 3);
	await keys.take(null, '888:1@lid');
	await keys.take(proto.Message.fromObject({ conversation: 'hi' }), '888:1@lid');
	assert.equal(taken.length, 3);
});

test('arrivals: a key that is none does not take its message along', async () => {
	const keys = new GroupKeys({
		processSenderKeyDistributionMessage: async () => {
			throw new Error('no key');
		}
	});
	await keys.take(proto.Message.fromObject(KEY), '888:1@lid');
	await assert.rejects(keys.process({ authorJid: '888:1@lid', item: proto.Message.fromObject(KEY).senderKeyDistributionMessage }));
});

/** What our phone answers when it was asked for messages. */
const resent = (...infos) => ({
	protocolMessage: {
		type: 17,
		peerDataOperationRequestResponseMessage: {
			peerDataOperationRequestType: 4,
			peerDataOperationResult: infos.map(info => ({
				placeholderMessageResendResponse: info && { webMessageInfoBytes: info instanceof Buffer ? info : proto.WebMessageInfo.encode(info).finish() }
			}))
		}
	}
});
const infoOf = (id, more = {}) => ({ key: { id, remoteJid: '1666@s.whatsapp.net', fromMe: false }, message: { conversation: id }, messageTimestamp: 1763715000, ...more });
const OWN_PHONE = { from: '1555@s.whatsapp.net', category: 'peer', id: 'R1' };

test('arrivals: what the own phone sends again is the message that could not be read', async () => {
	const all = scene();
	await take(all, stanza({ from: '888@lid', sender_pn: '1666@s.whatsapp.net', notify: 'Ada' }), new Error('bad mac'));
	await take(all, stanza(OWN_PHONE), resent(infoOf('M1'), undefined, Buffer.of(255), infoOf('M9', { pushName: 'Grace' })));
	assert.deepEqual(all.told.map(({ message_id: id, chat, push_name: name, text, timestamp }) => [id, chat, name, text, timestamp]), [
		['M1', '888@lid', 'Ada', 'M1', 1763715000],
		['M9', '1666@s.whatsapp.net', 'Grace', 'M9', 1763715000]
	]);
	assert.equal(all.files.size, 2);
	// Its sender answers as well, and the phone once more; before and after it is stored.
	for (const step of ['waiting', 'stored']) {
		await take(all, stanza({ from: '888@lid', sender_pn: '1666@s.whatsapp.net' }), { conversation: 'M1' });
		await take(all, stanza({ ...OWN_PHONE, id: step }), resent(infoOf('M9')));
		assert.equal(all.told.length, 2, step);
		await all.inbound.acknowledged([101, 102]);
	}
});

test('arrivals: in a group, and what the account wrote itself', async () => {
	const all = scene({ lids: { '888_reverse': '1666' } });
	const inGroup = infoOf('M1', { key: { id: 'M1', remoteJid: '1-2@g.us', participant: '888@lid' } });
	const own = infoOf('M2', { key: { id: 'M2', remoteJid: '1666@s.whatsapp.net', fromMe: true } });
	await take(all, stanza(OWN_PHONE), resent(inGroup, own));
	assert.deepEqual(all.told.map(({ chat, sender, sender_phone: phone, from_me: mine }) => [chat, sender, phone, mine]), [
		['1-2@g.us', '888@lid', '1666', false],
		['1666@s.whatsapp.net', '1555@s.whatsapp.net', '1555', true]
	]);
});

test('arrivals: nobody but the own devices can send a message in the name of others', async () => {
	const all = scene();
	for (const attrs of [{ ...PEER, category: 'peer' }, PEER, { from: '1-2@g.us', participant: '888@lid', category: 'peer' }]) {
		await take(all, stanza({ ...attrs, id: 'X' }), resent(infoOf('M1')));
	}
	await take(all, stanza({ from: '1555@s.whatsapp.net', id: 'Y' }), resent(infoOf('M1')));
	assert.deepEqual([all.told, all.files.size], [[], 0]);
});

test('arrivals: a failed step takes back what it wrote', async () => {
	const all = scene();
	const node = stanza(PEER);
	all.inbound.note(node);
	const arrival = await all.inbound.arrivalOf(node.content[0].content, all.keys);
	const kept = await all.inbound.keep(arrival, plain({ conversation: 'hi' }), decodePlaintext(plain({ conversation: 'hi' })));
	assert.equal(all.files.size, 1);
	await all.inbound.discard(kept);
	assert.equal(all.files.size, 0);
});

test('arrivals: what an earlier link left is told, what another account left is not', async () => {
	const envelope = { message_id: 'M1', chat: '1666@s.whatsapp.net', sender: '1666@s.whatsapp.net', timestamp: 5, from_me: false };
	const entry = (text, then) => ({ key: text, envelope: { ...envelope, message_id: text }, plaintext: plain({ conversation: text }), me: then });
	const call = { type: 'call', message_id: 'C1', chat: 'c', sender: 's', timestamp: 6, details: {} };
	const all = scene({
		spooled: [
			entry('same', { phone: '1555', lid: '777' }),
			entry('of a version that noted nobody', undefined),
			entry('same with a new number', { phone: '1999', lid: '777' }),
			entry('another', { phone: '1999', lid: '999' }),
			{ key: 'notice', me: { phone: '1999', lid: null }, body: call },
			{ key: 'notice', me: { phone: '1555', lid: null }, body: { ...call, message_id: 'C2' } }
		]
	});
	await all.inbound.replay();
	assert.deepEqual(all.told.map(({ text, message_id: id }) => text ?? id), ['same', 'of a version that noted nobody', 'same with a new number', 'C2']);
	assert.deepEqual(all.aside, [[4, 'foreign'], [5, 'foreign']]);
	assert.deepEqual(all.missed.map(({ id, why }) => [id, why]), [['another', 'other_account']]);
});

test('arrivals: what comes out of the offline queue is counted as it came', () => {
	const { inbound } = scene();
	assert.deepEqual([inbound.offline.announced, inbound.offline.received], [null, 0]);
	inbound.offline.announce({ message: '2' });
	inbound.note(stanza({ ...PEER, offline: '0' }));
	inbound.note(stanza({ ...PEER, id: 'M2', offline: '1' }));
	inbound.note(stanza({ ...PEER, id: 'M3' }));
	assert.deepEqual([inbound.offline.announced, inbound.offline.received], [2, 2]);
	inbound.offline.announce({});
	assert.equal(inbound.offline.announced, null);
});

test('of a message beyond measure only where it came from is told', async () => {
	const here = scene();
	await take(here, stanza(PEER), { conversation: '\u0001'.repeat(1_000_000) });
	const [{ type, text, raw, sender_phone: phone }] = here.told;
	assert.deepEqual([type, text, raw, phone], ['other', null, null, '1666']);
});

test('one that cannot be told keeps no link from opening, and is missed', async () => {
	const envelope = { message_id: 'M1', chat: 'c', sender: 's', timestamp: 1 };
	const good = { ...envelope, message_id: 'M2' };
	const here = scene({
		spooled: [
			{ key: 'a', me: {}, envelope, plaintext: Buffer.of(0x0a, 0xff, 1) },
			{ key: 'b', me: {}, envelope: good, plaintext: plain({ conversation: 'hi' }) }
		]
	});
	await here.inbound.replay();
	assert.deepEqual(texts(here.told), ['hi']);
	assert.deepEqual(here.aside, [[1, 'unreadable']]);
	assert.deepEqual(here.missed.map(({ id, why }) => [id, why]), [['M1', 'undecryptable']]);
});
