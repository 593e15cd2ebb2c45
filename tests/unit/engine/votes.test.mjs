// Votes, and the order in which things are told; run by test_parts.py.

import assert from 'node:assert/strict';
import { createCipheriv, createHash, hkdfSync } from 'node:crypto';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';

const directory = process.env.ENGINE_DIRECTORY;
const load = name => import(pathToFileURL(join(directory, name)).href);
const { pollKeyOf, readVote } = await load('polls.mjs');
const { Reports } = await load('reports.mjs');
const require = createRequire(join(directory, 'x.js'));
const { proto } = await import(pathToFileURL(require.resolve('baileys')).href);

/** Some turns of the event loop: all that is ready has run. */
const turn = async () => {
	for (let count = 0; count < 4; count += 1) {
		await new Promise(setImmediate);
	}
};

/** A vote as a phone encrypts it (source: whatsmeow msgsecret.go), independent of Baileys. */
function voteOf(names, { id, secret, creator, voter }) {
	const key = Buffer.from(hkdfSync('sha256', secret, Buffer.alloc(0), `${id}${creator}${voter}Poll Vote`, 32));
	const iv = Buffer.alloc(12, 5);
	const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(Buffer.from(`${id}\0${voter}`));
	const hashes = names.map(name => createHash('sha256').update(name).digest());
	const plain = proto.Message.PollVoteMessage.encode({ selectedOptions: hashes }).finish();
	const encPayload = Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
	return { pollCreationMessageKey: { id, fromMe: false }, vote: { encPayload, encIv: iv } };
}

const secret = Buffer.alloc(32, 9);
const me = { id: '1555:3@s.whatsapp.net', lid: '777:3@lid' };
const ours = ['1555@s.whatsapp.net', '777@lid'];
const theirs = ['1666@s.whatsapp.net', '888@lid'];
const poll = { options: ['a', 'ب', 'c'], secret, creators: ours };
const pollMessage = (given = secret) =>
	proto.Message.fromObject({
		messageContextInfo: { messageSecret: given },
		pollCreationMessage: { options: [{ optionName: 'a' }, { optionName: 'ب' }, { optionName: 'c' }] }
	});
const voteMessage = (names, of) => proto.Message.fromObject({ pollUpdateMessage: voteOf(names, of) });
const envelopeOf = (id, more = {}) => ({ message_id: id, sender: theirs[1], sender_phone: '1666', sender_lid: '888', from_me: false, ...more });

test('votes: every pair of addresses is read, options in the order of the poll', () => {
	for (const creator of ours) {
		for (const voter of theirs) {
			assert.deepEqual(readVote(voteOf(['c', 'ب'], { id: 'P1', secret, creator, voter }), poll, theirs), ['ب', 'c']);
			assert.deepEqual(readVote(voteOf([], { id: 'P1', secret, creator, voter }), poll, theirs), []);
		}
	}
});

test('votes: of somebody else, with another secret or without a vote are none', () => {
	const of = { id: 'P1', secret, creator: ours[0], voter: theirs[0] };
	assert.equal(readVote(voteOf(['a'], { ...of, voter: '1999@s.whatsapp.net' }), poll, theirs), null);
	assert.equal(readVote(voteOf(['a'], { ...of, secret: Buffer.alloc(32, 1) }), poll, theirs), null);
	assert.equal(readVote(voteOf(['a'], of), { ...poll, secret: Buffer.alloc(0) }, theirs), null);
	assert.equal(readVote({ pollCreationMessageKey: { id: 'P1' } }, poll, theirs), null);
});

