// Received messages that the gateway has not stored yet.
//
// <spool>/<instance>/<16-digit sequence>.log: messages, one after the other, and which of them have left (segment.mjs). Each is
// a byte that says how it is written, then msgpack (or the message's id in the clear, so that a lost key leaves a name for what
// is missing, then nonce, tag and AES-256-GCM of it). Sequences only grow, also over restarts: they start from the clock, in
// microseconds. A link appends to files of its own; those of earlier links are removed when all in them have left.
//
// Nothing is deleted that was not stored by the gateway. What cannot be read (another key, none, or damage) stands for a
// message that cannot be told: whoever loads it sets it aside, in a file of its own, <sequence>.unreadable. Each opening tries
// those again, for the right key may be back. What can be read and not told is `.untellable`, and stays so; of a file
// parts of which say nothing at all a copy stays, `.damaged`. Earlier versions kept each message in a file of its own.

import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { readdir, readFile, rename, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { Packr } from 'msgpackr';
import { LATEST, Segment } from './segment.mjs';

const packr = new Packr({ useRecords: false, encodeUndefinedAsNil: true, int64AsType: 'number' });
const PLAIN = 0;
/** As written before ids stood in the clear. */
const NAMELESS = 1;
const NAMED = 2;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const LONGEST_ID = 255;
const FILE = /^(\d{16})(\.unreadable)?$/;
const SEGMENT = /^\d{16}\.log$/;
/** It is there, and not for us; trying again soon would change nothing. */
const NO_ENTRY = new Set(['EACCES', 'EISDIR', 'ENOENT', 'EPERM']);
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
		/** Where this link appends. @type {Segment | null} */
		this.segment = null;
		/** Where each message waits; those of earlier versions, and those set aside, have files of their own. @type {Map<number, Segment>} */
		this.places = new Map();
		/** What must not be tried again. @type {Set<number>} */
		this.settled = new Set();
		this.closed = false;
	}

	nextSequence() {
		this.last = Math.max(this.last + 1, Date.now() * 1000);
		return this.last;
	}

	/**
	 * It is there when this settles; after an error, perhaps.
	 * @param {number} seq @param {object} entry
	 */
	async write(seq, entry) {
		const sealed = this.seal(nameOf(seq), entry);
		const segment = this.open(seq);
		segment.append(seq, sealed);
		this.places.set(seq, segment);
		if (this.flush) {
			await segment.flush();
		}
	}

	/** The file to append to. */
	open(seq) {
		if (this.closed) {
			throw new Error('link closed');
		}
		if (!this.segment || this.segment.isOver) {
			const before = this.segment;
			mkdirSync(this.directory, { recursive: true, mode: 0o700 });
			this.segment = Segment.create(join(this.directory, `${nameOf(seq)}.log`));
			if (before) {
				this.let(before);
			}
		}
		return this.segment;
	}

	/** @param {number} seq */
	async remove(seq) {
		const segment = this.places.get(seq);
		if (segment) {
			this.places.delete(seq);
			const struck = segment.strike(seq);
			this.let(segment);
			await struck;
		} else {
			await unlink(join(this.directory, nameOf(seq))).catch(ignoreMissing);
		}
	}

	/** A file to which nothing is appended any more goes with its last message. @param {Segment} segment */
	let(segment) {
		if (segment.waiting.size === 0 && segment !== this.segment) {
			segment.remove();
		}
	}

	/** Keep it, in a file of its own. @param {number} seq @param {'foreign' | 'unreadable'} why */
	async setAside(seq, why) {
		const ending = why === 'unreadable' && this.settled.has(seq) ? 'untellable' : why;
		const path = join(this.directory, nameOf(seq));
		const segment = this.places.get(seq);
		if (segment) {
			const part = `${path}.${ending}.part`;
			try {
				writeFileSync(part, segment.payloadOf(seq), { mode: 0o600, flush: this.flush });
				renameSync(part, `${path}.${ending}`);
			} catch {
				return; // A full disk keeps no link from opening: it stays where it waits, and the next one tries again.
			}
			await this.remove(seq);
		} else {
			await rename(path, `${path}.${ending}`).catch(ignoreMissing);
		}
	}

	/**
	 * What is there, oldest first. An entry that cannot be read has an envelope without chat and sender, and no plaintext.
	 * @param {(problem: string) => void} report
	 * @returns {Promise<{seq: number, entry: object}[]>}
	 */
	async load(report) {
		const names = ((await readdir(this.directory).catch(ignoreMissing)) ?? []).sort();
		for (const part of names.filter(name => name.endsWith('.part'))) {
			await unlink(join(this.directory, part)).catch(() => {}); // it stays, and says nothing
		}
		const entries = [];
		for (const file of names.filter(name => SEGMENT.test(name) || FILE.test(name))) {
			entries.push(...(await this.loadAny(file, report)));
		}
		entries.sort((one, other) => one.seq - other.seq);
		const known = [...names.map(name => Number.parseInt(name, 10)), ...entries.map(({ seq }) => seq)];
		this.last = known.reduce((last, seq) => (seq > last && seq <= LATEST ? seq : last), this.last);
		if (!this.key && entries.some(({ entry }) => entry.encrypted)) {
			report('received messages are encrypted and WAHUB_ENCRYPTION_KEY is not set: they wait in the spool');
		}
		return entries;
	}

	/** What cannot even be opened must not keep the link from opening. @param {string} file */
	async loadAny(file, report) {
		try {
			if (this.closed) {
				return []; // meanwhile: nobody would close the file
			}
			return SEGMENT.test(file) ? this.loadSegment(file, report) : await this.loadFile(...file.match(FILE));
		} catch (error) {
			if (!NO_ENTRY.has(error.code)) {
				throw error;
			}
			report(`a file in the spool cannot be opened: what waits there is not told (${error.code})`);
			return [];
		}
	}

	/** @param {string} file @param {(problem: string) => void} report */
	loadSegment(file, report) {
		const segment = Segment.open(join(this.directory, file));
		const records = this.read(segment, bytes => {
			report('a file of received messages is damaged: a copy stays in the spool, as .damaged');
			// Damage that is found again makes the same copy; no copy takes the place of another.
			const copy = `${segment.path}.${crc32(bytes).toString(16)}.damaged`;
			writeFileSync(copy, bytes, { mode: 0o600, flush: this.flush });
		});
		const entries = records.map(({ seq, payload, whole }) => {
			this.places.set(seq, segment);
			const entry = whole ? this.unpack(nameOf(seq), payload) : null;
			if (entry || !whole) {
				this.settled.add(seq);
			}
			return { seq, entry: entry ?? unread(nameOf(seq), payload) };
		});
		this.let(segment);
		return entries;
	}

	read(segment, keep) {
		try {
			return segment.read(keep);
		} catch (error) {
			segment.close();
			throw error;
		}
	}

	/** @param {string} file @param {string} name @param {string | undefined} aside whether it was set aside before */
	async loadFile(file, name, aside) {
		const path = join(this.directory, file);
		const bytes = await readFile(path);
		const entry = this.unpack(name, bytes);
		if (entry) {
			if (aside) {
				await rename(path, join(this.directory, name));
			}
			this.settled.add(Number(name));
			return [{ seq: Number(name), entry }];
		}
		const isOld = aside && Date.now() - (await stat(path)).ctimeMs > TOLD_AGAIN_MS;
		return isOld ? [] : [{ seq: Number(name), entry: unread(name, bytes) }];
	}

	/** @param {string} name @param {Buffer} payload @returns {object | null} null: it cannot be read */
	unpack(name, payload) {
		try {
			const entry = packr.unpack(this.unseal(name, payload));
			return entry?.body || entry?.plaintext ? entry : null;
		} catch {
			return null;
		}
	}

	/** Nothing is written or removed any more. What waits stays. */
	close() {
		this.closed = true;
		new Set([this.segment, ...this.places.values()]).forEach(segment => segment?.end());
		this.segment = null;
		this.places.clear();
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

function nameOf(seq) {
	return String(seq).padStart(16, '0');
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
