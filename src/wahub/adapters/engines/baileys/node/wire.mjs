// The frames between the gateway and this process: a 4-byte big-endian length, then a msgpack map whose `t` names the
// frame. The gateway's side is wire.py and framing.py; the frames in tests/fixtures/frames are checked against both.

import { Packr } from 'msgpackr';

export const PROTOCOL_VERSION = 5;

/** A longer frame is a broken peer, not a message. */
const MAX_FRAME_BYTES = 64 * 1024 * 1024;
const HEADER_BYTES = 4;

const packr = new Packr({ useRecords: false, encodeUndefinedAsNil: true, int64AsType: 'number' });

/** @param {{t: string}} frame @returns {Buffer} */
export function encodeFrame(frame) {
	const body = packr.pack(frame);
	const header = Buffer.allocUnsafe(HEADER_BYTES);
	header.writeUInt32BE(body.length, 0);
	return Buffer.concat([header, body]);
}

/** Cuts a byte stream into frames, however the bytes arrive. */
export class FrameReader {
	/** @param {(frame: object) => void} onFrame */
	constructor(onFrame) {
		this.onFrame = onFrame;
		this.rest = null;
	}

	/** @param {Buffer} chunk */
	push(chunk) {
		let data = this.rest ? Buffer.concat([this.rest, chunk]) : chunk;
		let offset = 0;
		while (data.length - offset >= HEADER_BYTES) {
			const length = data.readUInt32BE(offset);
			if (length > MAX_FRAME_BYTES) {
				throw new Error(`frame of ${length} bytes`);
			}
			const end = offset + HEADER_BYTES + length;
			if (data.length < end) {
				break;
			}
			this.onFrame(packr.unpack(data.subarray(offset + HEADER_BYTES, end)));
			offset = end;
		}
		this.rest = offset < data.length ? data.subarray(offset) : null;
	}
}

/** Sends frames; those of one turn of the event loop leave in one write. */
export class FrameWriter {
	/** @param {import('node:stream').Writable} stream */
	constructor(stream) {
		this.stream = stream;
		this.queue = [];
	}

	/** @param {{t: string}} frame */
	send(frame) {
		this.queue.push(encodeFrame(frame));
		if (this.queue.length === 1) {
			setImmediate(() => this.flush());
		}
	}

	flush() {
		const queue = this.queue;
		if (queue.length) {
			this.queue = [];
			this.stream.write(queue.length === 1 ? queue[0] : Buffer.concat(queue));
		}
	}
}
