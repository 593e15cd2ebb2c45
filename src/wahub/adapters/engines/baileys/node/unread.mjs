// Messages that came and could not be read. The gateway is told of each once, so that a gap is seen; often the message comes
// after all: its sender, or our own phone, is asked to send it again.

import { MISSING_KEYS_ERROR_TEXT } from 'baileys';

const REMEMBERED = 256;
/** How a group's key says that it was used (source: Baileys Signal/Group/group_cipher.js). */
const OLD_COUNTER = /^Received message with old counter/;

export class Unread {
	/** @param {(news: {id: string, chat: string, sender: string, why: string, at: number}) => void} miss */
	constructor(miss) {
		this.miss = miss;
		/** Ids that were told. @type {Set<string>} */
		this.toldIds = new Set();
		/** What did not come again yet, by id. @type {Map<string, object>} */
		this.envelopes = new Map();
	}

	/** Whether it may still come. */
	has(id) {
		return this.envelopes.has(id);
	}

	/** Where the message of that id was sent, if it came and could not be read. @returns {object | undefined} */
	envelopeOf(id) {
		return this.envelopes.get(id);
	}

	/** @param {object} envelope @param {Error | null} error of the decryption; null: there was nothing to decrypt */
	failed(envelope, error) {
		this.envelopes.set(envelope.message_id, envelope);
		forgetOldest(this.envelopes);
		this.tell(envelope, error === null ? 'nobody_kept' : this.isUsed(error) ? 'key_used' : 'undecryptable');
	}

	/** @param {{message_id: string, chat: string, sender: string, timestamp: number}} where @param {string} why a constant word */
	tell({ message_id: id, chat, sender, timestamp: at }, why) {
		if (!this.toldIds.has(id)) {
			this.toldIds.add(id);
			forgetOldest(this.toldIds);
			this.miss({ id, chat, sender, why, at });
		}
	}

	/** It was read after all. */
	came(id) {
		this.envelopes.delete(id);
	}

	/** Whether the key of the message was used up: it was read before, or its key was lost. */
	isUsed(error) {
		return error?.message === MISSING_KEYS_ERROR_TEXT || OLD_COUNTER.test(error?.message ?? '');
	}
}

function forgetOldest(collection) {
	if (collection.size > REMEMBERED) {
		collection.delete(collection.keys().next().value);
	}
}
