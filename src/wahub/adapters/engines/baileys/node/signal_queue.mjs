// Repairs the async context of libsignal's job queue. Imported before Baileys.
//
// libsignal runs jobs per address through one queue for the whole process, and every job that waits runs in the async
// context of whoever started the queue (source: libsignal src/queue_job.js). Baileys keeps its open key transaction in that
// context (Utils/auth-utils.js), and a process here holds many accounts that write to the same people: without this, a
// ratchet step of one account may escape its transaction because another account was just busy with the same address.

import { createRequire } from 'node:module';

const require = createRequire(createRequire(import.meta.url).resolve('libsignal'));
const path = require.resolve('./src/queue_job.js');
const original = require(path);

// What a promise calls runs in the context of whoever asked it to; an AsyncResource costs twenty times as much.
require.cache[path].exports = (bucket, job) => {
	const { promise, resolve } = Promise.withResolvers();
	const done = promise.then(job);
	const inTurn = () => (resolve(), done);
	return original(bucket, inTurn);
};
