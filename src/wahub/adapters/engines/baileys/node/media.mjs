// Files that messages name: downloaded, decrypted and checked, and written to where the gateway wants them.
//
// Promised: a file has its final name only when all of it is there and is what the message says (MAC, and the hashes of
// both forms where the message gives them; Baileys' own downloader checks none of them). It passes through in pieces: a
// large file costs no memory. The address never comes from the sender, who could point it anywhere: the server says which
// hosts have media, the message only the path there, and redirects are not followed.
// Source: Baileys Utils/messages-media.js (getMediaKeys, downloadEncryptedContent); whatsmeow download.go, mediaconn.go.

import { createDecipheriv, createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { rename, unlink } from 'node:fs/promises';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { DEFAULT_ORIGIN, getBinaryNodeChild, getBinaryNodeChildren, getMediaKeys, S_WHATSAPP_NET } from 'baileys';
import { Places } from './places.mjs';

const AT_ONCE = 4;
/** Nothing came for so long: this host is given up. */
const STALL_MS = 30_000;
/** However slowly it comes. */
const LONGEST_MS = 30 * 60_000;
const HOSTS_PATIENCE_MS = 10_000;
const MOST_HOSTS = 3;
const MAC_BYTES = 10;
/** An encrypted file is longer than the file by the MAC and at most one block of padding. */
const OVERHEAD_BYTES = MAC_BYTES + 16;
const HOST = /^[a-z0-9.-]+(:\d{1,5})?$/i;
/** The server's name of each kind of file in the address. */
const PATH_TYPES = { sticker: 'image' };

/** Why there is no file, as one of the words of the frame `fetched`. */
class MediaError extends Error {
	/** @param {string} word @param {boolean} elsewhere whether another host may have it */
	constructor(word, elsewhere = false) {
		super(word);
		this.elsewhere = elsewhere;
	}
}

export class Media {
	/**
	 * @param {{
	 *   isOpen: () => boolean,
	 *   query: (node: object, timeoutMs: number) => Promise<object>,
	 *   dispatcher: () => object | undefined,
	 *   tell: (type: string, fields: object) => void,
	 *   now: () => number,
	 * }} link `dispatcher`: the way out through the account's proxy
	 */
	constructor(link, stallMs = STALL_MS) {
		this.link = link;
		this.stallMs = stallMs;
		this.places = new Places(AT_ONCE);
		this.ending = new AbortController();
		/** Where media is, and until when that holds. @type {{hosts: string[], until: number}} */
		this.known = { hosts: [], until: -Infinity };
		/** @type {Promise<string[]> | null} */
		this.asking = null;
	}

	/**
	 * Answered by `fetched`, whatever happens, unless the link ends first.
	 * @param {{
	 *   n: number, kind: string, direct_path: string, media_key: Buffer, file_sha256: Buffer | null,
	 *   file_enc_sha256: Buffer | null, path: string, limit: number,
	 * }} frame `limit` in bytes, 0 for none
	 */
	async fetch(frame) {
		const release = await this.places.take();
		try {
			this.link.tell('fetched', { n: frame.n, error: null, ...(await this.download(frame)) });
		} catch (error) {
			const word = this.ending.signal.aborted ? 'not_open' : error instanceof MediaError ? error.message : 'failed';
			this.link.tell('fetched', { n: frame.n, error: word, size: 0, sha256: '' });
		} finally {
			release();
		}
	}

	/** The link ends: so do its downloads. */
	close() {
		this.ending.abort();
	}

	async download(frame) {
		if (this.ending.signal.aborted || !this.link.isOpen()) {
			throw new MediaError('not_open');
		}
		if (!frame.direct_path.startsWith('/')) {
			throw new MediaError('refused');
		}
		const part = `${frame.path}.part`;
		try {
			const opened = await this.fromAnyHost(frame, part);
			await rename(part, frame.path);
			return { size: opened.size, sha256: opened.sha256 };
		} catch (error) {
			await unlink(part).catch(() => {});
			throw error;
		}
	}

	async fromAnyHost(frame, part) {
		let failure = new MediaError('unreachable');
		for (const host of await this.hosts()) {
			try {
				return await this.from(host, frame, part);
			} catch (error) {
				if (!error.elsewhere || this.ending.signal.aborted) {
					throw error;
				}
				failure = error;
			}
		}
		throw failure;
	}

	/** Download from one host into the file `part`. */
	async from(host, frame, part) {
		const stall = new Stall(this.stallMs);
		const signal = AbortSignal.any([this.ending.signal, stall.signal, AbortSignal.timeout(LONGEST_MS)]);
		const opening = new Opening(await getMediaKeys(frame.media_key, frame.kind), frame, () => stall.moved());
		try {
			const body = await this.request(addressOf(host, frame), signal, opening.most);
			await pipeline(Readable.fromWeb(body), opening, createWriteStream(part, { mode: 0o600 }), { signal });
			return opening;
		} catch (error) {
			throw error instanceof MediaError || isOfDisk(error) ? error : new MediaError('unreachable', true);
		} finally {
			stall.close();
		}
	}

	/** @returns {Promise<ReadableStream>} */
	async request(address, signal, most) {
		const dispatcher = this.link.dispatcher();
		const answer = await fetch(address, {
			headers: { origin: DEFAULT_ORIGIN, 'accept-encoding': 'identity' },
			redirect: 'manual',
			signal,
			...(dispatcher ? { dispatcher } : {})
		});
		const word = refusalOf(answer, most);
		if (word) {
			await answer.body?.cancel();
			throw new MediaError(word, answer.status >= 500);
		}
		return answer.body;
	}

	/**
	 * Where media is, by the server. Asked here and not by Baileys' `refreshMediaConn`: that one stays broken for the rest of
	 * the link when the server once did not answer.
	 * @returns {Promise<string[]>}
	 */
	async hosts() {
		if (this.link.now() < this.known.until) {
			return this.known.hosts;
		}
		this.asking ??= this.askHosts().finally(() => (this.asking = null));
		return this.asking;
	}

	async askHosts() {
		const attrs = { type: 'set', xmlns: 'w:m', to: S_WHATSAPP_NET };
		const question = { tag: 'iq', attrs, content: [{ tag: 'media_conn', attrs: {} }] };
		const answer = await this.link.query(question, HOSTS_PATIENCE_MS).catch(() => undefined);
		const found = answer && getBinaryNodeChild(answer, 'media_conn');
		const names = found ? getBinaryNodeChildren(found, 'host').map(child => child.attrs.hostname ?? '') : [];
		const hosts = names.filter(name => HOST.test(name)).slice(0, MOST_HOSTS);
		if (!hosts.length) {
			throw new MediaError('unreachable');
		}
		this.known = { hosts, until: this.link.now() + (Number(found.attrs.ttl) || 0) * 1000 };
		return hosts;
	}
}

/** Checks and decrypts what passes through: ciphertext in, the file out. */
class Opening extends Transform {
	/** @param {{iv: Buffer, cipherKey: Buffer, macKey: Buffer}} keys @param {object} frame @param {() => void} moved */
	constructor({ iv, cipherKey, macKey }, { limit, file_sha256: fileHash, file_enc_sha256: sealedHash }, moved) {
		super();
		this.moved = moved;
		this.most = limit || Infinity;
		this.expected = { fileHash, sealedHash };
		this.decipher = createDecipheriv('aes-256-cbc', cipherKey, iv);
		this.mac = createHmac('sha256', macKey).update(iv);
		this.sealedHash = createHash('sha256');
		this.fileHash = createHash('sha256');
		/** The last bytes so far: the MAC, if nothing follows. */
		this.tail = Buffer.alloc(0);
		this.received = 0;
		this.size = 0;
		this.sha256 = null;
	}

	_transform(chunk, _encoding, done) {
		this.moved();
		this.received += chunk.length;
		if (this.received > this.most + OVERHEAD_BYTES) {
			done(new MediaError('too_large'));
			return;
		}
		this.sealedHash.update(chunk);
		if (chunk.length < MAC_BYTES) {
			const bytes = Buffer.concat([this.tail, chunk]);
			const end = Math.max(bytes.length - MAC_BYTES, 0);
			this.tail = bytes.subarray(end);
			done(this.open(bytes.subarray(0, end)));
			return;
		}
		const failure = this.open(this.tail) ?? this.open(chunk.subarray(0, -MAC_BYTES));
		// A copy: a piece of the chunk would keep all of it.
		this.tail = Buffer.from(chunk.subarray(-MAC_BYTES));
		done(failure);
	}

	/** @param {Buffer} ciphertext */
	open(ciphertext) {
		this.mac.update(ciphertext);
		return this.hand(this.decipher.update(ciphertext));
	}

	_flush(done) {
		const mac = this.mac.digest().subarray(0, MAC_BYTES);
		const whole = this.tail.length === MAC_BYTES && timingSafeEqual(mac, this.tail);
		if (!whole || !agrees(this.expected.sealedHash, this.sealedHash.digest())) {
			done(new MediaError('damaged'));
			return;
		}
		let last;
		try {
			last = this.decipher.final();
		} catch {
			done(new MediaError('damaged'));
			return;
		}
		const failure = this.hand(last);
		const digest = this.fileHash.digest();
		this.sha256 = digest.toString('hex');
		done(failure ?? (agrees(this.expected.fileHash, digest) ? null : new MediaError('damaged')));
	}

	/** @param {Buffer} bytes of the file */
	hand(bytes) {
		this.size += bytes.length;
		if (this.size > this.most) {
			return new MediaError('too_large');
		}
		this.fileHash.update(bytes);
		this.push(bytes);
		return null;
	}
}

/** Aborts when nothing moved for a time. */
class Stall {
	constructor(ms) {
		this.controller = new AbortController();
		this.timer = setTimeout(() => this.controller.abort(), ms);
	}

	get signal() {
		return this.controller.signal;
	}

	moved() {
		this.timer.refresh();
	}

	close() {
		clearTimeout(this.timer);
	}
}

function agrees(expected, found) {
	return !expected?.length || (expected.length === found.length && timingSafeEqual(expected, found));
}

/** As the apps ask: the hash of the encrypted file and its kind, after what the path says. It may be signed: it stays as it is. */
function addressOf(host, { direct_path: path, file_enc_sha256: hash, kind }) {
	const named = hash?.length ? `hash=${hash.toString('base64url')}&` : '';
	return `https://${host}${path}${path.includes('?') ? '&' : '?'}${named}mms-type=${PATH_TYPES[kind] ?? kind}`;
}

/** The word for an answer that brings no file, or null. */
function refusalOf({ status, body, headers }, most) {
	if (status === 404 || status === 410) {
		return 'gone';
	}
	if (status !== 200 || !body) {
		return 'refused';
	}
	return Number(headers.get('content-length') ?? 0) > most + OVERHEAD_BYTES ? 'too_large' : null;
}

function isOfDisk(error) {
	return typeof error?.code === 'string' && ['open', 'write', 'close'].includes(error.syscall);
}
