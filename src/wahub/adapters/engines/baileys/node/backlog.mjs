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

/** So many that are finished may stand in the queue before it is written anew. */
const HOLES = 1024;

/** A queue, with the stanzas by their attributes and by their ids beside it: ten thousand may wait. */
export class Backlog {
	/** @param {() => number} now */
	constructor(now) {
		this.now = now;
		/** Oldest first; those that are finished go later, many at once. @type {Entry[]} */
		this.queue = [];
		/** Where the queue begins: an array that is shifted thousands of times moves thousands of entries each time. */
		this.head = 0;
		/** Of those before it nothing is left to do here: Baileys is through with them. */
		this.passed = 0;
		/** How many in the queue are finished. */
		this.holes = 0;
		/** @type {Map<object, Entry>} */
		this.entries = new Map();
		/** Two stanzas may have one id. @type {Map<string, Entry[]>} */
		this.byId = new Map();
		/** When the one before the oldest was finished. */
		this.turn = 0;
	}

	/** Since when the oldest is being handled; null when there is none. */
	get since() {
		const oldest = this.queue[this.head];
		return oldest ? Math.max(oldest.since, this.turn) : null;
	}

	/** A message stanza came. @param {object} attrs */
	note(attrs) {
		if (this.entries.has(attrs)) {
			return;
		}
		const entry = { attrs, since: this.now(), reporting: false, passed: false, finished: false };
		this.queue.push(entry);
		this.entries.set(attrs, entry);
		const same = this.byId.get(attrs.id);
		if (same) {
			same.push(entry);
		} else {
			this.byId.set(attrs.id, [entry]);
		}
	}

	/** Whether a message of that id is being handled. */
	has(id) {
		return this.byId.has(id);
	}

	/** It is stored, and the gateway is being told. @returns {() => void} to be called when it was */
	reporting(attrs) {
		const entry = this.entries.get(attrs);
		if (!entry) {
			return () => {};
		}
		entry.reporting = true;
		return () => this.remove(entry);
	}

	/** Baileys' log: tells when it is through with a stanza. @param {unknown} details @param {unknown} text */
	read(details, text) {
		if (text === ACK_LOG && details?.recv?.tag === 'message') {
			this.finished(this.entries.get(details.recv.attrs));
		} else if (text === RECEIPT_LOG && this.entries.size && details?.attrs?.type !== 'read') {
			this.finished(this.byId.get(details.attrs.id)?.[0]);
		}
	}

	/** It, and all before it. @param {Entry | undefined} entry one that waits, or none */
	finished(entry) {
		if (!entry || entry.passed) {
			return;
		}
		const through = [];
		for (this.passed = Math.max(this.passed, this.head); !entry.passed; this.passed += 1) {
			const one = this.queue[this.passed];
			one.passed = true;
			through.push(one);
		}
		through.filter(one => !one.reporting).forEach(one => this.remove(one));
	}

	/** @param {Entry} entry */
	remove(entry) {
		if (this.entries.get(entry.attrs) !== entry) {
			return;
		}
		entry.finished = true;
		this.entries.delete(entry.attrs);
		const same = this.byId.get(entry.attrs.id).filter(one => one !== entry);
		if (same.length) {
			this.byId.set(entry.attrs.id, same);
		} else {
			this.byId.delete(entry.attrs.id);
		}
		if (this.queue[this.head] === entry) {
			this.turn = this.now();
			this.advance();
		}
		this.tidy();
	}

	advance() {
		while (this.head < this.queue.length && this.queue[this.head].finished) {
			this.head += 1;
		}
	}

	/** Also when the oldest is told for long, those behind it do not pile up. */
	tidy() {
		this.holes += 1;
		if (this.entries.size === 0 || (this.holes > HOLES && this.holes > this.entries.size)) {
			this.queue = this.queue.filter(entry => !entry.finished);
			this.head = 0;
			this.passed = this.queue.filter(entry => entry.passed).length;
			this.holes = 0;
		}
	}

	clear() {
		this.queue = [];
		this.head = 0;
		this.passed = 0;
		this.holes = 0;
		this.entries.clear();
		this.byId.clear();
	}
}

/** @typedef {{attrs: {id: string}, since: number, reporting: boolean, passed: boolean, finished: boolean}} Entry */
