// The key store that Baileys sees; the truth is the gateway's database, asked and written over the pipe.
//
// Promised: changes are written in the order they were made, credentials included, one batch at a time, each batch whole or
// not at all; and **no frame leaves before every change that was made before it is durable**. While a link has a socket,
// `set` does not wait for that: what is written to the socket does (gate.mjs), so a step of a ratchet and the frame that
// depends on it keep their order, and the next message is read meanwhile. Without a socket `set` resolves when the change
// is durable. What is waiting when a batch is answered goes out together. If a batch fails, the link is ended at once
// (`onFailure`): nothing that depends on the lost step can reach the socket.
//
// What is not written yet is read from here. The cache holds what was read or written last, absent entries too (this link
// is the only writer under its lease), but never one-time pre-keys. A crash loses both only.

import { BufferJSON, proto } from 'baileys';

const CACHE_ENTRIES = 200;
/** Changes that wait before whoever makes another waits, too. */
const MOST_WAITING = 128;
const NEVER_CACHED = new Set(['pre-key']);
/** Kinds whose readers change what they get: cached as bytes, so that each reader has its own. */
const SHARED_SAFELY = new Set(['session', 'identity-key', 'lid-mapping']);
const CREDENTIALS = { kind: 'creds', id: '' };

/** The text that `useMultiFileAuthState` would put into the entry's file. */
export const encodeValue = value => Buffer.from(JSON.stringify(value, BufferJSON.replacer), 'utf8');

/** @param {Buffer} bytes */
export function decodeValue(kind, bytes) {
	const value = JSON.parse(bytes.toString('utf8'), BufferJSON.reviver);
	return kind === 'app-state-sync-key' && value ? proto.Message.AppStateSyncKeyData.fromObject(value) : value;
}

export class KeyStore {
	/**
	 * @param {{
	 *   read: (names: [string, string][]) => Promise<[string, string, Buffer][]>,
	 *   write: (changes: [string, string, Buffer | null][]) => Promise<void>,
	 *   onFailure: (error: Error) => void,
	 *   hold?: (until: Promise<void>) => boolean,
	 * }} pipe `hold`: keeps back what is written to the socket; false when there is none
	 */
	constructor(pipe) {
		this.pipe = pipe;
		this.cache = new Map();
		/** The last change of each entry that is not durable. @type {Map<string, {kind: string, id: string, value: unknown}>} */
		this.unwritten = new Map();
		this.writes = 0;
		/** What goes out next, in one batch; `sets`: how many times it grew. @type {Batch | null} */
		this.waiting = null;
		this.running = null;
		/** Why a batch could not be written; what was changed after it must not be durable without it. @type {Error | null} */
		this.lost = null;
		this.creds = null;
		/** Settles when what was changed until now is durable. */
		this.stored = Promise.resolve();
	}

	/** @param {string} kind @param {string[]} ids */
	async get(kind, ids) {
		const found = {};
		const missing = [];
		for (const id of ids) {
			const key = `${kind}\0${id}`;
			if (this.unwritten.has(key)) {
				const { value } = this.unwritten.get(key);
				if (value !== null) {
					found[id] = SHARED_SAFELY.has(kind) ? value : decodeValue(kind, encodeValue(value));
				}
			} else if (this.cache.has(key)) {
				const value = this.cache.get(key);
				this.remember(key, value);
				if (value !== null) {
					found[id] = SHARED_SAFELY.has(kind) ? value : decodeValue(kind, value);
				}
			} else {
				missing.push(id);
			}
		}
		if (missing.length) {
			const before = this.writes;
			const rows = await this.pipe.read(missing.map(id => [kind, id]));
			const stored = new Map(rows.map(([, id, bytes]) => [id, bytes]));
			for (const id of missing) {
				const bytes = stored.get(id) ?? null;
				const value = bytes && decodeValue(kind, bytes);
				if (value !== null) {
					found[id] = value;
				}
				// A write that began meanwhile may be newer than what was read.
				if (before === this.writes && !this.running && !NEVER_CACHED.has(kind)) {
					this.remember(`${kind}\0${id}`, SHARED_SAFELY.has(kind) ? value : bytes && Buffer.from(bytes));
				}
			}
		}
		return found;
	}

	/**
	 * @param {Record<string, Record<string, unknown>>} data
	 * @returns {Promise<void>} resolves at once if frames wait for the change, else when it is durable
	 */
	set(data) {
		const changes = new Map();
		for (const kind in data) {
			for (const id in data[kind]) {
				changes.set(`${kind}\0${id}`, { kind, id, value: data[kind][id] ?? null });
			}
		}
		const durable = this.enqueue(changes);
		const held = changes.size > 0 && this.pipe.hold?.(durable);
		return held && (this.waiting?.sets ?? 0) < MOST_WAITING ? Promise.resolve() : durable;
	}

	/** Write the credentials as they are when their turn comes. */
	saveCreds(creds) {
		this.creds = creds;
		return this.enqueue(new Map([['creds\0', { ...CREDENTIALS, value: creds }]]));
	}

	enqueue(changes) {
		if (changes.size === 0) {
			return Promise.resolve();
		}
		if (this.lost) {
			return Promise.reject(this.lost);
		}
		this.writes += 1;
		this.waiting ??= { changes: new Map(), sets: 0, ...Promise.withResolvers() };
		const batch = this.waiting;
		batch.sets += 1;
		changes.forEach((change, key) => {
			this.unwritten.set(key, change);
			batch.changes.set(key, change);
		});
		this.running ??= this.drain();
		this.stored = batch.promise;
		return batch.promise;
	}

	async drain() {
		// The other encryptions of this message finish within this turn of the event loop; their steps join the batch.
		await new Promise(setImmediate);
		while (this.waiting) {
			const batch = this.waiting;
			this.waiting = null;
			const { changes } = batch;
			changes.forEach(change => (change.bytes = change.value === null ? null : encodeValue(change.value)));
			try {
				await this.pipe.write([...changes.values()].map(({ kind, id, bytes }) => [kind, id, bytes]));
			} catch (error) {
				this.lost = error;
				this.cache.clear();
				this.pipe.onFailure(error);
				batch.reject(error);
				this.waiting?.reject(error);
				this.waiting = null;
				break;
			}
			changes.forEach((change, key) => {
				const { kind, value, bytes } = change;
				if (this.unwritten.get(key) === change) {
					this.unwritten.delete(key);
				}
				if (kind !== CREDENTIALS.kind && !NEVER_CACHED.has(kind)) {
					this.remember(key, SHARED_SAFELY.has(kind) ? value : bytes);
				}
			});
			batch.resolve();
		}
		this.running = null;
	}

	remember(key, value) {
		this.cache.delete(key);
		this.cache.set(key, value);
		if (this.cache.size > CACHE_ENTRIES) {
			this.cache.delete(this.cache.keys().next().value);
		}
	}

	/** Resolves when nothing waits to be written. */
	async idle() {
		while (this.running) {
			await this.running;
		}
	}
}

/** @typedef {{changes: Map<string, object>, sets: number, promise: Promise<void>, resolve: () => void, reject: (error: Error) => void}} Batch */
