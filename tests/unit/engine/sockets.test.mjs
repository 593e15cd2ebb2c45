// What the libraries do for each message though nobody needs it, and how what they write leaves; run by test_parts.py.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';

const directory = process.env.ENGINE_DIRECTORY;
const load = name => import(pathToFileURL(join(directory, name)).href);
const { quietLogger, socketOptions } = await load('config.mjs');
const { Gate } = await load('gate.mjs');
const { KeyStore } = await load('keystore.mjs');
const { keepOnlySent } = await load('quiet.mjs');
const require = createRequire(join(directory, 'x.js'));
const { DEFAULT_CONNECTION_CONFIG, initAuthCreds, makeWASocket } = await import(
	pathToFileURL(require.resolve('baileys')).href
);

/** Some turns of the event loop: all that is ready has run. */
const turn = async () => {
	for (let count = 0; count < 4; count += 1) {
		await new Promise(setImmediate);
	}
};

/** A gateway's key store whose writes are answered by hand. */
function slowStore() {
	const writes = [];
	const write = () => new Promise((resolve, reject) => writes.push({ resolve, reject }));
	return { store: new KeyStore({ read: async () => [], write, onFailure: () => {} }), writes };
}

test('gate: what waits for one commit of keys leaves in one write', async () => {
	const calls = [];
	const socket = {
		readyState: 1,
		send: data => calls.push(data),
		_socket: { cork: () => calls.push('cork'), uncork: () => calls.push('uncork') }
	};
	const { store, writes } = slowStore();
	const gate = new Gate(socket, () => true);
	store.pipe.hold = until => gate.hold(until);
	for (const id of ['a', 'b']) {
		await store.set({ session: { [id]: { v: 1 } } });
		socket.send(`receipt ${id}`);
	}
	await turn();
	await store.set({ session: { c: { v: 1 } } });
	socket.send('receipt c');
	writes[0].resolve();
	await turn();
	assert.deepEqual(calls, ['cork', 'receipt a', 'receipt b', 'uncork']);
	writes[1].resolve();
	await turn();
	assert.deepEqual(calls.slice(4), ['cork', 'receipt c', 'uncork']);
});

test('gate: a write that fails at once keeps back no other', async () => {
	let corked = 0;
	const sent = [];
	const stream = { cork: () => (corked += 1), uncork: () => (corked -= 1) };
	const socket = { readyState: 0, send: data => sent.push(data), _socket: stream };
	const gate = new Gate(socket, () => true);
	gate.next = { onWritten: () => assert.fail('refused') };
	gate.hold(Promise.resolve());
	socket.send('a');
	socket.send('b');
	await turn();
	socket.readyState = 1;
	assert.throws(() => gate.advance(), /refused/);
	assert.equal(corked, 0);
	gate.advance();
	assert.deepEqual([sent, corked], [['b'], 0]);
});

test('raw keys: all that is made of bytes is the same, whoever asks', async () => {
	const crypto = require('node:crypto');
	const key = Buffer.alloc(32, 7);
	const made = () => [
		crypto.createHmac('sha256', key).update('text').digest('hex'),
		crypto.createHmac('sha256', 'a text as the key').update('text').digest('hex'),
		crypto.createHmac('sha256', Buffer.alloc(0)).update('text').digest('hex'),
		crypto.createHmac('sha256', crypto.createSecretKey(key)).update('text').digest('hex'),
		crypto.createCipheriv('aes-256-gcm', key, Buffer.alloc(12), { authTagLength: 16 }).update('text', 'utf8', 'hex'),
		crypto.createDecipheriv('aes-256-cbc', new Uint8Array(key), Buffer.alloc(16)).update('00'.repeat(32), 'hex', 'hex')
	];
	const [before, { createHmac }] = [made(), crypto];
	await load('raw_keys.mjs');
	assert.deepEqual(made(), before);
	assert.throws(() => crypto.createCipheriv('aes-256-gcm', Buffer.alloc(5), Buffer.alloc(12)), /key length/);
	assert.notEqual(crypto.createHmac, createHmac);
	assert.equal((await import('node:crypto')).createHmac, crypto.createHmac, 'also by name');
});

test('sockets: Baileys sets itself no time for what it writes', async context => {
	const server = new (require('ws').WebSocketServer)({ host: '127.0.0.1', port: 0 });
	context.after(() => server.close());
	await once(server, 'listening');
	const timers = context.mock.method(globalThis, 'setTimeout');
	const sock = makeWASocket(
		socketOptions({
			settings: { wa_url: `ws://127.0.0.1:${server.address().port}`, qr_first_ms: 1, qr_next_ms: 1 },
			creds: initAuthCreds(),
			keys: slowStore().store,
			repository: DEFAULT_CONNECTION_CONFIG.makeSignalRepository,
			getMessage: async () => undefined,
			logger: quietLogger(() => {}, { read: () => {} }, () => {}),
			browser: ['wahub', 'Chrome', '1.0.0'],
			online: false,
			proxy: null,
			isLastCode: () => false
		})
	);
	const [client] = await once(server, 'connection');
	await once(client, 'message');
	assert.deepEqual(timers.mock.calls.map(({ arguments: [, time] }) => time), []);
	sock.ws.on('error', () => {});
	await Promise.all([once(client, 'close'), sock.end(undefined)]);
});

test('retries: what was received is never kept as if we had sent it', () => {
	const kept = [];
	const sock = { messageRetryManager: { addRecentMessage: (...details) => kept.push(details) } };
	keepOnlySent(sock, id => id === 'theirs');
	sock.messageRetryManager.addRecentMessage('chat', 'theirs', {});
	sock.messageRetryManager.addRecentMessage('chat', 'ours', { conversation: 'hi' });
	assert.deepEqual(kept, [['chat', 'ours', { conversation: 'hi' }]]);
});
