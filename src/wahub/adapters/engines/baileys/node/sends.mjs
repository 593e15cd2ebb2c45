// What became of each message of ours. The server's ack finishes a send, not the socket write: Baileys' own promise
// resolves with the write, also when the server refuses or never answers.
//
// An entry moves from `preparing` (nothing of it reached the socket) to `written` (it may have left), and is settled once:
//   acked, refused   the server answered
//   not_started      it failed, was cancelled or timed out while preparing; it can no longer reach the socket
//   uncertain        written, and no answer came in time or the link broke

/** How much of what was sent is kept for devices that ask for another copy; older ones are asked of the gateway. */
const KEPT_MESSAGES = 256;

export class NotStarted extends Error {
	/** @param {string} reason @param {boolean} permanent */
	constructor(reason, permanent = false) {
		super(reason);
		this.reason = reason;
		this.permanent = permanent;
	}
}

class Entry {
	constructor(id, sends) {
		this.id = id;
		this.sends = sends;
		this.queued = false;
		this.written = false;
		this.settled = false;
		this.timer = setTimeout(() => this.tooLate(), sends.patience);
	}

	/**
	 * Given to Baileys as `additionalNodes`: read as the last step before the message is encoded and written
	 * (source: Socket/messages-send.js relayMessage). Throwing here keeps the message off the socket.
	 */
	lastStep(gate, nodes = []) {
		const announce = () => {
			if (this.settled) {
				throw new NotStarted('given_up');
			}
			gate.next = this;
			return nodes[Symbol.iterator]();
		};
		return { length: 1, [Symbol.iterator]: announce };
	}

	get fault() {
		return 'after_wire';
	}

	/** What is queued leaves when the changes of keys before it are durable; it can no longer be called back. */
	tooLate() {
		this.settle(this.queued ? 'uncertain' : 'not_started', { reason: 'prepare_timeout' });
	}

	/** Called by the gate when the write waits for its turn. */
	onQueued() {
		this.queued = true;
	}

	/** Called by the gate in the moment of the write. */
	onWritten() {
		if (!this.settled && !this.written) {
			this.written = true;
			clearTimeout(this.timer);
			this.timer = setTimeout(() => this.settle('uncertain', { reason: 'ack_timeout' }), this.sends.patience);
		}
	}

	/** Baileys gave up. @param {Error} error @param {boolean} linkLost */
	failed(error, linkLost) {
		if (!this.written) {
			const reason = error instanceof NotStarted ? error.reason : linkLost ? 'link_lost' : 'prepare_failed';
			this.settle('not_started', { reason, permanent: error instanceof NotStarted && error.permanent, link_lost: linkLost });
		}
	}

	settle(outcome, details = {}) {
		if (this.settled) {
			return;
		}
		this.settled = true;
		clearTimeout(this.timer);
		if (this.sends.entries.get(this.id) === this) {
			this.sends.entries.delete(this.id);
		}
		this.sends.report({
			id: this.id,
			outcome,
			code: details.code ?? null,
			reason: details.reason ?? null,
			permanent: details.permanent ?? false,
			link_lost: details.link_lost ?? false
		});
	}
}

export class Sends {
	/**
	 * @param {number} patience ms for the preparation, and again for the server's answer
	 * @param {(result: object) => void} report
	 */
	constructor(patience, report) {
		this.patience = patience;
		this.report = report;
		/** @type {Map<string, Entry>} */
		this.entries = new Map();
		this.sent = new Map();
	}

	/** @returns {Entry | null} null when this id is under way already */
	begin(id) {
		if (this.entries.has(id)) {
			return null;
		}
		const entry = new Entry(id, this);
		this.entries.set(id, entry);
		return entry;
	}

	/** The server answered. @returns {boolean} whether somebody waited for it */
	answered(id, code) {
		const entry = this.entries.get(id);
		if (!entry?.written) {
			return false;
		}
		entry.settle(code === null ? 'acked' : 'refused', { code });
		return true;
	}

	remember(id, message) {
		this.sent.set(id, message);
		if (this.sent.size > KEPT_MESSAGES) {
			this.sent.delete(this.sent.keys().next().value);
		}
	}

	close() {
		for (const entry of [...this.entries.values()]) {
			if (entry.written) {
				entry.settle('uncertain', { reason: 'link_closed' });
			} else {
				entry.settle('not_started', { reason: 'link_lost', link_lost: true });
			}
		}
		this.sent.clear();
	}
}
