// The Baileys side process: frames come in on standard input, frames go out on the descriptor named on the command line.
//
// Promised: it ends within a second of the end of its input, whatever it is waiting for, and holds until then the lock that
// it inherited. A failure inside one link's library code is reported and does not take the other links down.
//
// Usage: node main.mjs <descriptor of the frame pipe>

import './silence.mjs';
import './raw_keys.mjs';
import './signal_queue.mjs';
import './signal_sessions.mjs';
import { Socket } from 'node:net';
import { FrameReader, FrameWriter, PROTOCOL_VERSION } from './wire.mjs';

const output = new Socket({ fd: Number(process.argv[2]), readable: false, writable: true });
const frames = new FrameWriter(output);
let host = null;

const reader = new FrameReader(frame => host.receive(frame));
const early = [];

process.stdin.on('data', chunk => {
	if (host) {
		receive(chunk);
	} else {
		early.push(chunk);
	}
});
process.stdin.on('end', () => process.exit(0));
process.stdin.on('error', () => process.exit(0));
output.on('error', () => process.exit(0));
for (const signal of ['SIGINT', 'SIGHUP']) {
	// The gateway decides when to end; a terminal's Ctrl-C reaches it too.
	process.on(signal, () => {});
}
process.on('SIGTERM', () => process.exit(0));
process.on('unhandledRejection', error => host?.logError('unhandled rejection', error));
process.on('uncaughtException', error => host?.logError('uncaught exception', error));

function receive(chunk) {
	try {
		reader.push(chunk);
	} catch (error) {
		host.logError('broken frame', error);
		frames.flush();
		process.exit(1);
	}
}

const { Host } = await import('./host.mjs');
host = new Host(frame => frames.send(frame));
frames.send({ t: 'ready', v: PROTOCOL_VERSION, pid: process.pid, node: process.versions.node });
early.splice(0).forEach(receive);