test('votes: what reads them is in the poll, inside its wrappers or beside them', () => {
	const { pollCreationMessage, messageContextInfo } = pollMessage();
	const wrapped = proto.Message.fromObject({ ephemeralMessage: { message: { pollCreationMessage } }, messageContextInfo });
	const inside = proto.Message.fromObject({ ephemeralMessage: { message: { pollCreationMessage, messageContextInfo } } });
	for (const message of [pollMessage(), wrapped, inside]) {
		const { options, secret: found, creators } = pollKeyOf(message, ours);
		assert.deepEqual([options, Buffer.from(found), creators], [['a', 'ب', 'c'], secret, ours]);
	}
	assert.equal(pollKeyOf(proto.Message.fromObject({ pollCreationMessage }), ours), null);
	assert.equal(pollKeyOf(proto.Message.fromObject({ conversation: 'no poll', messageContextInfo }), ours), null);
});

function reporting(more = {}) {
	const told = [];
	const reports = new Reports({
		report: (seq, body) => told.push([seq, body.type, body.options]),
		pollOf: async () => null,
		expects: () => false,
		me: () => me,
		keys: { get: async () => ({}) },
		log: text => told.push(text),
		...more
	});
	return { reports, told };
}

test('reports: nothing overtakes a vote that is looked up, and the end of the queue waits for it', async () => {
	let found;
	const { reports, told } = reporting({ pollOf: () => new Promise(resolve => (found = resolve)) });
	const vote = voteMessage(['a'], { id: 'P1', secret, creator: ours[0], voter: theirs[0] });
	reports.add(1, envelopeOf('M1'), { conversation: 'before' });
	reports.add(2, envelopeOf('M2'), vote);
	reports.add(3, envelopeOf('M3'), { conversation: 'after' });
	reports.after(() => told.push('caught up'));
	await turn();
	assert.deepEqual(told, [[1, 'text', undefined]]);
	found({ options: poll.options, secret, creators: [] });
	await turn();
	assert.deepEqual(told, [[1, 'text', undefined], [2, 'vote', ['a']], [3, 'text', undefined], 'caught up']);
	reports.add(4, envelopeOf('M4'), { conversation: 'at once' });
	assert.deepEqual(told.at(-1), [4, 'text', undefined]);
});

test('reports: a vote that cannot be read names its poll all the same, and says that it could not', async () => {
	const bodies = [];
	const { reports } = reporting({ report: (seq, body) => bodies.push(body), pollOf: async () => ({ options: [], secret, creators: [] }) });
	reports.add(1, envelopeOf('M1'), voteMessage(['a'], { id: 'P1', secret: Buffer.alloc(32, 1), creator: ours[0], voter: theirs[0] }));
	reports.add(2, envelopeOf('M2'), proto.Message.fromObject({ pollUpdateMessage: {} }));
	await turn();
	assert.deepEqual(bodies.map(({ poll_id: id, target, options }) => [id, target, options]), [['P1', 'P1', null], [null, null, null]]);
});

test('reports: votes on a poll that was told a moment ago need nobody else', async () => {
	const { reports, told } = reporting({ pollOf: () => Promise.reject(new Error('link closed')) });
	const from = { id: 'P1', secret, creator: theirs[1], voter: '1999@s.whatsapp.net' };
	const mine = { id: 'P2', secret, creator: ours[1], voter: theirs[0] };
	reports.add(1, envelopeOf('P1'), pollMessage());
	reports.add(2, envelopeOf('V1', { sender: from.voter, sender_phone: '1999', sender_lid: null }), voteMessage(['c'], from));
	reports.add(3, envelopeOf('P2', { from_me: true, sender: ours[0] }), pollMessage());
	reports.add(4, envelopeOf('V2'), voteMessage(['a'], mine));
	await turn();
	assert.deepEqual(told, [[1, 'poll', undefined], [2, 'vote', ['c']], [3, 'poll', undefined], [4, 'vote', ['a']]]);
});

test("reports: a stranger's poll under the id of ours does not hide the votes on ours", async () => {
	const { reports, told } = reporting({ pollOf: async () => ({ options: poll.options, secret, creators: [] }) });
	reports.add(1, envelopeOf('P1'), pollMessage(Buffer.alloc(32, 1)));
	reports.add(2, envelopeOf('V1'), voteMessage(['a'], { id: 'P1', secret, creator: ours[0], voter: theirs[0] }));
	await turn();
	assert.deepEqual(told.at(-1), [2, 'vote', ['a']]);
});

