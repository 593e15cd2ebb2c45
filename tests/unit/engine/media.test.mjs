// The downloader of the side process against a media server that misbehaves; run by test_media.py.

import assert from 'node:assert/strict';
import { createCipheriv, createHash, createHmac, hkdfSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { createServer } from 'node:https';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, test } from 'node:test';
import { pathToFileURL } from 'node:url';

const directory = process.env.ENGINE_DIRECTORY;
const { Media } = await import(pathToFileURL(join(directory, 'media.mjs')).href);
const { Agent } = createRequire(join(directory, 'x.js'))('undici');
const tls = { cert: await readFile(process.env.CERTIFICATE), key: await readFile(process.env.KEY) };
const dispatcher = new Agent({ connect: { ca: await readFile(process.env.CA) } });
const folder = await mkdtemp(join(tmpdir(), 'media-'));
const servers = [];

beforeEach(async () => {
	for (const name of await readdir(folder)) {
		await rm(join(folder, name));
	}
});
after(async () => {
	await dispatcher.destroy();
	for (const server of servers) {
		server.closeAllConnections();
		server.close();
	}
	await rm(folder, { recursive: true });
});

/** A media server; what it was asked for is in `asked`. @returns {Promise<{host: string, asked: string[]}>} */
async function serving(answer) {
	const asked = [];
	const server = createServer(tls, (request, response) => {
		asked.push(request.url);
		answer(response, request);
	});
	servers.push(server);
	await once(server.listen(0, '127.0.0.1'), 'listening');
	return { host: `127.0.0.1:${server.address().port}`, asked };
}

/** A link whose server names these hosts. */
function linkTo(...hosts) {
	const told = [];
	const link = {
		open: true,
		clock: 0,
		ttl: 60,
		questions: 0,
		told,
		hosts,
		isOpen: () => link.open,
		now: () => link.clock,
		dispatcher: () => dispatcher,
		tell: (type, fields) => told.push({ type, ...fields }),
		query: async node => {
			link.questions += 1;
			assert.deepEqual([node.tag, node.attrs.xmlns, node.content[0].tag], ['iq', 'w:m', 'media_conn']);
			if (!link.hosts.length) {
				throw new Error('no answer');
			}
			const content = link.hosts.map(hostname => ({ tag: 'host', attrs: { hostname } }));
			return { tag: 'iq', attrs: {}, content: [{ tag: 'media_conn', attrs: { ttl: String(link.ttl) }, content }] };
		}
	};
	return link;
}

/** A file as the apps seal it. */
function sealed(data, kind = 'Image') {
	const mediaKey = randomBytes(32);
	const keys = Buffer.from(hkdfSync('sha256', mediaKey, Buffer.alloc(0), `WhatsApp ${kind} Keys`, 112));
	const cipher = createCipheriv('aes-256-cbc', keys.subarray(16, 48), keys.subarray(0, 16));
	const ciphertext = Buffer.concat([cipher.update(data), cipher.final()]);
	const mac = createHmac('sha256', keys.subarray(48, 80)).update(keys.subarray(0, 16)).update(ciphertext).digest();
	const body = Buffer.concat([ciphertext, mac.subarray(0, 10)]);
	return { body, media_key: mediaKey, file_sha256: hash(data), file_enc_sha256: hash(body) };
}

const hash = data => createHash('sha256').update(data).digest();
const send = body => response => response.end(body);

let number = 0;
/** Fetch and give back the answer, with what lies at the path. */
async function fetched(link, file, changes = {}, media = new Media(link)) {
	number += 1;
	// Others may be fetched meanwhile.
	const name = `file-${number}`;
	const path = join(folder, name);
	const { body: _body, ...named } = file;
	const frame = { n: number, kind: 'image', direct_path: '/v/some?oh=1&oe=2', path, limit: 0, ...named, ...changes };
	await media.fetch(frame);
	const told = link.told.filter(({ n }) => n === frame.n);
	assert.equal(told.length, 1);
	const found = await readFile(path).catch(() => null);
	const left = (await readdir(folder)).filter(other => other.startsWith(`${name}.`));
	assert.deepEqual(left, []);
	assert.equal(found === null, told[0].error !== null);
	return { ...told[0], found, path };
}

