// What waits in the spool and cannot be read; run by test_parts.py.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import {
	appendFileSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync,
	writeFileSync
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { pathToFileURL } from 'node:url';

const load = name => import(pathToFileURL(join(process.env.ENGINE_DIRECTORY, name)).href);
const { Spool } = await load('spool.mjs');
const { MOST_BYTES, Segment } = await load('segment.mjs');
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

	/** What stayed of files in which something says nothing. */
	get damaged() {
		return this.files.filter(name => name.endsWith('.damaged')).map(name => join(this.path, name));
	}

	/** Writes so many messages, one after the other; `at`: where each begins. */
	async filled(count, key = null) {
		const spool = this.spool(key);
		const at = [];
		for (let index = 0; index < count; index += 1) {
			at.push(index ? statSync(this.log).size : 0);
			await spool.write(SEQ + index, message(`M${index}`));
		}
		return { path: this.log, bytes: readFileSync(this.log), at };
	}

	/** What an opening finds. */
	async keys(key = null) {
		return (await this.load(key)).map(({ entry }) => entry.key);
	}

	/** The only file. */
	get log() {
		const [name, ...more] = this.files;
		assert.deepEqual(more, []);
		return join(this.path, name);
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
		const bytes = readFileSync(folder.log);
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

test('spool: damage of any byte is seen, nothing is thrown, and nothing is deleted', async () => {
	for (const key of [ONE, null]) {
		const folder = new Folder();
		await folder.spool(key).write(SEQ, message('M1'));
		const path = folder.log;
		const whole = readFileSync(path);
		const damaged = [...whole.keys()].map(at => whole.map((byte, index) => (index === at ? byte ^ 1 : byte)));
		const cut = [1, 2, 5, 20, whole.length - 1].map(length => whole.subarray(0, length));
		for (const bytes of [...damaged, ...cut, randomBytes(80)]) {
			folder.reported.length = 0;
			writeFileSync(path, bytes);
			const entries = await folder.load(key);
			assert.ok(entries.length <= 1);
			entries.forEach(({ entry }) => assert.deepEqual([entry.plaintext, entry.envelope.chat], [null, '']));
			entries.forEach(({ entry }) => assert.ok(entry.envelope.message_id));
			if (entries.length === 0) {
				assert.equal(folder.reported.length, 1);
				assert.deepEqual(folder.damaged.map(copy => readFileSync(copy)), [Buffer.from(bytes)]);
			}
			folder.damaged.forEach(copy => rmSync(copy));
		}
		writeFileSync(path, whole);
		assert.equal((await folder.load(key))[0].entry.key, 'M1');
	}
});

test('spool: what was damaged is told as missing once, and kept', async () => {
	const folder = new Folder();
	await folder.spool(null).write(SEQ, message('M1'));
	const path = folder.log;
	const bytes = readFileSync(path);
	writeFileSync(path, bytes.with(bytes.indexOf('text of M1'), 0x54));
	const { told, missed } = await folder.replay(null);
	assert.deepEqual([told, missed.map(({ id }) => id)], [[], [`spool:${SEQ}`]]);
	assert.deepEqual(folder.files, [`${SEQ}.untellable`]);
	assert.deepEqual(await folder.replay(null), { told: [], missed: [], logged: [] });
});

test('spool: of a file that ends too early, what comes before is told', async () => {
	const folder = new Folder();
	const spool = folder.spool(ONE);
	await spool.write(SEQ, message('M1'));
	const first = statSync(folder.log).size;
	await spool.write(SEQ + 1, message('M2'));
	const path = folder.log;
	const whole = readFileSync(path);
	for (const length of [first + 1, first + 12, whole.length - 1]) {
		for (const bytes of [whole.subarray(0, length), Buffer.concat([whole.subarray(0, first), Buffer.alloc(length)])]) {
			writeFileSync(path, bytes);
			const again = folder.spool(ONE);
			const entries = await again.load(() => {});
			assert.deepEqual(entries.map(({ entry }) => entry.key), ['M1']);
			await again.remove(SEQ);
			assert.deepEqual(folder.files.filter(name => !name.endsWith('.damaged')), []);
			folder.files.forEach(name => rmSync(join(folder.path, name)));
		}
	}
});

test('spool: of a file in which any byte is damaged, every other message is told, and none vanishes', async () => {
	const folder = new Folder();
	const { path, bytes, at } = await folder.filled(3);
	for (const place of bytes.keys()) {
		const struck = at.findLastIndex(start => start <= place);
		for (const value of [bytes[place] ^ 1, bytes[place] ^ 0x80]) {
			writeFileSync(path, bytes.with(place, value));
			const keys = await folder.keys();
			const others = ['M0', 'M1', 'M2'].filter((_, index) => index !== struck);
			assert.deepEqual(keys.filter(key => key.startsWith('M')), others, `byte ${place}`);
			assert.ok(keys.length === 3 || folder.damaged.length === 1, `byte ${place}`);
			folder.damaged.forEach(copy => rmSync(copy));
		}
	}
});

test('spool: zeros that a loss of power left are no damage', async () => {
	const folder = new Folder();
	const { path } = await folder.filled(2);
	appendFileSync(path, Buffer.alloc(1_000_000));
	const again = folder.spool(null);
	assert.equal((await again.load(text => folder.reported.push(text))).length, 2);
	await again.remove(SEQ);
	assert.deepEqual([await folder.keys(), folder.damaged, folder.reported], [['M1'], [], []]);
});

test('spool: one copy of what is damaged takes no other copy\'s place, and the same damage makes no second one', async () => {
	const folder = new Folder();
	const { path, bytes } = await folder.filled(2);
	const tail = Buffer.from('no record at all');
	// The sequence of the first is none.
	writeFileSync(path, Buffer.concat([bytes.with(11, 1), tail]));
	for (let opening = 0; opening < 3; opening += 1) {
		assert.deepEqual(await folder.keys(), ['M1']);
	}
	const copies = folder.damaged.map(copy => readFileSync(copy));
	assert.deepEqual(copies.map(copy => copy.includes('text of M0')), [true, true]);
	assert.deepEqual(copies.map(copy => copy.includes(tail)).sort(), [false, true]);
});

test('spool: no name and no damage leads to sequences that are not exact', async () => {
	const folder = new Folder();
	const { path, bytes } = await folder.filled(1);
	bytes.writeBigUInt64LE(9_500_000_000_000_000n, 4);
	writeFileSync(path, bytes);
	writeFileSync(join(folder.path, '99999999999999999999.bak'), '');
	const spool = folder.spool(null);
	await spool.load(() => {});
	const [one, two] = [spool.nextSequence(), spool.nextSequence()];
	assert.ok(one < two && Number.isSafeInteger(two));
	assert.equal(String(one).length, 16);
});

test('spool: what is no file of ours does not keep a link from opening', async () => {
	const folder = new Folder();
	await folder.filled(1);
	mkdirSync(join(folder.path, `${SEQ + 1}.log`));
	mkdirSync(join(folder.path, `${SEQ + 2}`));
	assert.deepEqual(await folder.keys(), ['M0']);
	assert.equal(folder.reported.length, 2);
});

test('replay: what cannot be set aside is missed all the same, and waits where it is', async () => {
	const folder = new Folder();
	await folder.spool(ONE).write(SEQ, message('M0'));
	mkdirSync(join(folder.path, `${SEQ}.unreadable.part`));
	assert.deepEqual((await folder.replay(TWO)).missed.map(({ id }) => id), ['M0']);
	assert.deepEqual(folder.files, [`${SEQ}.log`, `${SEQ}.unreadable.part`]);
	assert.deepEqual((await folder.replay(ONE)).told, ['text of M0']);
});

test('spool: a folder that somebody removed is made again, and hinders no end', async () => {
	const folder = new Folder();
	const spool = folder.spool(null);
	await spool.write(SEQ, message('M0'));
	await spool.remove(SEQ);
	rmSync(folder.path, { recursive: true });
	await spool.write(SEQ + 1, message('M1'));
	assert.deepEqual(await folder.keys(), ['M1']);
	await spool.remove(SEQ + 1);
	rmSync(folder.path, { recursive: true });
	spool.close();
});

test('spool: a link that ended holds no file open, also when it ended while it looked', async () => {
	const folder = new Folder();
	await folder.filled(2);
	const before = readdirSync('/proc/self/fd').length;
	const ended = folder.spool(null);
	const loading = ended.load(() => {});
	ended.close();
	assert.deepEqual(await loading, []);
	const other = folder.spool(null);
	await other.load(() => {});
	await other.setAside(SEQ, 'foreign');
	other.close();
	assert.equal(readdirSync('/proc/self/fd').length, before);
	assert.deepEqual(folder.files, [`${SEQ}.foreign`, `${SEQ}.log`]);
	assert.deepEqual(await folder.keys(), ['M1']);
});

test('spool: what left is not told again, and nothing of it stays when none waits', async () => {
	const folder = new Folder();
	const spool = folder.spool(null);
	for (const id of [0, 1, 2]) {
		await spool.write(SEQ + id, message(`M${id}`));
	}
	await spool.remove(SEQ + 1);
	await spool.remove(SEQ + 1);
	const others = folder.spool(null);
	assert.deepEqual((await others.load(() => {})).map(({ entry }) => entry.key), ['M0', 'M2']);
	await spool.remove(SEQ + 2);
	await spool.remove(SEQ);
	assert.equal(statSync(folder.log).size, 0);
	await spool.write(SEQ + 3, message('M3'));
	assert.deepEqual((await folder.load(null)).map(({ entry }) => entry.key), ['M3']);
	await spool.remove(SEQ + 3);
	spool.close();
	assert.deepEqual(folder.files, []);
	await assert.rejects(spool.write(SEQ + 4, message('M4')), /link closed/);
});

test('spool: those that leave together are struck together, and what comes meanwhile stays', async () => {
	const folder = new Folder();
	const spool = folder.spool(null);
	for (const id of [0, 1, 2]) {
		await spool.write(SEQ + id, message(`M${id}`));
	}
	const full = statSync(folder.log).size;
	const gone = [spool.remove(SEQ), spool.remove(SEQ + 2)];
	assert.equal(statSync(folder.log).size, full);
	await Promise.all(gone);
	assert.deepEqual(await folder.keys(), ['M1']);
	const last = spool.remove(SEQ + 1);
	await spool.write(SEQ + 3, message('M3'));
	await last;
	assert.deepEqual(await folder.keys(), ['M3']);
	const ended = spool.remove(SEQ + 3);
	spool.close();
	await ended;
	assert.deepEqual(folder.files, []);
});

test('spool: a file that is full is followed by another, and goes when all in it left', async () => {
	const folder = new Folder();
	const spool = folder.spool(null);
	const long = { ...message('M'), plaintext: Buffer.alloc(MOST_BYTES / 4) };
	const all = [0, 1, 2, 3, 4, 5].map(index => SEQ + index);
	for (const seq of all) {
		await spool.write(seq, long);
	}
	assert.deepEqual(folder.files, [`${SEQ}.log`, `${SEQ + 4}.log`]);
	assert.deepEqual((await folder.load(null)).map(({ seq }) => seq), all);
	for (const seq of all.slice(0, 4)) {
		await spool.remove(seq);
	}
	assert.deepEqual(folder.files, [`${SEQ + 4}.log`]);
	spool.close();
	assert.deepEqual((await folder.load(null)).map(({ seq }) => seq), all.slice(4));
});

test('spool: a write that fails leaves nothing, and the next one is whole', async () => {
	const full = new Segment('/dev/full', openSync('/dev/full', 'r+'));
	assert.throws(() => full.append(SEQ, Buffer.from('x')), { code: 'ENOSPC' });
	assert.deepEqual([full.size, full.waiting.size], [0, 0]);
});

test('spool: a file of an earlier version is read', async () => {
	const folder = new Folder();
	const spool = folder.spool(ONE);
	await spool.write(SEQ + 1, message('M2'));
	writeFileSync(join(folder.path, String(SEQ)), spool.seal(String(SEQ), message('M1')));
	const again = folder.spool(ONE);
	assert.deepEqual((await again.load(() => {})).map(({ entry }) => entry.key), ['M1', 'M2']);
	await again.remove(SEQ);
	await again.remove(SEQ + 1);
	assert.deepEqual(folder.files, []);
});

test('spool: a file of another name or instance is not taken for this one', async () => {
	const folder = new Folder();
	const other = new Folder();
	await folder.spool(ONE).write(SEQ + 1, message('M1'));
	await other.spool(ONE).write(SEQ, message('M2'));
	renameSync(folder.log, join(other.path, `${SEQ + 1}.log`));
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
	assert.deepEqual(folder.files, [`${SEQ}.unreadable`, `${SEQ + 1}.log`, `${SEQ + 2}.unreadable`]);
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