test('reports: a vote waits for a poll that came and is not told yet; others go on', async () => {
	const { reports, told } = reporting({ expects: id => id === 'P1', patience: 60_000 });
	const of = { id: 'P1', secret, creator: theirs[0], voter: theirs[1] };
	let through = 0;
	reports.add(1, envelopeOf('V1'), voteMessage(['a'], of), () => (through += 1));
	reports.add(2, envelopeOf('V2'), voteMessage([], of), () => (through += 1));
	reports.add(3, envelopeOf('M1'), { conversation: 'meanwhile' });
	await turn();
	assert.deepEqual([told, through], [[[3, 'text', undefined]], 2]);
	reports.add(4, envelopeOf('P1'), pollMessage());
	await turn();
	assert.deepEqual(told.slice(1), [[4, 'poll', undefined], [1, 'vote', ['a']], [2, 'vote', []]]);
	reports.close();
});

test('reports: it does not wait for ever', async () => {
	const { reports, told } = reporting({ expects: () => true, patience: 1 });
	reports.add(1, envelopeOf('V1'), voteMessage(['a'], { id: 'P1', secret, creator: theirs[0], voter: theirs[1] }));
	while (told.length === 0) {
		await new Promise(setImmediate);
	}
	assert.deepEqual(told, [[1, 'vote', null]]);
});

test('reports: people whom a message names are looked up, and nothing overtakes it', async () => {
	const asked = [];
	let answer;
	const bodies = [];
	const { reports } = reporting({
		report: (seq, body) => bodies.push(body),
		keys: {
			get: (kind, ids) => {
				asked.push([kind, ids]);
				return new Promise(resolve => (answer = resolve));
			}
		}
	});
	const context = { stanzaId: 'Q', participant: '5@lid', mentionedJid: ['6@s.whatsapp.net', '777@lid', '888:2@lid', '5@lid'] };
	reports.add(1, envelopeOf('M1'), proto.Message.fromObject({ extendedTextMessage: { text: 'hi', contextInfo: context } }));
	reports.add(2, envelopeOf('M2'), { conversation: 'after' });
	await turn();
	assert.deepEqual([asked, bodies], [[['lid-mapping', ['5_reverse', '6']]], []]);
	answer({ '5_reverse': '1777' });
	await turn();
	assert.deepEqual(bodies[0].details, {
		quoted: { messageId: 'Q', from: '1777', fromLid: '5', type: null, text: null },
		mentions: ['6', '1555', '1666', '1777']
	});
	assert.equal(bodies[1].text, 'after');
});

test('reports: who is in the chat is not looked up', () => {
	const bodies = [];
	const { reports } = reporting({ report: (seq, body) => bodies.push(body), keys: { get: () => assert.fail('asked') } });
	const contextInfo = { stanzaId: 'Q', participant: '1666@s.whatsapp.net' };
	reports.add(1, envelopeOf('M1'), proto.Message.fromObject({ extendedTextMessage: { text: 'hi', contextInfo } }));
	assert.equal(bodies[0].details.quoted.fromLid, '888');
});

test('reports: half a surrogate pair and NUL, which a stranger may send, reach no frame', () => {
	const bodies = [];
	const { reports } = reporting({ report: (seq, body) => bodies.push(body) });
	const location = { degreesLatitude: 1, degreesLongitude: 2, name: 'x\ud800\0' };
	reports.add(1, envelopeOf('M1', { push_name: 'x\ud800' }), { locationMessage: location });
	assert.deepEqual([bodies[0].push_name, bodies[0].text, bodies[0].details.location.name], ['x\ufffd', 'x\ufffd\ufffd', 'x\ufffd\ufffd']);
	assert.equal(bodies[0].raw.includes('\0'), false);
});
