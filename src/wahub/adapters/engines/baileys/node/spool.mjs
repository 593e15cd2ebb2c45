// Received messages that the gateway has not stored yet: one file each, so that each is whole or absent.
//
// <spool>/<instance>/<16-digit sequence>: a byte that says whether it is encrypted, then msgpack (or nonce, tag and
// AES-256-GCM of it). Written under another name, flushed and renamed. Sequences only grow, also over restarts: they start
// from the clock. Files that cannot be read are renamed to `.unreadable` and reported, never deleted; encrypted ones stay
// where they are while no key is set. A crash leaves `.part` files, which the next opening removes.

import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { mkdirSync, renameSync, unlinkSync, writeFileSync } from 'node:fs';
import { readdir, readFile, rename, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Packr } from 'msgpackr';

const packr = new Packr({ useRecords: false, encodeUndefinedAsNil: true, int64AsType: 'number' });
const PLAIN = 0;
const ENCRYPTED = 1;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const NAME = /^\d{16}$/;

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
		const sealed = this.seal(name, packr.pack(entry));
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

	/** Keep it, under a name that is not read any more. @param {number} seq @param {string} why the ending of that name */
	async setAside(seq, why) {
		const path = join(this.directory, String(seq).padStart(16, '0'));
		await rename(path, `${path}.${why}`).catch(ignoreMissing);
	}

	/**
	 * What is there, oldest first.
	 * @param {(problem: string) => void} report
	 * @returns {Promise<{seq: number, entry: object}[]>}
	 */
	async load(report) {
		const names = await readdir(this.directory).catch(ignoreMissing);
		const entries = [];
		for (const name of (names ?? []).sort()) {
			const path = join(this.directory, name);
			if (name.endsWith('.part')) {
				await unlink(path).catch(ignoreMissing);
			} else if (NAME.test(name)) {
				this.last = Math.max(this.last, Number(name));
				const entry = await this.read(name, path, report);
				if (entry) {
					entries.push({ seq: Number(name), entry });
				}
			}
		}
		return entries;
	}

	async read(name, path, report) {
		const bytes = await readFile(path);
		if (bytes[0] === ENCRYPTED && !this.key) {
			report('a received message is encrypted and WAHUB_ENCRYPTION_KEY is not set: it waits in the spool');
			return null;
		}
		try {
			return packr.unpack(this.unseal(name, bytes));
		} catch {
			await rename(path, `${path}.unreadable`).catch(ignoreMissing);
			report('a received message in the spool cannot be read: set aside as .unreadable');
			return null;
		}
	}

	seal(name, plain) {
		if (!this.key) {
			return Buffer.concat([Buffer.from([PLAIN]), plain]);
		}
		const nonce = randomBytes(NONCE_BYTES);
		const cipher = createCipheriv('aes-256-gcm', this.key, nonce).setAAD(Buffer.from(`${this.instance}/${name}`));
		const sealed = Buffer.concat([cipher.update(plain), cipher.final()]);
		return Buffer.concat([Buffer.from([ENCRYPTED]), nonce, cipher.getAuthTag(), sealed]);
	}

	unseal(name, bytes) {
		if (bytes[0] === PLAIN) {
			return bytes.subarray(1);
		}
		const nonce = bytes.subarray(1, 1 + NONCE_BYTES);
		const tag = bytes.subarray(1 + NONCE_BYTES, 1 + NONCE_BYTES + TAG_BYTES);
		const cipher = createDecipheriv('aes-256-gcm', this.key, nonce).setAAD(Buffer.from(`${this.instance}/${name}`));
		cipher.setAuthTag(tag);
		return Buffer.concat([cipher.update(bytes.subarray(1 + NONCE_BYTES + TAG_BYTES)), cipher.final()]);
	}
}

function ignoreMissing(error) {
	if (error.code !== 'ENOENT') {
		throw error;
	}
}
