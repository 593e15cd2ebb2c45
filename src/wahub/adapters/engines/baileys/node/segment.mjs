// A file of received messages that wait, and of those that no longer do: appended to, never changed.
//
// Record: length of the payload (4 bytes, little endian), sequence (8), payload, CRC-32 of all that (4). A record without
// payload says that the message of that sequence has left. What is appended is written at once, by a call that does not give
// the processor away; it survives the death of any process. `flush` also makes it survive a loss of power.
//
// One file for many messages, because to make one costs some 300 µs where many come and go (ext4 gives no number of a file
// away again for five seconds, and looks for another), an append 3 and a truncation 10.

import {
	closeSync, fdatasync, fstatSync, ftruncateSync, openSync, readFileSync, readSync, unlinkSync, writeSync
} from 'node:fs';
import { promisify } from 'node:util';
import { crc32 } from 'node:zlib';

const HEAD_BYTES = 12;
const CRC_BYTES = 4;
const LEAST_BYTES = HEAD_BYTES + CRC_BYTES;
/** Sequences are microseconds since 1970: these are of the years 2001 and 2255, and far from numbers that are not exact. */
const EARLIEST = 1_000_000_000_000_000;
export const LATEST = 9_000_000_000_000_000;
/** Bytes after which a link begins another file, so that one message that waits does not keep many that have left. */
export const MOST_BYTES = 256 * 1024;
const datasync = promisify(fdatasync);

export class Segment {
	/** An empty one, for whoever made it only. @param {string} path which must not exist */
	static create(path) {
		return new Segment(path, openSync(path, 'wx', 0o600));
	}

	/** One that an earlier link left. @param {string} path */
	static open(path) {
		return new Segment(path, openSync(path, 'r+'));
	}

	constructor(path, fd) {
		this.path = path;
		this.fd = fd;
		this.size = 0;
		/** Where the payloads stand of those that wait. @type {Map<number, {from: number, to: number, whole: boolean}>} */
		this.waiting = new Map();
		/** Those that left in this turn. @type {number[]} */
		this.struck = [];
		this.striking = null;
		this.closed = false;
	}

	/**
	 * Whether it is full, or somebody removed it: then what is appended would be gone with the process. To ask costs more
	 * than to append, so it is asked when nothing stands in it, as before nearly every message but those of a storm.
	 */
	get isOver() {
		return this.size >= MOST_BYTES || (this.size === 0 && fstatSync(this.fd).nlink === 0);
	}

	/** @param {number} seq @param {Buffer} payload not empty */
	append(seq, payload) {
		const from = this.size + HEAD_BYTES;
		this.put(record(seq, payload));
		this.waiting.set(seq, { from, to: from + payload.length, whole: true });
	}

	/**
	 * The message has left, or is kept elsewhere. When none waits, nothing is left of any. Those of one turn of the event loop
	 * are struck by one write, which is done when this settles; a crash before it brings them again.
	 * @param {number} seq
	 * @returns {Promise<void>}
	 */
	strike(seq) {
		this.waiting.delete(seq);
		this.struck.push(seq);
		this.striking ??= new Promise((resolve, reject) => {
			setImmediate(() => {
				try {
					resolve(this.settle());
				} catch (error) {
					reject(error);
				}
			});
		});
		return this.striking;
	}

	settle() {
		const struck = this.struck.splice(0);
		this.striking = null;
		if (this.closed || struck.length === 0) {
			return;
		}
		if (this.waiting.size === 0) {
			ftruncateSync(this.fd, 0);
			this.size = 0;
		} else {
			this.put(Buffer.concat(struck.map(seq => record(seq, Buffer.alloc(0)))));
		}
	}

	/** What was appended must survive a loss of power. */
	async flush() {
		await datasync(this.fd);
	}

	put(bytes) {
		try {
			let written = 0;
			while (written < bytes.length) {
				written += writeSync(this.fd, bytes, written, bytes.length - written, this.size + written);
			}
		} catch (error) {
			try {
				// Half a record would hide what is appended after it.
				ftruncateSync(this.fd, this.size);
			} catch {
				// The next one is written over it.
			}
			throw error;
		}
		this.size += bytes.length;
	}

