// Why a link ended, and which stored credentials are usable; run by test_parts.py.

import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';

const directory = process.env.ENGINE_DIRECTORY;
const load = name => import(pathToFileURL(join(directory, name)).href);
const { Ending } = await load('ending.mjs');
const { readCredentials, isPaired, UnreadableCredentials } = await load('credentials.mjs');
const require = createRequire(join(directory, 'x.js'));
const { BufferJSON, initAuthCreds } = await import(pathToFileURL(require.resolve('baileys')).href);

const boom = (message, statusCode, data) => Object.assign(new Error(message), { output: { statusCode }, data });
const conflict = type => ({ tag: 'conflict', attrs: { type } });
const text = content => ({ tag: 'text', attrs: {}, content });
const streamError = (...children) => ['CB:stream:error', { tag: 'stream:error', attrs: {}, content: children }];
const failure = ['CB:failure', { tag: 'failure', attrs: {} }];
const downgrade = ['CB:ib,,downgrade_webclient', { tag: 'ib', attrs: {} }];

/** What came last over the stream, what Baileys made of it, and what is reported. */
const CASES = [
	...[401, 403, 408, 411, 428, 440, 500, 503, 515, 516, 999].flatMap(code => [
		[`the server ends the stream with ${code}`, streamError(), boom('Stream Errored (x)', code), null, code, 'stream_error'],
		[`the server refuses the login with ${code}`, failure, boom('Connection Failure', code), null, code, 'login_refused']
	]),
	['downgrade', downgrade, boom('Multi-device beta not joined', 411), null, 411, 'downgraded'],
	['removed, with 401', streamError(conflict('device_removed')), boom('Stream Errored (conflict)', 401), 'device_removed', 401, 'device_removed'],
	['removed, without a code', streamError(conflict('device_removed')), boom('Stream Errored (conflict)', 440), 'device_removed', 440, 'device_removed'],
	['replaced', streamError(conflict('replaced')), boom('Stream Errored (conflict)', 440), 'replaced', 440, 'replaced'],
	['another conflict', streamError(conflict('other')), boom('Stream Errored (conflict)', 440), null, 440, 'stream_error'],
	['restart by text', streamError(text(Buffer.from('Restart Required'))), boom('Stream Errored (text)', 500), 'restart_required', 500, 'stream_error'],
	['restart by Baileys\' text', failure, boom('Restart required', 500), 'restart_required', 500, 'login_refused'],
	['the connection is gone', null, boom('Connection Terminated', 428), null, 428, 'connection_closed'],
	['nobody listens', null, boom('WebSocket Error (x)', 408, { code: 'ECONNREFUSED' }), null, 408, 'ECONNREFUSED'],
	['an opening that times out', null, boom('WebSocket Error (Opening handshake has timed out)', 408), null, 408, 'timed_out'],
	['a certificate that does not verify', null, boom('WebSocket Error (x)', 500, { code: 'CERT_HAS_EXPIRED' }), 'socket_failed', 500, 'CERT_HAS_EXPIRED'],
	['a SOCKS proxy that is down', null, boom('WebSocket Error (x)', 500, new Error('connect ECONNREFUSED 127.0.0.1:9')), 'timed_out', 500, 'ECONNREFUSED'],
	['a SOCKS proxy that breaks off', null, boom('WebSocket Error (x)', 500, new Error('EVIL Socket closed')), 'socket_failed', 500, 'socket_failed'],
	['a proxy that wants another password', null, boom('WebSocket Error (x)', 500, { code: 'proxy_auth_failed' }), 'proxy_refused', null, 'proxy_auth_failed'],
	['a proxy that refuses', null, boom('WebSocket Error (x)', 500, { code: 'proxy_refused' }), 'proxy_refused', null, 'proxy_refused'],
	['a proxy whose error holds a secret', null, boom('WebSocket Error (x)', 500, { code: 'user:secret' }), 'socket_failed', 500, 'socket_failed'],
	['an HTTP answer', null, boom('WebSocket Error (Unexpected server response: 403)', 403), 'socket_failed', 403, 'socket_failed'],
	['a server that is none', null, boom('noise certificate signature invalid', 400), 'link_failed', 400, 'link_failed'],
	['a pairing that fails', null, boom('Invalid account signature', 500), 'link_failed', 500, 'link_failed'],
	['no error at all', null, null, 'link_failed', null, 'link_failed']
];

for (const [name, stanza, error, cause, code, detail] of CASES) {
	test(`ending: ${name}`, () => {
		const ending = new Ending();
		const ws = new EventEmitter();
		ending.listen(ws);
		if (stanza) {
			ws.emit(...stanza);
		}
		assert.deepEqual(ending.verdict(error, false), { cause, code, detail });
	});
}

test('ending: what we decided first counts', () => {
	const ending = new Ending();
	ending.decide('timed_out', 408, 'keep_alive_lost');
	ending.decide('closed_by_us');
	assert.deepEqual(ending.verdict(boom('Stream Errored', 401), true), { cause: 'timed_out', code: 408, detail: 'keep_alive_lost' });
});

test('ending: used up codes are told from a dead connection, and not from a word of the server', () => {
	assert.equal(new Ending().verdict(boom('QR refs attempts ended', 408), true).cause, 'qr_expired');
	const refused = new Ending();
	refused.said = 'login_refused';
	assert.equal(refused.verdict(boom('Connection Failure', 408), true).cause, null);
});

// --- credentials ----------------------------------------------------------------------------------------------------

const stored = creds => Buffer.from(JSON.stringify(creds, BufferJSON.replacer));
const paired = () => ({ ...initAuthCreds(), account: { details: Buffer.from('x') }, me: { id: '1555:3@s.whatsapp.net' } });

test('credentials: those of a finished pairing are read', () => {
	const creds = paired();
	const read = readCredentials(stored(creds));
	assert.ok(isPaired(read));
	assert.deepEqual(read.noiseKey.private, creds.noiseKey.private);
});

test('credentials: nothing stored, or nothing that a phone has linked, gives fresh ones', () => {
	const halfway = { ...initAuthCreds(), me: { id: '1555@s.whatsapp.net', name: '~' }, pairingCode: 'ABCD1234', registered: true };
	for (const bytes of [null, stored(initAuthCreds()), stored(halfway)]) {
		const read = readCredentials(bytes);
		assert.ok(!isPaired(read));
		assert.deepEqual([read.me, read.pairingCode, read.registered], [undefined, undefined, false]);
	}
});

test('credentials: damaged ones are never replaced', () => {
	const { account: _account, ...withoutAccount } = paired();
	const { noiseKey: _noiseKey, ...withoutKey } = paired();
	const short = { ...paired(), signedIdentityKey: { private: Buffer.alloc(5), public: Buffer.alloc(32) } };
	const broken = ['', '{', 'null', '[]', '{}', '"text"', '\0\0'].map(content => Buffer.from(content));
	for (const bytes of [...broken, stored(withoutAccount), stored(withoutKey), stored(short), stored(paired()).subarray(0, 200)]) {
		assert.throws(() => readCredentials(bytes), UnreadableCredentials, bytes.subarray(0, 20).toString());
	}
});