test('a file comes as it was, in whatever pieces, for its owner only', async () => {
	for (const size of [0, 1, 15, 16, 17, 100_003]) {
		for (const piece of [1, 9, 10, 11, 65_536]) {
			if (size / piece > 2000) {
				continue;
			}
			const data = randomBytes(size);
			const file = sealed(data);
			const server = await serving(response => {
				for (let at = 0; at < file.body.length; at += piece) {
					response.write(file.body.subarray(at, at + piece));
				}
				response.end();
			});
			const got = await fetched(linkTo(server.host), file);
			assert.deepEqual([got.type, got.error, got.size, got.sha256], ['fetched', null, size, hash(data).toString('hex')]);
			assert.ok(data.equals(got.found));
			assert.equal((await stat(got.path)).mode & 0o777, 0o600);
		}
	}
});

test('the address is the server\'s host and the message\'s path, with the hash and the kind beside it', async () => {
	const file = sealed(randomBytes(40), 'Audio');
	const server = await serving(send(file.body));
	assert.equal((await fetched(linkTo(server.host), file, { kind: 'audio', direct_path: '/v/t62.7117-24/a%2Bb?oh=%3D~&oe=6' })).error, null);
	assert.equal((await fetched(linkTo(server.host), file, { kind: 'audio', direct_path: '/plain', file_enc_sha256: null })).error, null);
	const sum = file.file_enc_sha256.toString('base64url');
	assert.deepEqual(server.asked, [`/v/t62.7117-24/a%2Bb?oh=%3D~&oe=6&hash=${sum}&mms-type=audio`, '/plain?mms-type=audio']);
	const sticker = sealed(randomBytes(40));
	const images = await serving(send(sticker.body));
	assert.equal((await fetched(linkTo(images.host), sticker, { kind: 'sticker' })).error, null);
	assert.match(images.asked[0], /mms-type=image$/);
});

test('nothing but a path on that host is asked for', async () => {
	const file = sealed(randomBytes(10));
	const elsewhere = await serving(send(file.body));
	const server = await serving(send(file.body));
	const link = linkTo(server.host);
	for (const path of [`https://${elsewhere.host}/x`, `@${elsewhere.host}/x`, `.${elsewhere.host}/x`, '']) {
		assert.equal((await fetched(link, file, { direct_path: path })).error, 'refused');
	}
	for (const path of [`//${elsewhere.host}/x`, `/\\${elsewhere.host}/x`, `/@${elsewhere.host}/x`, `/../../@${elsewhere.host}`]) {
		assert.equal((await fetched(link, file, { direct_path: path })).error, null);
	}
	assert.equal(elsewhere.asked.length, 0);
	assert.equal(server.asked.length, 4);
	for (const host of [`${server.host}/x`, `user@${server.host}`, 'a b', '']) {
		assert.equal((await fetched(linkTo(host), file)).error, 'unreachable');
	}
});

test('a redirect is not followed', async () => {
	const file = sealed(randomBytes(10));
	const elsewhere = await serving(send(file.body));
	const server = await serving(response => response.writeHead(302, { location: `https://${elsewhere.host}/` }).end());
	assert.equal((await fetched(linkTo(server.host), file)).error, 'refused');
	assert.equal(elsewhere.asked.length, 0);
});