	/**
	 * Those that wait, in the order they were written. `whole`: as it was written, as far as the CRC tells; each that is whole
	 * is found, whatever stands before it. What comes after the last record is cut off. If something other than zeros, which
	 * a loss of power leaves, says nothing at all, `keep` gets the file up to there before that.
	 * @param {(bytes: Buffer) => void} keep
	 * @returns {{seq: number, payload: Buffer, whole: boolean}[]}
	 */
	read(keep) {
		const bytes = readFileSync(this.fd);
		const used = bytes.findLastIndex(byte => byte !== 0) + 1;
		let at = 0;
		let lost = 0;
		/** Where the next record begins that is whole. */
		let ahead = 0;
		while (at < used) {
			let next = endOf(bytes, at);
			if (!isWhole(bytes, at, next)) {
				ahead = ahead > at ? ahead : nextWhole(bytes, at + 1);
				next = Math.min(next, ahead);
			}
			if (next === Infinity) {
				lost = bytes.length;
				break;
			}
			if (next - at < LEAST_BYTES || !this.take(bytes, at, next - CRC_BYTES)) {
				lost = next;
			}
			at = next;
		}
		if (lost > 0) {
			keep(bytes.subarray(0, lost));
		}
		ftruncateSync(this.fd, at);
		this.size = at;
		return [...this.waiting].map(([seq, { from, to, whole }]) => ({ seq, payload: bytes.subarray(from, to), whole }));
	}

	/** One record. @returns {boolean} whether it says anything, and takes no other's place */
	take(bytes, at, to) {
		const from = at + HEAD_BYTES;
		const seq = Number(bytes.readBigUInt64LE(at + 4));
		const whole = isWhole(bytes, at, to + CRC_BYTES);
		const isNew = !this.waiting.has(seq);
		if (!whole && (from === to || !isNew || seq < EARLIEST || seq > LATEST)) {
			return false;
		}
		if (from === to) {
			this.waiting.delete(seq);
			return true;
		}
		this.waiting.set(seq, { from, to, whole });
		return isNew;
	}

	/** @param {number} seq that waits here */
	payloadOf(seq) {
		const { from, to } = this.waiting.get(seq);
		const payload = Buffer.alloc(to - from);
		readSync(this.fd, payload, 0, payload.length, from);
		return payload;
	}

	close() {
		try {
			this.settle();
		} catch {
			// Those come again.
		}
		this.closed = true;
		try {
			closeSync(this.fd);
		} catch {
			// It is closed all the same, and a link must be able to end.
		}
	}

	/** This link is done with it: what waits stays for the next one. */
	end() {
		return this.waiting.size === 0 ? this.remove() : this.close();
	}

	/** None waits. A file that stays all the same goes when the next link opens. */
	remove() {
		this.close();
		try {
			unlinkSync(this.path);
		} catch {
			// Somebody removed it.
		}
	}
}

/** Where the record that begins there says that it ends; Infinity if that is not in the file. */
function endOf(bytes, at) {
	const end = bytes.length - at < LEAST_BYTES ? Infinity : at + LEAST_BYTES + bytes.readUInt32LE(at);
	return end > bytes.length ? Infinity : end;
}

function isWhole(bytes, at, end) {
	return end !== Infinity && crc32(bytes.subarray(at, end - CRC_BYTES)) === bytes.readUInt32LE(end - CRC_BYTES);
}

/** Where the first whole record from there on begins; Infinity if there is none. */
function nextWhole(bytes, from) {
	for (let at = from; at + LEAST_BYTES <= bytes.length; at++) {
		const seq = bytes.readUInt32LE(at + 8) * 2 ** 32 + bytes.readUInt32LE(at + 4);
		if (seq >= EARLIEST && seq <= LATEST && isWhole(bytes, at, endOf(bytes, at))) {
			return at;
		}
	}
	return Infinity;
}

function record(seq, payload) {
	const bytes = Buffer.allocUnsafe(HEAD_BYTES + payload.length + CRC_BYTES);
	bytes.writeUInt32LE(payload.length, 0);
	bytes.writeBigUInt64LE(BigInt(seq), 4);
	payload.copy(bytes, HEAD_BYTES);
	const end = HEAD_BYTES + payload.length;
	bytes.writeUInt32LE(crc32(bytes.subarray(0, end)), end);
	return bytes;
}
