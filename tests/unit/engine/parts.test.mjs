// Parts of the side process on their own; run by test_parts.py.

import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { AsyncLocalStorage } from 'node:async_hooks';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';

const directory = process.env.ENGINE_DIRECTORY;
const load = name => import(pathToFileURL(join(directory, name)).href);
const { mask } = await load('silence.mjs');
await load('signal_queue.mjs');
const { KeyStore, encodeValue } = await load('keystore.mjs');
const { KeyedMutex } = await load('mutex.mjs');
const { Backlog } = await load('backlog.mjs');
const { Gate } = await load('gate.mjs');
const { Sends } = await load('sends.mjs');
const { Inbound } = await load('inbound.mjs');
const { OfflineQueue } = await load('offline_queue.mjs');
const { Term } = await load('term.mjs');
const require = createRequire(join(directory, 'x.js'));
const { BufferJSON } = await import(pathToFileURL(require.resolve('baileys')).href);

/** A gateway's key store whose writes are answered by hand. */
function slowStore(stored = {}) {
	const writes = [];
	const reads = [];
	const store = new KeyStore({
		read: async names => {
			reads.push(names);
			return names.filter(([kind, id]) => stored[`${kind}/${id}`]).map(([kind, id]) => [kind, id, stored[`${kind}/${id}`]]);
		},
		write: changes => new Promise((resolve, reject) => writes.push({ changes, resolve, reject })),
		onFailure: error => (store.failure = error)
	});
	return { store, writes, reads };
}
/** Some turns of the event loop: all that is ready has run. */
const turn = async () => {
	for (let count = 0; count < 4; count += 1) {
		await new Promise(setImmediate);
	}
};

test('keys: changes of one turn are one write, later ones wait for its answer, in order', async () => {
	const { store, writes } = slowStore();
	const done = [];
	store.set({ session: { a: { v: 1 } } }).then(() => done.push('a'));
	store.set({ session: { b: { v: 1 } } }).then(() => done.push('b'));
	await turn();
	store.set({ session: { a: { v: 2 } } }).then(() => done.push('a2'));
	store.saveCreds({ registered: true }).then(() => done.push('creds'));
	await turn();
	assert.equal(writes.length, 1);
	assert.deepEqual(writes[0].changes.map(([kind, id]) => `${kind}/${id}`), ['session/a', 'session/b']);
	assert.deepEqual(done, []);
	writes[0].resolve();
	await turn();
	assert.deepEqual(done, ['a', 'b']);
	assert.deepEqual(writes[1].changes.map(([kind, id, bytes]) => [kind, id, bytes.toString()]), [
		['session', 'a', '{"v":2}'], ['creds', '', '{"registered":true}']
	]);
});

test('keys: a failed write fails everything that waits, after the link was told', async () => {
	const { store, writes } = slowStore();
	const first = store.set({ session: { a: 1 } });
	await turn();
	const second = store.set({ session: { b: 1 } });
	let toldFirst = false;
	second.catch(() => (toldFirst = Boolean(store.failure)));
	writes[0].reject(new Error('fenced'));
	await assert.rejects(first, /fenced/);
	await assert.rejects(second, /fenced/);
	assert.ok(toldFirst);
});

test('keys: what is not there is asked once; pre-keys are asked each time; nobody shares a mutable value', async () => {
	const memory = encodeValue({ device: true });
	const { store, reads } = slowStore({ 'sender-key-memory/g': memory, 'pre-key/1': encodeValue({ k: Buffer.from('x') }) });
	assert.deepEqual(await store.get('tctoken', ['nobody']), {});
	assert.deepEqual(await store.get('tctoken', ['nobody']), {});
	assert.equal(reads.length, 1);
	await store.get('pre-key', ['1']);
	assert.deepEqual(await store.get('pre-key', ['1']), { 1: { k: Buffer.from('x') } });
	assert.equal(reads.length, 3);
	const { g } = await store.get('sender-key-memory', ['g']);
	g.other = true;
	assert.deepEqual(await store.get('sender-key-memory', ['g']), { g: { device: true } });
});

test('keys: after a failed write nothing is written any more, for it came later', async () => {
	const { store, writes } = slowStore();
	const first = store.set({ 'pre-key': { 1: { v: 1 } } });
	await turn();
	writes[0].reject(new Error('failed'));
	await assert.rejects(first, /failed/);
	await assert.rejects(store.saveCreds({ nextPreKeyId: 2 }), /failed/);
	await turn();
	await store.idle();
	assert.equal(writes.length, 1);
});

test('keys: a read that was under way during a write is not remembered', async () => {
	let answer;
	const store = new KeyStore({
		read: () => new Promise(resolve => (answer = resolve)),
		write: async () => {},
		onFailure: () => {}
	});
	const reading = store.get('session', ['a']);
	await store.set({ session: { a: { v: 'new' } } });
	answer([['session', 'a', encodeValue({ v: 'old' })]]);
	await reading;
	assert.deepEqual(await store.get('session', ['a']), { a: { v: 'new' } });
});

