// A file of received messages that wait, and of those that no longer do: appended to, never changed.
//
// Record: length of the payload (4 bytes, little endian), sequence (8), payload, CRC-32 of all that (4). A record without
// payload says that the message of that sequence has left. What is appended is written at once, by a call that does not give
// the processor away; it survives the death of any process. `flush` also makes it survive a loss of power.
//
// One file for many messages, because to make one costs some 300 µs where many come and go (ext4 gives no number of a file
// away again for five seconds, and looks for another), an append 3 and a truncation 10.

import { closeSync, fdatasync, ftruncateSync, openSync, readFileSync, unlinkSync, writeSync } from 'node:fs';
import { promisify } from 'node:util';
import { crc32 } from 'node:zlib';

const HEAD_BYTES = 12;
const CRC_BYTES = 4;
/** Microseconds since 1970, for the next 200 years. */
const SEQUENCE_DIGITS = 16;
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
	}

	get isFull() {
		return this.size >= MOST_BYTES;
	}

	/** @param {number} seq @param {Buffer} payload not empty */
	append(seq, payload) {
		const from = this.size + HEAD_BYTES;
		this.put(record(seq, payload));
		this.waiting.set(seq, { from, to: from + payload.length, whole: true });
	}

	/** The message has left, or is kept elsewhere. When none waits, nothing is left of any. @param {number} seq */
	strike(seq) {
		this.waiting.delete(seq);
		if (this.waiting.size === 0) {
			ftruncateSync(this.fd, 0);
			this.size = 0;
		} else {
			this.put(record(seq, Buffer.alloc(0)));
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
	 * Those that wait, in the order they were written. `whole`: as it was written, as far as the CRC tells. What comes after
	 * the last record is cut off; if it, or a record, says nothing at all, the file is `damaged`, and `keep` gets it before.
	 * @param {(bytes: Buffer) => void} keep
	 * @returns {{seq: number, payload: Buffer, whole: boolean}[]}
	 */
	read(keep) {
		const bytes = readFileSync(this.fd);
		let at = 0;
		let damaged = false;
		for (let next = endOf(bytes, at); next !== null; next = endOf(bytes, at)) {
			damaged = !this.take(bytes, at, next - CRC_BYTES) || damaged;
			at = next;
		}
		if (damaged || bytes.subarray(at).some(byte => byte !== 0)) {
			keep(bytes);
		}
		ftruncateSync(this.fd, at);
		this.size = at;
		return [...this.waiting].map(([seq, { from, to, whole }]) => ({ seq, payload: bytes.subarray(from, to), whole }));
	}

	/** One record. @returns {boolean} whether it says anything */
	take(bytes, at, to) {
		const from = at + HEAD_BYTES;
		const seq = Number(bytes.readBigUInt64LE(at + 4));
		const whole = crc32(bytes.subarray(at, to)) === bytes.readUInt32LE(to);
		if (!whole && (from === to || this.waiting.has(seq) || String(seq).length !== SEQUENCE_DIGITS)) {
			return false;
		}
		if (from === to) {
			this.waiting.delete(seq);
		} else {
			this.waiting.set(seq, { from, to, whole });
		}
		return true;
	}

	/** @param {number} seq that waits here */
	payloadOf(seq) {
		const { from, to } = this.waiting.get(seq);
		return readFileSync(this.path).subarray(from, to);
	}

	close() {
		closeSync(this.fd);
	}

	/** None waits. */
	remove() {
		this.close();
		unlinkSync(this.path);
	}
}

/** Where the record that begins there ends; null if it does not end. */
function endOf(bytes, at) {
	if (bytes.length - at < HEAD_BYTES + CRC_BYTES) {
		return null;
	}
	const end = at + HEAD_BYTES + bytes.readUInt32LE(at) + CRC_BYTES;
	return end > bytes.length ? null : end;
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
