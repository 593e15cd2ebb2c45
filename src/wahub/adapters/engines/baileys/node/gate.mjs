// Everything that leaves a link passes here, at the last step before the operating system.
//
// Promised: nothing is written after the lease term has run out or the link was ended; `hold` keeps back what is written
// meanwhile, in order; whoever set `next` learns whether exactly the following write got out.

import { reach } from './faults.mjs';

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
		/** @type {{onWritten: () => void, fault?: string} | null} who wants to know about the next write */
		this.next = null;
		/** @type {Array<object> | null} */
		this.held = null;
		/** How many promises hold it. */
		this.holds = 0;
		this.writes = 0;
		/** Told when our end of the handshake is done. */
		this.onHandshake = () => {};
		socket.send = (data, options, callback) => this.send(data, typeof options === 'function' ? options : callback);
	}

	send(data, callback) {
		const item = { data, callback, mark: this.next };
		this.next = null;
		if (this.held) {
			this.held.push(item);
		} else {
			this.pass(item);
		}
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
	 * Keep back all writes until `until`, and whatever else holds them, settles. If it fails, its owner ends the link, and they
	 * never leave.
	 * @param {Promise<unknown>} until
	 */
	hold(until) {
		this.held ??= [];
		this.holds += 1;
		const release = () => {
			this.holds -= 1;
			if (this.holds > 0) {
				return;
			}
			const items = this.held ?? [];
			this.held = null;
			items.forEach(item => this.pass(item));
		};
		until.then(release, release);
	}
}
