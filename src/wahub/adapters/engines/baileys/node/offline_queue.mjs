// What waited at the server while the account was away: how much there is of it, and when all that came is through.

export class OfflineQueue {
	constructor() {
		/** Stanzas that are not through yet. @type {Set<object>} */
		this.waiting = new Set();
		this.onDone = null;
		/** Messages that the server said were to come, and those that came. @type {number | null} */
		this.announced = null;
		this.received = 0;
	}

	/** What the server says is to come. @param {{message?: string}} attrs of `offline_preview` */
	announce({ message }) {
		this.announced = Number.isSafeInteger(Number(message)) ? Number(message) : null;
	}

	/** Its end waits for this stanza. @param {object} stanza */
	expect(stanza) {
		this.waiting.add(stanza);
	}

	/** @param {object} stanza whether it was expected or not */
	passed(stanza) {
		if (this.waiting.delete(stanza) && this.waiting.size === 0) {
			this.onDone?.();
		}
	}

	/** Calls `done` when all stanzas that were expected so far are through, at the latest after `patience` ms. */
	whenDone(patience, done) {
		const timer = setTimeout(() => this.onDone?.(), patience);
		this.onDone = () => {
			clearTimeout(timer);
			this.onDone = null;
			done();
		};
		if (this.waiting.size === 0) {
			this.onDone();
		}
	}

	close() {
		this.onDone = null;
		this.waiting.clear();
	}
}
