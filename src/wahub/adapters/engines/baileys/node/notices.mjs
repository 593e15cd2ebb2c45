// Changes of groups, and calls. They come in stanzas of their own, which Baileys turns into passing events and acknowledges;
// here they go the way of messages: spool, then ack, reported at least once, in order with the messages around them.
//
// A notice is put into the line through which Baileys takes messages one after the other (inbound.mjs keepInLine). When its
// turn is over Baileys logs its ack with a constant text and the stanza's own attributes, just before it writes it (source:
// Socket/messages-recv.js handleNotification, handleCall, sendMessageAck). At that moment the notice is written to the spool,
// and the gate lets nothing out until it is there. A crash before the ack brings the stanza again, under the same id.

import { ACK_LOG } from './backlog.mjs';
import { readCall, RememberedCalls } from './calls.mjs';
import { readGroupChanges } from './group_changes.mjs';
import { keepInLine } from './inbound.mjs';

/** How many people of one notice are looked up; the server names both addresses of nearly all of them itself. */
const LOOKED_UP = 64;

export class Notices {
	/**
	 * @param {{
	 *   me: () => {id: string, lid?: string} | undefined,
	 *   keys: {get: (kind: string, ids: string[]) => Promise<Record<string, unknown>>},
	 *   inbound: import('./inbound.mjs').Inbound,
	 *   hold: (until: Promise<unknown>) => void,
	 *   log: (text: string) => void,
	 * }} link `hold`: let nothing out until the promise settles
	 */
	constructor(link) {
		this.link = link;
		this.calls = new RememberedCalls();
		/**
		 * What to keep of a stanza in its turn, by its attributes.
		 * @type {Map<object, {left: number, bodies: object[], complete: Promise<void>}>}
		 */
		this.expected = new Map();
	}

	/** @param {object} ws Baileys' socket client */
	listen(ws) {
		ws.prependListener('CB:notification,type:w:gp2', node => this.note(node, () => readGroupChanges(node, this.link.me())));
		ws.prependListener('CB:call', node => this.note(node, () => readCall(node, this.link.me(), this.calls)));
	}

	/** The first to see a stanza. @param {object} node @param {() => object[]} read */
	note(node, read) {
		let bodies = [];
		try {
			bodies = read();
		} catch {
			this.link.log(`a ${node.tag} could not be read: it is acknowledged and forgotten`);
		}
		if (bodies.length) {
			const stanza = { left: 1, bodies, complete: this.complete(bodies) };
			this.expected.set(node.attrs, stanza);
			if (node.attrs.offline !== undefined) {
				this.link.inbound.offline.expect(stanza);
			}
		}
		keepInLine(node);
	}

	/** Baileys' log: tells when it acknowledges a stanza. @param {unknown} details @param {unknown} text */
	read(details, text) {
		const attrs = text === ACK_LOG ? details?.recv?.attrs : undefined;
		const stanza = this.expected.get(attrs);
		if (stanza) {
			this.expected.delete(attrs);
			const kept = this.keep(stanza);
			// A spool that cannot be written ends the link, and then nothing leaves.
			kept.catch(() => {});
			this.link.hold(kept);
		}
	}

	async keep(stanza) {
		await this.link.inbound.keepNotices(stanza.bodies, stanza.complete);
		this.link.inbound.passed(stanza);
	}

	/** Adds the other address of everybody who is named by one, as far as the account knows it; asks nobody. */
	async complete(bodies) {
		const people = bodies.flatMap(body => [
			{ person: body, phone: 'sender_phone', lid: 'sender_lid' },
			{ person: body, phone: 'chat_phone', lid: 'chat_lid' },
			...(body.details.group?.participants ?? []).map(person => ({ person, phone: 'phone', lid: 'lid' }))
		]);
		const halves = people.filter(({ person, phone, lid }) => !person[phone] !== !person[lid]).slice(0, LOOKED_UP);
		const nameOf = ({ person, phone, lid }) => person[phone] ?? `${person[lid]}_reverse`;
		const known = halves.length ? await this.link.keys.get('lid-mapping', halves.map(nameOf)).catch(() => ({})) : {};
		for (const half of halves) {
			const found = known[nameOf(half)];
			const missing = half.person[half.phone] ? half.lid : half.phone;
			half.person[missing] = typeof found === 'string' ? found : null;
		}
	}

	close() {
		this.expected.clear();
		this.calls.clear();
	}
}
