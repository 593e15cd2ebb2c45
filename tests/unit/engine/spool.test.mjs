// What waits in the spool and cannot be read; run by test_parts.py.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { pathToFileURL } from 'node:url';

const load = name => import(pathToFileURL(join(process.env.ENGINE_DIRECTORY, name)).href);
const { Spool } = await load('spool.mjs');
const { Inbound } = await load('inbound.mjs');

const root = mkdtempSync(join(tmpdir(), 'spool-'));
after(() => rmSync(root, { recursive: true }));

const ONE = Buffer.alloc(32, 1);
const TWO = Buffer.alloc(32, 2);
/** Microseconds. */
const SEQ = 1_700_000_000_000_000;
const ME = { phone: '1555', lid: null };
/** A text as it is decrypted: with its padding. */
const plain = text => Buffer.concat([Buffer.of(0x0a, text.length), Buffer.from(text), Buffer.of(1)]);
const envelope = id => ({ message_id: id, chat: '1666@s.whatsapp.net', sender: '1666@s.whatsapp.net', timestamp: 5, from_me: false });
const message = id => ({ key: id, me: ME, envelope: envelope(id), plaintext: plain(`text of ${id}`) });
const nowhere = { envelope: { chat: '', sender: '', timestamp: SEQ / 1_000_000 }, key: null, plaintext: null, encrypted: true };

let instances = 0;
/** One instance's folder, opened with several keys. */
class Folder {
	constructor() {
		this.instance = `shop-${(instances += 1)}`;
		this.path = join(root, this.instance);
		this.reported = [];
	}

	spool(key) {
		return new Spool(root, this.instance, key, false);
	}

	async load(key) {
		return this.spool(key).load(text => this.reported.push(text));
	}

	get files() {
		return readdirSync(this.path).sort();
	}

	/** What a link tells that opens with this key. */
	async replay(key) {
		const found = { told: [], missed: [], logged: [] };
		const inbound = new Inbound({
			spool: this.spool(key),
			keys: { get: async () => ({}) },
			statuses: false,
			me: () => ({ id: '1555:3@s.whatsapp.net' }),
			report: (seq, body) => found.told.push(body.text ?? body.type),
			learn: () => {},
			miss: news => found.missed.push(news),
			pollOf: async () => null,
			onSpoolFailure: () => assert.fail('spool'),
			log: text => found.logged.push(text),
			backlog: { has: () => false, note: () => {}, reporting: () => undefined }
		});
		await inbound.replay();
		await new Promise(resolve => inbound.reports.after(resolve));
		return found;
	}
}

test('spool: it is read back with its key, in order, and the text stands nowhere', async () => {
	for (const key of [null, ONE]) {
		const folder = new Folder();
		const spool = folder.spool(key);
		await spool.write(SEQ + 1, message('M2'));
		await spool.write(SEQ, message('M1'));
		await spool.write(SEQ + 2, { key: 'n', me: ME, body: { type: 'call', message_id: 'C1' } });
		const bytes = readFileSync(join(folder.path, String(SEQ)));
		assert.equal(bytes.includes('text of M1'), key === null);
		assert.equal(bytes.includes('1666'), key === null);
		const entries = await folder.load(key);
		assert.deepEqual(entries.map(({ seq, entry }) => [seq, entry.key]), [[SEQ, 'M1'], [SEQ + 1, 'M2'], [SEQ + 2, 'n']]);
		assert.deepEqual(Buffer.from(entries[0].entry.plaintext), plain('text of M1'));
		assert.deepEqual(folder.reported, []);
	}
});

test('spool: with another key, or none, what is missing has a name', async () => {
	for (const key of [TWO, null]) {
		const folder = new Folder();
		await folder.spool(ONE).write(SEQ, message('M1'));
		await folder.spool(ONE).write(SEQ + 1, { key: 'n', me: ME, body: { type: 'call', message_id: 'C1' } });
		await folder.spool(ONE).write(SEQ + 2, message('X'.repeat(256)));
		const entries = (await folder.load(key)).map(({ entry }) => entry);
		assert.deepEqual(entries.map(entry => entry.envelope.message_id), ['M1', 'C1', `spool:${SEQ + 2}`]);
		for (const entry of entries) {
			assert.deepEqual({ ...entry, key: null, envelope: { ...entry.envelope, message_id: undefined } }, {
				...nowhere, envelope: { ...nowhere.envelope, message_id: undefined }
			});
		}
		assert.equal(new Set(entries.map(entry => entry.key)).size, 3);
		assert.equal(folder.reported.length, key === null ? 1 : 0);
	}
});

