// Everything that leaves a link passes here, at the last step before the operating system.
//
// Promised: nothing is written after the lease term has run out or the link was ended; what is written leaves in that
// order, and never before everything that was to be waited for until then (`hold`) has happened; whoever set `next` learns
// when exactly the following write waits to leave, and when it got out.

import { reach } from './faults.mjs';

const CONNECTING = 0;
const OPEN = 1;
/** The second write answers the server's hello, and is made only if that verified (source: Baileys Socket/socket.js). */
const LAST_OF_HANDSHAKE = 2;

export class Gate {
	/**
	 * @param {import('ws').WebSocket} socket
	 * @param {() => boolean} allowed whether the link may still write
	 */
	constructor(socket, allowed) {
		this.socket = socket;
		this.allowed = allowed;
		this.write = socket.send.bind(socket);
		/** @type {{onQueued?: () => void, onWritten: () => void, fault?: string} | null} who wants to know about the next write */
		this.next = null;
		/** What waits, oldest first: writes, and what they wait for. @type {Array<{done?: boolean, reached?: Function, data?: unknown}>} */
		this.line = [];
		/** The last wait in the line, or one that is over. */
		this.wait = { done: true, until: null };
		this.writes = 0;
		/** Told when our end of the handshake is done. */
		this.onHandshake = () => {};
		socket.once?.('open', () => this.advance());
		socket.once?.('close', () => this.advance());
		socket.send = (data, options, callback) => this.send(data, typeof options === 'function' ? options : callback);
	}

	/**
	 * A write that has to wait counts as made for its caller: Baileys waits for each of its writes, and would read nothing
	 * meanwhile. If it never leaves, the link has ended.
	 */
	send(data, callback) {
		const item = { data, callback, mark: this.next };
		this.next = null;
		item.mark?.onQueued?.();
		if (this.line.length === 0) {
			this.pass(item);
			return;
		}
		this.line.push(item);
		if (!item.mark) {
			item.callback = undefined;
			callback?.();
		}
	}

	/** Whether anything waits to leave. */
	get waits() {
		return this.line.length > 0;
	}

	/** Whether the encrypted handshake is complete on our side. */
	get handshaken() {
		return this.writes >= LAST_OF_HANDSHAKE;
	}

	pass({ data, callback, mark }) {
		if (!this.allowed() || this.socket.readyState !== OPEN) {
			callback?.(new Error('link closed'));
			return;
		}
		mark?.onWritten();
		this.writes += 1;
		if (this.writes === LAST_OF_HANDSHAKE) {
			this.onHandshake();
		}
		this.write(data, error => {
			if (!error && mark?.fault) {
				reach(mark.fault);
			}
			callback?.(error);
		});
	}

	/**
	 * Keep back what is written from now on until `until` settles. If it fails, its owner ends the link, and it never leaves.
	 * @param {Promise<unknown>} until
	 * @returns {true}
	 */
	hold(until) {
		if (this.wait.until === until && !this.wait.done) {
			return true; // what is written from now on stands behind it
		}
		const wait = { done: false, until };
		this.wait = wait;
		this.line.push(wait);
		const release = () => {
			wait.done = true;
			this.advance();
		};
		until.then(release, release);
		return true;
	}

	/** Settles when what waits now has left, not before the socket is open; fails if it will not, because the link has ended. */
	async passed() {
		const { promise, resolve, reject } = Promise.withResolvers();
		this.line.push({ done: true, reached: open => (open ? resolve() : reject(new Error('link closed'))) });
		this.advance();
		return promise;
	}

	advance() {
		if (this.socket.readyState === CONNECTING) {
			return;
		}
		// Many receipts wait for one commit of keys: they share a call of the operating system (source: ws lib/sender.js).
		const { _socket: stream } = this.socket;
		stream?.cork();
		try {
			while (this.line.length && this.line[0].done !== false) {
				const item = this.line.shift();
				if (item.reached) {
					item.reached(this.allowed() && this.socket.readyState === OPEN);
				} else if (!item.done) {
					this.pass(item);
				}
			}
		} finally {
			// Else nothing would leave any more.
			stream?.uncork();
		}
	}
}