test('what is not what the message says is damaged, and leaves nothing', async () => {
	const data = randomBytes(5000);
	const file = sealed(data);
	const flip = at => {
		const body = Buffer.from(file.body);
		body[at < 0 ? body.length + at : at] ^= 1;
		return body;
	};
	const bodies = [flip(0), flip(2500), flip(-1), flip(-11), file.body.subarray(0, -1), file.body.subarray(0, 9), file.body.subarray(16), Buffer.alloc(0)];
	for (const body of bodies) {
		const server = await serving(send(body));
		for (const known of [{}, { file_sha256: null, file_enc_sha256: null }]) {
			assert.equal((await fetched(linkTo(server.host), file, known)).error, 'damaged');
		}
	}
	const server = await serving(send(file.body));
	const link = linkTo(server.host);
	assert.equal((await fetched(link, file, { file_sha256: hash('other') })).error, 'damaged');
	assert.equal((await fetched(link, file, { file_enc_sha256: hash('other') })).error, 'damaged');
	assert.equal((await fetched(link, file, { media_key: randomBytes(32) })).error, 'damaged');
	assert.equal((await fetched(link, file, { kind: 'video' })).error, 'damaged');
	assert.equal((await fetched(link, file, { file_sha256: null, file_enc_sha256: null })).error, null);
});

test('too large: by what the server announces, and by what comes', async () => {
	const file = sealed(randomBytes(1000));
	const announces = await serving(response => response.writeHead(200, { 'content-length': file.body.length }).end(file.body));
	const streams = await serving(response => {
		response.write(file.body);
		response.end();
	});
	for (const server of [announces, streams]) {
		assert.equal((await fetched(linkTo(server.host), file, { limit: 1000 })).error, null);
		assert.equal((await fetched(linkTo(server.host), file, { limit: 999 })).error, 'too_large');
		assert.equal((await fetched(linkTo(server.host), file, { limit: 10 })).error, 'too_large');
	}
	// An endless answer is cut off, not read to its end.
	let cut;
	const ended = new Promise(resolve => (cut = resolve));
	const endless = await serving(response => {
		response.on('close', cut);
		const more = () => response.writable && !response.destroyed && response.write(Buffer.alloc(65_536), () => setImmediate(more));
		more();
	});
	assert.equal((await fetched(linkTo(endless.host), file, { limit: 1_000_000 })).error, 'too_large');
	await ended;
});

test('what the server refuses', async () => {
	const file = sealed(randomBytes(10));
	const words = { 404: 'gone', 410: 'gone', 403: 'refused', 401: 'refused', 206: 'refused', 429: 'refused', 503: 'refused' };
	for (const [status, word] of Object.entries(words)) {
		const server = await serving(response => response.writeHead(Number(status)).end('no'));
		assert.equal((await fetched(linkTo(server.host), file)).error, word);
	}
});

test('another host is asked when one has trouble, and not when it has an answer', async () => {
	const file = sealed(randomBytes(300));
	const good = await serving(send(file.body));
	const busy = await serving(response => response.writeHead(500).end());
	const breaks = await serving(response => {
		response.writeHead(200, { 'content-length': file.body.length });
		response.write(file.body.subarray(0, 100), () => response.destroy());
	});
	for (const bad of [busy.host, breaks.host, '127.0.0.1:1']) {
		assert.equal((await fetched(linkTo(bad, good.host), file)).error, null);
	}
	assert.equal(good.asked.length, 3);
	const gone = await serving(response => response.writeHead(404).end());
	assert.equal((await fetched(linkTo(gone.host, good.host), file)).error, 'gone');
	assert.equal(good.asked.length, 3);
	assert.equal((await fetched(linkTo('127.0.0.1:1', breaks.host), file)).error, 'unreachable');
});

test('where media is, is asked once until that is out of date, and again after no answer', async () => {
	const file = sealed(randomBytes(10));
	const server = await serving(send(file.body));
	const link = linkTo();
	const media = new Media(link);
	assert.equal((await fetched(link, file, {}, media)).error, 'unreachable');
	link.hosts = [server.host];
	await Promise.all([fetched(link, file, {}, media), fetched(link, file, {}, media)]);
	assert.equal(link.questions, 2);
	link.clock = 59_999;
	assert.equal((await fetched(link, file, {}, media)).error, null);
	assert.equal(link.questions, 2);
	link.clock = 60_000;
	assert.equal((await fetched(link, file, {}, media)).error, null);
	assert.equal(link.questions, 3);
});

