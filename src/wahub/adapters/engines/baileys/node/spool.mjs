// Received messages that the gateway has not stored yet: one file each, so that each is whole or absent.
//
// <spool>/<instance>/<16-digit sequence>: a byte that says how it is written, then msgpack (or the message's id in the clear,
// so that a lost key leaves a name for what is missing, then nonce, tag and AES-256-GCM of it). Written under another name,
// flushed and renamed. Sequences only grow, also over restarts: they start from the clock, in microseconds. A crash leaves
// `.part` files, which the next opening removes.
//
// Nothing is deleted that was not stored by the gateway. What cannot be read (another key, none, or damage) stands for a
// message that cannot be told: whoever loads it sets it aside as `.unreadable`. Each opening tries those again, for the right
// key may be back. What can be read and not told is `.untellable`, and stays so.

import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { mkdirSync, renameSync, unlinkSync, writeFileSync } from 'node:fs';
import { readdir, readFile, rename, stat, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Packr } from 'msgpackr';

const packr = new Packr({ useRecords: false, encodeUndefinedAsNil: true, int64AsType: 'number' });
const PLAIN = 0;
/** As written before ids stood in the clear. */
const NAMELESS = 1;
const NAMED = 2;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const LONGEST_ID = 255;
const NAME = /^(\d{16})(\.unreadable)?$/;
/** The gateway may have died before it wrote down that a message is missing: so long it is told anew at each opening. */
const TOLD_AGAIN_MS = 86_400_000;

export class Spool {
	/**
	 * @param {string} root
	 * @param {string} instance
	 * @param {Buffer | null} key 32 bytes, or null: not encrypted
	 * @param {boolean} flush whether a file must survive a loss of power
	 */
	constructor(root, instance, key, flush) {
		this.directory = join(root, instance);
		this.instance = instance;
		this.key = key;
		this.flush = flush;
		this.last = 0;
		this.made = false;
		/** What was read. @type {Set<number>} */
		this.opened = new Set();
	}

	nextSequence() {
		this.last = Math.max(this.last + 1, Date.now() * 1000);
		return this.last;
	}

	/**
	 * Without a flush this takes some 50 µs, the way through the thread pool and back ten times as long: so it is not gone.
	 * @param {number} seq @param {object} entry
	 */
	async write(seq, entry) {
		const name = String(seq).padStart(16, '0');
		const path = join(this.directory, name);
		if (!this.made) {
			mkdirSync(this.directory, { recursive: true, mode: 0o700 });
			this.made = true;
		}
		const part = `${path}.part`;
		const sealed = this.seal(name, entry);
		if (this.flush) {
			await writeFile(part, sealed, { mode: 0o600, flush: true });
		} else {
			writeFileSync(part, sealed, { mode: 0o600 });
		}
		renameSync(part, path);
	}

	/** @param {number} seq */
	async remove(seq) {
		try {
			unlinkSync(join(this.directory, String(seq).padStart(16, '0')));
		} catch (error) {
			ignoreMissing(error);
		}
	}

	/** Keep it, under another name. @param {number} seq @param {'foreign' | 'unreadable'} why */
	async setAside(seq, why) {
		const path = join(this.directory, String(seq).padStart(16, '0'));
		const ending = why === 'unreadable' && this.opened.has(seq) ? 'untellable' : why;
		await rename(path, `${path}.${ending}`).catch(ignoreMissing);
	}

	/**
	 * What is there, oldest first. An entry that cannot be read has an envelope without chat and sender, and no plaintext.
	 * @param {(problem: string) => void} report
	 * @returns {Promise<{seq: number, entry: object}[]>}
	 */
	async load(report) {
		const names = (await readdir(this.directory).catch(ignoreMissing)) ?? [];
		for (const part of names.filter(name => name.endsWith('.part'))) {
			await unlink(join(this.directory, part)).catch(ignoreMissing);
		}
		const entries = [];
		for (const [file, name, aside] of names.sort().map(name => name.match(NAME)).filter(Boolean)) {
			const seq = Number(name);
			this.last = Math.max(this.last, seq);
			const entry = await this.read(name, join(this.directory, file), aside !== undefined);
			if (entry) {
				entries.push({ seq, entry });
			}
		}
		if (!this.key && entries.some(({ entry }) => entry.encrypted)) {
			report('received messages are encrypted and WAHUB_ENCRYPTION_KEY is not set: they wait in the spool');
		}
		return entries;
	}

	/** @param {string} name @param {string} path @param {boolean} aside whether it was set aside before */
	async read(name, path, aside) {
		const bytes = await readFile(path);
		try {
			const entry = packr.unpack(this.unseal(name, bytes));
			if (!entry?.body && !entry?.plaintext) {
				throw new Error('no entry');
			}
			if (aside) {
				await rename(path, join(this.directory, name));
			}
			this.opened.add(Number(name));
			return entry;
		} catch {
			const isOld = aside && Date.now() - (await stat(path)).ctimeMs > TOLD_AGAIN_MS;
			return isOld ? null : unread(name, bytes);
		}
	}

	/** @param {string} name @param {{envelope?: {message_id: string}, body?: {message_id: string}}} entry */
	seal(name, entry) {
		const plain = packr.pack(entry);
		if (!this.key) {
			return Buffer.concat([Buffer.from([PLAIN]), plain]);
		}
		const id = Buffer.from((entry.envelope ?? entry.body)?.message_id ?? '');
		const known = id.length > LONGEST_ID ? Buffer.alloc(0) : id;
		const head = Buffer.concat([Buffer.from([NAMED, known.length]), known]);
		const nonce = randomBytes(NONCE_BYTES);
		const cipher = createCipheriv('aes-256-gcm', this.key, nonce).setAAD(this.bound(name, head));
		const sealed = Buffer.concat([cipher.update(plain), cipher.final()]);
		return Buffer.concat([head, nonce, cipher.getAuthTag(), sealed]);
	}

	unseal(name, bytes) {
		if (bytes[0] === PLAIN) {
			return bytes.subarray(1);
		}
		const head = headOf(bytes);
		const nonce = bytes.subarray(head.length, head.length + NONCE_BYTES);
		const rest = bytes.subarray(head.length + NONCE_BYTES);
		const decipher = createDecipheriv('aes-256-gcm', this.key, nonce).setAAD(this.bound(name, head));
		decipher.setAuthTag(rest.subarray(0, TAG_BYTES));
		return Buffer.concat([decipher.update(rest.subarray(TAG_BYTES)), decipher.final()]);
	}

	/** What stands in the clear and must not be changed: whose file this is, its name, its head. */
	bound(name, head) {
		const place = Buffer.from(`${this.instance}/${name}`);
		return head[0] === NAMED ? Buffer.concat([place, head]) : place;
	}
}

/** What comes before the nonce. @param {Buffer} bytes */
function headOf(bytes) {
	return bytes[0] === NAMED ? bytes.subarray(0, 2 + bytes[1]) : bytes.subarray(0, 1);
}

/** Stands for a message of which at most the id is known. */
function unread(name, bytes) {
	const encrypted = bytes[0] === NAMED || bytes[0] === NAMELESS;
	const id = bytes[0] === NAMED ? headOf(bytes).subarray(2).toString() : '';
	const timestamp = Math.floor(Number(name) / 1_000_000);
	const envelope = { message_id: id || `spool:${Number(name)}`, chat: '', sender: '', timestamp };
	return { key: `unread|${name}`, envelope, plaintext: null, encrypted };
}

function ignoreMissing(error) {
	if (error.code !== 'ENOENT') {
		throw error;
	}
}