test('spool: damage of any byte is seen, and nothing is thrown', async () => {
	const folder = new Folder();
	await folder.spool(ONE).write(SEQ, message('M1'));
	const path = join(folder.path, String(SEQ));
	const whole = readFileSync(path);
	const damaged = [...whole.keys()].map(at => whole.map((byte, index) => (index === at ? byte ^ 1 : byte)));
	const cut = [0, 1, 2, 5, 20, whole.length - 1].map(length => whole.subarray(0, length));
	for (const bytes of [...damaged, ...cut, randomBytes(80), Buffer.of(0, 0x2a), Buffer.of(0, 0xc0), Buffer.of(0, 0x80)]) {
		writeFileSync(path, bytes);
		const [{ seq, entry }] = await folder.load(ONE);
		assert.equal(seq, SEQ);
		assert.deepEqual([entry.plaintext, entry.envelope.chat], [null, '']);
		assert.ok(entry.envelope.message_id);
	}
	writeFileSync(path, whole);
	assert.equal((await folder.load(ONE))[0].entry.key, 'M1');
});

test('spool: a file of another name or instance is not taken for this one', async () => {
	const folder = new Folder();
	const other = new Folder();
	await folder.spool(ONE).write(SEQ, message('M1'));
	await other.spool(ONE).write(SEQ, message('M2'));
	renameSync(join(folder.path, String(SEQ)), join(other.path, String(SEQ + 1)));
	const entries = await other.load(ONE);
	assert.deepEqual(entries.map(({ entry }) => entry.plaintext === null), [false, true]);
});

test('replay: what cannot be read is missed and set aside; with its key it is told after all', async () => {
	const folder = new Folder();
	for (const [index, key] of [ONE, TWO, ONE].entries()) {
		await folder.spool(key).write(SEQ + index, message(`M${index}`));
	}
	const missed = { id: 'M0', chat: '', sender: '', why: 'undecryptable', at: SEQ / 1_000_000 };
	const first = await folder.replay(TWO);
	assert.deepEqual(first.told, ['text of M1']);
	assert.deepEqual(first.missed, [missed, { ...missed, id: 'M2' }]);
	assert.ok(first.logged.every(text => !/M\d|1666/.test(text)));
	assert.deepEqual(folder.files, [`${SEQ}.unreadable`, `${SEQ + 1}`, `${SEQ + 2}.unreadable`]);
	// The gateway may have died before it wrote that down: it hears of it again.
	assert.deepEqual((await folder.replay(TWO)).missed, first.missed);
	const back = await folder.replay(ONE);
	assert.deepEqual([back.told, back.missed.map(({ id }) => id)], [['text of M0', 'text of M2'], ['M1']]);
	assert.deepEqual(folder.files, [`${SEQ}`, `${SEQ + 1}.unreadable`, `${SEQ + 2}`]);
	await folder.spool(ONE).remove(SEQ);
	assert.deepEqual(folder.files, [`${SEQ + 1}.unreadable`, `${SEQ + 2}`]);
});

test('replay: what can be read and not told is not tried again', async () => {
	const folder = new Folder();
	await folder.spool(ONE).write(SEQ, { ...message('M1'), plaintext: Buffer.of(0x0a, 0xff, 1) });
	const first = await folder.replay(ONE);
	assert.deepEqual(first.missed.map(({ id, chat }) => [id, chat]), [['M1', '1666@s.whatsapp.net']]);
	assert.deepEqual(folder.files, [`${SEQ}.untellable`]);
	assert.deepEqual(await folder.replay(ONE), { told: [], missed: [], logged: [] });
});

test('spool: what was set aside long ago is told no more, and read all the same when its key is back', async t => {
	const folder = new Folder();
	await folder.spool(ONE).write(SEQ, message('M1'));
	await folder.replay(TWO);
	// The change time of a file cannot be set: the clock is moved instead.
	utimesSync(join(folder.path, `${SEQ}.unreadable`), 1, 1);
	t.mock.timers.enable({ apis: ['Date'], now: Date.now() + 86_300_000 });
	assert.deepEqual((await folder.replay(TWO)).missed.map(({ id }) => id), ['M1']);
	t.mock.timers.tick(200_000);
	assert.deepEqual(await folder.replay(TWO), { told: [], missed: [], logged: [] });
	assert.deepEqual((await folder.replay(ONE)).told, ['text of M1']);
});

test('spool: sequences go on after those that were set aside, also with a clock that was set back', async () => {
	const folder = new Folder();
	const late = 9_000_000_000_000_000;
	await folder.spool(ONE).write(late, message('M1'));
	await folder.replay(TWO);
	const spool = folder.spool(TWO);
	await spool.load(() => {});
	assert.equal(spool.nextSequence(), late + 1);
});
