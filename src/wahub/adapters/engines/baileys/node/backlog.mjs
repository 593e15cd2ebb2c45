// Which received messages are neither handed over to the gateway nor finished otherwise.
//
// Baileys finishes each message stanza with exactly one answer to the server: a receipt, an ack, or an ack with an error
// (ignored, unreadable, failed). It logs both with constant texts and, for an ack, the stanza's own attributes, before it
// writes them (source: Socket/messages-recv.js sendMessageAck, Socket/messages-send.js sendReceipt). A message that the gateway
// is to hear of counts as finished when it was told, not when the receipt left.
//
// Messages go through Baileys one after the other (inbound.mjs keepInLine): when one is finished, those before it are, too; and
// one waits for those before it. So a message counts from its turn: ten thousand that came at once and are worked through are
// no sign of a stuck link, one that is not finished in its turn is.

export const ACK_LOG = 'sent ack';
export const RECEIPT_LOG = 'sending receipt for messages';

export class Backlog {
	/** @param {() => number} now */
	constructor(now) {
		this.now = now;
		/** By the stanza's attributes, oldest first. @type {Map<object, {since: number, id: string, reporting: boolean}>} */
		this.entries = new Map();
		/** When the one before the oldest was finished. */
		this.turn = 0;
	}

	/** Since when the oldest is being handled; null when there is none. */
	get since() {
		const oldest = this.entries.values().next().value;
		return oldest ? Math.max(oldest.since, this.turn) : null;
	}

	/** A message stanza came. @param {object} attrs */
	note(attrs) {
		this.entries.set(attrs, { since: this.now(), id: attrs.id, reporting: false });
	}

	/** Whether a message of that id is being handled. */
	has(id) {
		for (const entry of this.entries.values()) {
			if (entry.id === id) {
				return true;
			}
		}
		return false;
	}

	/** It is stored, and the gateway is being told. @returns {() => void} to be called when it was */
	reporting(attrs) {
		const entry = this.entries.get(attrs);
		if (entry) {
			entry.reporting = true;
		}
		return () => this.remove(attrs);
	}

	/** Baileys' log: tells when it is through with a stanza. @param {unknown} details @param {unknown} text */
	read(details, text) {
		if (text === ACK_LOG && details?.recv?.tag === 'message') {
			this.finished(details.recv.attrs);
		} else if (text === RECEIPT_LOG && this.entries.size && details?.attrs?.type !== 'read') {
			this.finished(this.oldestOf(details.attrs.id));
		}
	}

	/** Nearly always the first: nothing is copied for it, though thousands may wait. @param {string} id */
	oldestOf(id) {
		for (const [attrs, entry] of this.entries) {
			if (entry.id === id) {
				return attrs;
			}
		}
		return null;
	}

	finished(attrs) {
		if (!this.entries.has(attrs)) {
			return;
		}
		for (const [key, { reporting }] of this.entries) {
			if (!reporting) {
				this.remove(key);
			}
			if (key === attrs) {
				break;
			}
		}
	}

	remove(attrs) {
		if (this.entries.keys().next().value === attrs) {
			this.turn = this.now();
		}
		this.entries.delete(attrs);
	}

	clear() {
		this.entries.clear();
	}
}