test('keys: with a socket to hold, a change is read at once and no frame overtakes it', async () => {
	const { store, writes } = slowStore({ 'session/a': encodeValue({ v: 0 }) });
	const socket = fakeSocket();
	const gate = new Gate(socket, () => true);
	store.pipe.hold = until => gate.hold(until);
	let sent = false;
	await store.set({ session: { a: { v: 1 } }, 'sender-key-memory': { g: { one: true } } });
	socket.send('receipt', () => (sent = true));
	assert.ok(sent);
	const [{ g }, { a }] = [await store.get('sender-key-memory', ['g']), await store.get('session', ['a'])];
	g.two = true;
	assert.deepEqual([a, (await store.get('sender-key-memory', ['g'])).g], [{ v: 1 }, { one: true }]);
	await turn();
	await store.set({ session: { a: { v: 2 }, b: null } });
	socket.send('next');
	assert.deepEqual(socket.written, []);
	writes[0].resolve();
	await turn();
	assert.deepEqual(socket.written, ['receipt']);
	assert.deepEqual(await store.get('session', ['a', 'b']), { a: { v: 2 } });
	writes[1].resolve();
	await store.stored;
	await turn();
	assert.deepEqual(socket.written, ['receipt', 'next']);
	assert.deepEqual(await store.get('session', ['a', 'b']), { a: { v: 2 } });
	assert.equal(store.unwritten.size, 0);
});

test('keys: who makes too many changes waits for them', async () => {
	const { store, writes } = slowStore();
	store.pipe.hold = () => true;
	let waits = true;
	for (let count = 0; count < 200; count += 1) {
		store.set({ session: { [count]: { v: 1 } } }).then(() => (waits = count < 199));
	}
	await turn();
	assert.ok(waits);
	writes[0].resolve();
	await turn();
	assert.ok(!waits);
});

test('keys: what a lost change held never leaves', async () => {
	const { store, writes } = slowStore();
	const socket = fakeSocket();
	let open = true;
	const gate = new Gate(socket, () => open);
	store.pipe.hold = until => gate.hold(until);
	store.pipe.onFailure = () => (open = false);
	await store.set({ session: { a: { v: 1 } } });
	socket.send('receipt');
	await turn();
	writes[0].reject(new Error('fenced'));
	await turn();
	assert.deepEqual(socket.written, []);
});

test('keys: values are the text that the multi-file layout holds', () => {
	const value = { key: Buffer.from('secret') };
	assert.equal(encodeValue(value).toString(), JSON.stringify(value, BufferJSON.replacer));
});

test('mutex: one at a time per key, also after a failure', async () => {
	const mutex = new KeyedMutex();
	const log = [];
	const job = (name, fail) => async () => {
		log.push(`${name}+`);
		await turn();
		log.push(`${name}-`);
		if (fail) {
			throw new Error(name);
		}
	};
	await Promise.allSettled([mutex.run('k', job('a', true)), mutex.run('k', job('b')), mutex.run('other', job('c'))]);
	assert.ok(log.indexOf('b+') > log.indexOf('a-'));
	assert.ok(log.indexOf('c+') < log.indexOf('a-'));
	assert.equal(mutex.tails.size, 0);
});

test('libsignal: a job keeps its own async context when another account began the queue', async () => {
	const queueJob = createRequire(require.resolve('libsignal'))('./src/queue_job.js');
	const storage = new AsyncLocalStorage();
	const seen = [];
	const job = name => storage.run(name, () => queueJob('same address', async () => {
		await turn();
		seen.push([name, storage.getStore()]);
	}));
	await Promise.all([job('first'), job('second')]);
	assert.deepEqual(seen, [['first', 'first'], ['second', 'second']]);
});

function fakeSocket() {
	const written = [];
	return { written, readyState: 1, send: (data, callback) => { written.push(data); callback?.(); } };
}

test('gate: held writes leave in order after the release, and none once it is shut', async () => {
	const socket = fakeSocket();
	let open = true;
	const gate = new Gate(socket, () => open);
	let release;
	gate.hold(new Promise(resolve => (release = resolve)));
	socket.send('a');
	socket.send('b');
	assert.deepEqual(socket.written, []);
	release();
	await turn();
	assert.deepEqual(socket.written, ['a', 'b']);
	open = false;
	let failed = null;
	socket.send('c', error => (failed = error));
	assert.ok(failed);
	assert.deepEqual(socket.written, ['a', 'b']);
});

