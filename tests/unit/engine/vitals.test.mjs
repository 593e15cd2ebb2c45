// Signs of life of a link, and what may not reach the pipe; run by test_parts.py.

import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { join } from 'node:path';
import { mock, test } from 'node:test';
import { pathToFileURL } from 'node:url';

const directory = process.env.ENGINE_DIRECTORY;
const load = name => import(pathToFileURL(join(directory, name)).href);
const { ACK_LOG, Backlog, RECEIPT_LOG } = await load('backlog.mjs');
const { Gate } = await load('gate.mjs');
const { Vitals } = await load('vitals.mjs');

/** A link's vitals on a clock that is moved by hand. */
function moved({ keepAlive = 30_000 } = {}) {
	mock.timers.enable({ apis: ['setTimeout'] });
	let now = 1000;
	let lost = 0;
	let tags = 0;
	const sock = { ws: new EventEmitter(), sent: [], generateMessageTag: () => `1.2-${++tags}`, sendNode: async node => sock.sent.push(node) };
	const vitals = new Vitals({ now: () => now, keepAlive, onLost: () => (lost += 1) });
	vitals.listen(sock);
	const pass = ms => {
		now += ms;
		mock.timers.tick(ms);
	};
	/** The process does not run. @param {number} ms */
	const stall = ms => (now += ms);
	return { vitals, sock, pass, stall, lost: () => lost, answer: id => sock.ws.emit('CB:iq', { attrs: { id } }) };
}

test('vitals: pings go out each interval, and an answer to one is proof for those before it', t => {
	t.after(() => mock.timers.reset());
	const { vitals, sock, pass, answer } = moved();
	assert.deepEqual(vitals.news(), null);
	vitals.start();
	assert.deepEqual(vitals.news(), [1000, null, null]);
	pass(30_000);
	sock.ws.emit('message', 'x');
	pass(30_000);
	assert.deepEqual(sock.sent.map(({ attrs }) => [attrs.id, attrs.xmlns]), [['1.2-1', 'w:p'], ['1.2-2', 'w:p']]);
	assert.deepEqual(vitals.news(), [31_000, 31_000, null]);
	assert.equal(vitals.news(), null);
	answer('1.2-1');
	assert.deepEqual(vitals.news(), [31_000, 61_000, null]);
	answer('1.2-2');
	assert.deepEqual(vitals.news(), [31_000, null, null]);
});

test('vitals: an answer to the latest ping answers all, one to something else none', t => {
	t.after(() => mock.timers.reset());
	const { vitals, sock, pass, answer } = moved();
	vitals.start();
	pass(30_000);
	sock.ws.emit('message', 'x');
	pass(30_000);
	answer('1.2-9');
	assert.equal(vitals.news()[1], 31_000);
	answer('1.2-2');
	assert.equal(vitals.news()[1], null);
});

test('vitals: a server that is not heard for an interval and a grace is lost', t => {
	t.after(() => mock.timers.reset());
	const { vitals, sock, pass, lost } = moved();
	vitals.start();
	pass(30_000);
	assert.equal(lost(), 0);
	sock.ws.emit('message', 'x');
	pass(30_000);
	assert.equal(lost(), 0);
	pass(30_000);
	assert.equal(lost(), 1);
});

test('vitals: after a stall of ours the server is asked, and what it answers within the grace counts', t => {
	t.after(() => mock.timers.reset());
	const { vitals, sock, pass, stall, lost } = moved();
	vitals.start();
	for (const answers of [true, true, false]) {
		pass(30_000);
		sock.ws.emit('message', 'an answer');
		stall(10_000);
		pass(30_000);
		const asked = sock.sent.length;
		assert.equal(lost(), 0);
		if (answers) {
			sock.ws.emit('message', 'an answer');
		}
		pass(4_999);
		assert.deepEqual([lost(), sock.sent.length], [0, asked]);
		pass(1);
		assert.deepEqual([lost(), sock.sent.length], answers ? [0, asked + 1] : [1, asked]);
	}
});

test('vitals: to be a little late is no excuse', t => {
	t.after(() => mock.timers.reset());
	const { vitals, pass, stall, lost } = moved();
	vitals.start();
	pass(30_000);
	stall(900);
	pass(30_000);
	assert.equal(lost(), 1);
});

test('vitals: no ping after the end, and none waits any more', async t => {
	t.after(() => mock.timers.reset());
	const { vitals, sock, pass } = moved();
	vitals.start();
	const asked = vitals.ping();
	vitals.close();
	assert.equal(await asked, false);
	pass(90_000);
	assert.equal(sock.sent.length, 1);
});

test('vitals: a hundred pings without an answer keep their oldest time and no more than a few entries', t => {
	t.after(() => mock.timers.reset());
	const { vitals } = moved();
	for (let count = 0; count < 100; count += 1) {
		vitals.ping();
	}
	assert.ok(vitals.pings.size <= 16);
	assert.equal(vitals.unanswered, 1000);
});