test('a server that says nothing any more is given up', async () => {
	const file = sealed(randomBytes(300));
	const link = linkTo((await serving(() => {})).host, (await serving(response => response.write(file.body.subarray(0, 50)))).host);
	assert.equal((await fetched(link, file, {}, new Media(link, 100))).error, 'unreachable');
});

test('four at a time; the end of the link ends all of them', async () => {
	const file = sealed(randomBytes(10));
	const waiting = [];
	const arrived = [];
	const server = await serving(response => {
		waiting.push(response);
		arrived.shift()?.();
	});
	const here = async count => {
		while (waiting.length < count) {
			await new Promise(resolve => arrived.push(resolve));
		}
	};
	const link = linkTo(server.host);
	const media = new Media(link);
	const answers = Array.from({ length: 7 }, () => fetchedLater(link, file, media));
	await here(4);
	waiting[0].end(file.body);
	await here(5);
	assert.equal(waiting.length, 5);
	assert.deepEqual(link.told.map(({ error }) => error), [null]);
	media.close();
	await Promise.all(answers);
	assert.deepEqual(link.told.map(({ error }) => error), [null, ...Array(6).fill('not_open')]);
	assert.equal(waiting.length, 5);
	assert.equal((await readdir(folder)).length, 1);
});

/** Several at a time: what lies in the folder is looked at by the test. */
function fetchedLater(link, file, media) {
	number += 1;
	const { body: _body, ...named } = file;
	return media.fetch({ n: number, kind: 'image', direct_path: '/x', path: join(folder, `file-${number}`), limit: 0, ...named });
}

test('on a link that is not open nobody is asked', async () => {
	const link = linkTo('127.0.0.1:1');
	link.open = false;
	assert.equal((await fetched(link, sealed(randomBytes(10)))).error, 'not_open');
	assert.equal(link.questions, 0);
});

test('a disk that does not take it', async () => {
	const file = sealed(randomBytes(10));
	const server = await serving(send(file.body));
	assert.equal((await fetched(linkTo(server.host), file, { path: join(folder, 'no', 'such', 'folder') })).error, 'failed');
});

test('a large file is not read faster than it is written', async () => {
	const size = 64 * 1024 * 1024;
	const path = join(folder, 'large');
	const mediaKey = randomBytes(32);
	const keys = Buffer.from(hkdfSync('sha256', mediaKey, Buffer.alloc(0), 'WhatsApp Video Keys', 112));
	let most = 0;
	const server = await serving(async response => {
		const cipher = createCipheriv('aes-256-cbc', keys.subarray(16, 48), keys.subarray(0, 16));
		const mac = createHmac('sha256', keys.subarray(48, 80)).update(keys.subarray(0, 16));
		let sent = 0;
		const write = async bytes => {
			mac.update(bytes);
			if (!response.write(bytes)) {
				await once(response, 'drain');
			}
			sent += bytes.length;
			// What is between us and the disk: in the downloader, and in the socket's buffers.
			const written = await stat(`${path}.part`).then(found => found.size, () => 0);
			most = Math.max(most, sent - written);
		};
		const piece = Buffer.alloc(256 * 1024, 7);
		for (let at = 0; at < size; at += piece.length) {
			await write(cipher.update(piece));
		}
		await write(cipher.final());
		response.end(mac.digest().subarray(0, 10));
	});
	const link = linkTo(server.host);
	const names = { media_key: mediaKey, file_sha256: null, file_enc_sha256: null };
	await new Media(link).fetch({ n: 1, kind: 'video', direct_path: '/x', path, limit: 0, ...names });
	assert.deepEqual([link.told[0].error, link.told[0].size, (await stat(path)).size], [null, size, size]);
	assert.ok(most < size / 4, `${Math.round(most / 1e6)} MB at once`);
});
