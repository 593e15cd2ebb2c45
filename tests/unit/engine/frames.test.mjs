// The engine's end of the shared example frames; run by test_frames.py. RECORD=1 writes what the engine sends anew.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';

const { encodeFrame, FrameReader, FrameWriter } = await import(
	pathToFileURL(join(process.env.ENGINE_DIRECTORY, 'wire.mjs')).href
);
const directory = process.env.FRAMES;
const examples = readdirSync(directory)
	.filter(name => name.endsWith('.json'))
	.map(name => ({ name, ...JSON.parse(readFileSync(join(directory, name), 'utf8')) }));

function toPlain(value) {
	if (Array.isArray(value)) {
		return value.map(toPlain);
	}
	if (value && typeof value === 'object') {
		return '$bytes' in value
			? Buffer.from(value.$bytes, 'hex')
			: Object.fromEntries(Object.entries(value).map(([key, item]) => [key, toPlain(item)]));
	}
	return value;
}

/** As link.mjs hands it over: sequence numbers exceed 32 bits and go as integers, not as floating-point numbers. */
const asSent = frame => ('seq' in frame ? { ...frame, seq: BigInt(frame.seq) } : frame);

function framed(hex) {
	const body = Buffer.from(hex, 'hex');
	const header = Buffer.alloc(4);
	header.writeUInt32BE(body.length);
	return Buffer.concat([header, body]);
}

for (const example of examples) {
	const frame = toPlain(example.frame);
	if (example.from === 'engine') {
		if (process.env.RECORD) {
			const { name, ...content } = example;
			content.hex = encodeFrame(asSent(frame)).subarray(4).toString('hex');
			writeFileSync(join(directory, name), `${JSON.stringify(content, null, 1)}\n`);
			example.hex = content.hex;
		}
		test(`${example.name} is sent as the example`, () => {
			assert.equal(encodeFrame(asSent(frame)).toString('hex'), framed(example.hex).toString('hex'));
		});
	} else {
		test(`${example.name} is understood`, () => {
			const seen = [];
			new FrameReader(item => seen.push(item)).push(framed(example.hex));
			assert.deepEqual(seen, [frame]);
		});
	}
}

test('frames are cut out of any pieces', () => {
	const stream = Buffer.concat(examples.map(({ hex }) => framed(hex)));
	for (const size of [1, 3, 7, 64]) {
		let seen = 0;
		const reader = new FrameReader(() => (seen += 1));
		for (let start = 0; start < stream.length; start += size) {
			reader.push(stream.subarray(start, start + size));
		}
		assert.equal(seen, examples.length);
	}
});

test('frames of one turn leave in one write', async () => {
	const writes = [];
	const writer = new FrameWriter({ write: data => writes.push(data) });
	writer.send({ t: 'pong', n: 1 });
	writer.send({ t: 'pong', n: 2 });
	await new Promise(setImmediate);
	assert.equal(writes.length, 1);
});