/** A backlog whose messages come one per millisecond. */
function withMessages(...ids) {
	let now = 0;
	const backlog = new Backlog(() => ++now);
	const attrs = ids.map(id => ({ id, from: 'a' }));
	attrs.forEach(item => backlog.note(item));
	return { backlog, attrs };
}
const ack = attrs => [{ recv: { tag: 'message', attrs }, sent: {} }, ACK_LOG];
const receipt = (id, type) => [{ attrs: { id, type }, messageIds: [id] }, RECEIPT_LOG];

test('backlog: a receipt or an ack of any kind ends a message; the next counts from its turn', () => {
	const { backlog, attrs } = withMessages('A', 'B', 'C');
	assert.equal(backlog.since, 1);
	backlog.read(...ack(attrs[0]));
	assert.equal(backlog.since, 4);
	backlog.read(...receipt('B', 'inactive'));
	assert.equal(backlog.since, 5);
	backlog.read(...receipt('C', 'read'));
	assert.equal(backlog.since, 5);
	backlog.read(...receipt('C'));
	assert.equal(backlog.since, null);
	backlog.note({ id: 'D' });
	assert.equal(backlog.since, 7);
});

test('backlog: what is being reported ends with the report, not with the receipt', () => {
	const { backlog, attrs } = withMessages('A', 'B');
	const told = backlog.reporting(attrs[0]);
	backlog.read(...receipt('A'));
	backlog.read(...receipt('B'));
	assert.equal(backlog.since, 1);
	told();
	assert.equal(backlog.since, null);
});

test('backlog: one that is stuck is not forgotten for what is finished behind it', () => {
	const { backlog, attrs } = withMessages('A', 'B', 'C');
	backlog.reporting(attrs[0]);
	backlog.read(...ack(attrs[1]));
	backlog.read(...ack(attrs[2]));
	assert.equal(backlog.since, 1);
});

test('backlog: thousands are handled in turn, and one that is told late does not count twice', () => {
	const { backlog, attrs } = withMessages(...Array.from({ length: 5000 }, (_, index) => `M${index % 4000}`));
	const told = attrs.slice(0, 10).map(one => backlog.reporting(one));
	told.forEach(done => [done(), done()]);
	for (const [index, one] of attrs.entries()) {
		assert.equal(backlog.has(one.id), true);
		assert.equal(backlog.entries.size, 5000 - Math.max(index, 10));
		backlog.read(...ack(one));
	}
	assert.deepEqual([backlog.since, backlog.entries.size, backlog.has('M1')], [null, 0, false]);
	backlog.note({ id: 'last' });
	const done = backlog.reporting(attrs[0]);
	backlog.clear();
	done();
	assert.equal(backlog.since, null);
});

test('backlog: what is finished behind one that is told for long does not pile up', () => {
	const { backlog, attrs } = withMessages('first');
	const done = backlog.reporting(attrs[0]);
	for (let index = 0; index < 20_000; index += 1) {
		const one = { id: `M${index}` };
		backlog.note(one);
		backlog.read(...ack(one));
	}
	assert.equal(backlog.entries.size, 1);
	assert.ok(backlog.queue.length < 2_000);
	done();
	assert.deepEqual([backlog.since, backlog.queue.length], [null, 0]);
});

test('backlog: a stanza that is noted twice is one', () => {
	const { backlog, attrs } = withMessages('A');
	backlog.note(attrs[0]);
	backlog.read(...ack(attrs[0]));
	assert.deepEqual([backlog.since, backlog.has('A')], [null, false]);
});

test('backlog: messages are handled in turn, so those before a finished one are finished', () => {
	const { backlog, attrs } = withMessages('A', 'B', 'C');
	backlog.read(...ack(attrs[1]));
	assert.deepEqual([...backlog.entries.keys()], [attrs[2]]);
});

test('backlog: the same id twice is two messages; other stanzas and texts are none', () => {
	const { backlog } = withMessages('A', 'A');
	backlog.read(...receipt('A'));
	assert.equal(backlog.entries.size, 1);
	backlog.read({ recv: { tag: 'receipt', attrs: { id: 'A' } } }, ACK_LOG);
	backlog.read('a text alone');
	backlog.read(undefined, undefined);
	assert.equal(backlog.entries.size, 1);
	backlog.clear();
	assert.equal(backlog.since, null);
});

test('gate: the handshake is done with the second write', () => {
	const written = [];
	const socket = { readyState: 1, send: data => written.push(data) };
	const gate = new Gate(socket, () => true);
	let told = 0;
	gate.onHandshake = () => (told += 1);
	socket.send('hello');
	assert.deepEqual([gate.handshaken, told], [false, 0]);
	socket.send('finish');
	socket.send('more');
	assert.deepEqual([gate.handshaken, told], [true, 1]);
});
