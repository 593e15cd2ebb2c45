// What was received is told to the gateway in the order it came, also when something has to be looked up first: a vote is
// read with the poll's secret, which only the gateway keeps over restarts. The spool holds the vote as it was received, so
// it is read anew at each replay, and one that cannot be looked up now waits there for the next link.

import { classify, rawJson } from './content.mjs';
import { pollUpdateOf, readVote } from './polls.mjs';

export class Reports {
	/**
	 * @param {{
	 *   report: (seq: number, body: object) => void,
	 *   pollOf: (id: string) => Promise<object | undefined>,
	 *   ownAddresses: () => string[],
	 *   log: (text: string) => void,
	 * }} link `pollOf`: our message of that id, undefined when it is not ours
	 */
	constructor(link) {
		this.link = link;
		this.waiting = 0;
		this.line = Promise.resolve();
	}

	/** @param {() => void} done told when it was reported, or waits for the next link */
	add(seq, envelope, message, done = () => {}) {
		const body = { ...envelope, ...classify(message), raw: rawJson(message) };
		const update = pollUpdateOf(message);
		if (!update && this.waiting === 0) {
			this.report(seq, body);
			done();
		} else {
			this.inLine(async () => {
				try {
					const vote = update ? await this.read(update, envelope) : {};
					this.report(seq, { ...body, ...vote });
				} finally {
					done();
				}
			});
		}
	}

	/**
	 * What strangers wrote may hold half a surrogate pair, which is no UTF-8: the other end would refuse the frame, and with it
	 * this whole process.
	 */
	report(seq, body) {
		const clean = value => (typeof value === 'string' ? value.toWellFormed() : Array.isArray(value) ? value.map(clean) : value);
		this.link.report(seq, Object.fromEntries(Object.entries(body).map(([name, value]) => [name, clean(value)])));
	}

	/** Calls `done` when everything added so far has been told. */
	after(done) {
		if (this.waiting === 0) {
			done();
		} else {
			this.inLine(done);
		}
	}

	inLine(step) {
		this.waiting += 1;
		this.line = this.line
			.then(step)
			.catch(error => {
				if (error.message !== 'link closed') {
					this.link.log('a received vote could not be looked up: it waits in the spool');
				}
			})
			.finally(() => (this.waiting -= 1));
	}

	async read(update, { sender, sender_phone: phone, sender_lid: lid }) {
		const id = update.pollCreationMessageKey?.id;
		const poll = id ? await this.link.pollOf(id) : undefined;
		const voters = new Set([sender, phone && `${phone}@s.whatsapp.net`, lid && `${lid}@lid`].filter(Boolean));
		const options = poll ? readVote(update, poll, this.link.ownAddresses(), [...voters]) : null;
		return { poll_id: options ? id : null, options };
	}
}