test('gate: it is told when what waits has left, and when it never will', async () => {
	const socket = fakeSocket();
	let open = true;
	const gate = new Gate(socket, () => open);
	await gate.passed();
	const wait = Promise.withResolvers();
	gate.hold(wait.promise);
	socket.send('a');
	const order = [];
	const passed = gate.passed().then(() => order.push('passed'));
	socket.send('b');
	await turn();
	assert.deepEqual(order, []);
	wait.resolve();
	await passed;
	assert.deepEqual(socket.written, ['a', 'b']);
	gate.hold(new Promise(resolve => setImmediate(resolve)));
	socket.send('c');
	const never = gate.passed();
	open = false;
	await assert.rejects(never, /link closed/);
	assert.deepEqual(socket.written, ['a', 'b']);
});

test('gate: before the socket is open nothing has left, and nothing has failed', async () => {
	for (const [state, event, expected] of [[1, 'open', 'left'], [3, 'close', 'link closed']]) {
		const socket = Object.assign(new EventEmitter(), fakeSocket(), { readyState: 0 });
		const gate = new Gate(socket, () => true);
		const told = [];
		gate.passed().then(() => told.push('left'), error => told.push(error.message));
		await turn();
		assert.deepEqual(told, []);
		socket.readyState = state;
		socket.emit(event);
		await turn();
		assert.deepEqual(told, [expected]);
	}
});

test('sends: given up before the write, it can no longer be written', async () => {
	const results = [];
	const sends = new Sends(5, result => results.push(result));
	const entry = sends.begin('ID');
	assert.equal(sends.begin('ID'), null);
	await new Promise(resolve => setTimeout(resolve, 20));
	assert.equal(results[0].outcome, 'not_started');
	assert.equal(results[0].reason, 'prepare_timeout');
	assert.throws(() => [...entry.lastStep({})]);
	assert.equal(sends.answered('ID', null), false);
});

test('sends: the ack decides, once', () => {
	const results = [];
	const sends = new Sends(1000, result => results.push(result));
	const gate = {};
	for (const [id, code] of [['A', null], ['B', 463]]) {
		assert.deepEqual([...sends.begin(id).lastStep(gate)], []);
		gate.next.onWritten();
		assert.equal(sends.answered(id, code), true);
		assert.equal(sends.answered(id, code), false);
	}
	assert.deepEqual(results.map(({ id, outcome, code }) => [id, outcome, code]), [['A', 'acked', null], ['B', 'refused', 463]]);
	sends.begin('C');
	sends.close();
	assert.equal(results[2].outcome, 'not_started');
	assert.equal(results[2].link_lost, true);
});

const plaintextStanza = attrs => ({ tag: 'message', attrs, content: [{ tag: 'plaintext', attrs: {}, content: Buffer.from('x') }] });
const me = { id: '1555:3@s.whatsapp.net', lid: '9001:3@lid' };

test('inbound: a plaintext of anybody else is dropped, also one that claims to be a peer message', () => {
	const inbound = new Inbound({ me: () => me, backlog: new Backlog(() => 0) });
	for (const attrs of [{ from: '1666@s.whatsapp.net' }, { from: '1666@s.whatsapp.net', category: 'peer' }, { from: '1555@s.whatsapp.net' }]) {
		const node = plaintextStanza(attrs);
		inbound.note(node);
		assert.deepEqual(node.content.map(child => child.tag), ['unavailable']);
	}
	const own = plaintextStanza({ from: '1555@s.whatsapp.net', category: 'peer' });
	inbound.note(own);
	assert.deepEqual(own.content.map(child => child.tag), ['plaintext']);
});

test('offline queue: its end is told once, when all that was expected is through, and not after the link', () => {
	const queue = new OfflineQueue();
	const [first, second] = [{}, {}];
	let ends = 0;
	queue.expect(first);
	queue.expect(second);
	queue.whenDone(60_000, () => (ends += 1));
	queue.passed(first);
	queue.passed({});
	assert.equal(ends, 0);
	queue.passed(second);
	assert.equal(ends, 1);
	queue.expect(first);
	queue.passed(first);
	assert.equal(ends, 1);
	queue.whenDone(60_000, () => (ends += 1));
	assert.equal(ends, 2, 'nothing waits');
});

test('term: it is over at its end, and an extension never makes it shorter', () => {
	let now = 0;
	let over = 0;
	const term = new Term(100, () => now, () => (over += 1));
	term.extend(50);
	now = 99;
	assert.equal(term.isOver, false);
	term.extend(200);
	now = 199;
	assert.equal(term.isOver, false);
	term.watch();
	assert.equal(over, 0);
	term.close();
	now = 200;
	assert.equal(term.isOver, true);
	term.watch();
	assert.equal(over, 1);
});

test('silence: nothing long or numeric survives', () => {
	assert.equal(mask('failed for 15550001111@s.whatsapp.net'), 'failed for ***@s.whatsapp.net');
	assert.equal(mask(`key ${Buffer.alloc(32, 7).toString('base64')}`).includes('Bwc'), false);
	let printed = '';
	const write = process.stdout.write;
	process.stdout.write = text => ((printed += text), true);
	console.log('Closing session:', 'x');
	console.error('x');
	process.stdout.write = write;
	assert.equal(printed, '');
});
