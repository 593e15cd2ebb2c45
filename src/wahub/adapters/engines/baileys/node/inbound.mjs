// What was received: which stanza a ciphertext came in, what of it is kept, and what the gateway is told.
//
// Baileys hands only the ciphertext to the decrypting code. A listener that runs before Baileys' own notes the stanza under
// it, so that the plaintext can be stored together with its envelope at the moment the ratchet moves (repository.mjs).

import {
	areJidsSameUser, decodeMessageNode, isJidNewsletter, isJidStatusBroadcast, isLidUser, jidDecode, jidNormalizedUser
} from 'baileys';
import { classify, decodePlaintext } from './content.mjs';
import { reach } from './faults.mjs';
import { Reports } from './reports.mjs';

/** How many ids are remembered, to answer a second copy that no longer decrypts. */
const REMEMBERED = 256;
/** A message with no field, as it would be decrypted: one byte of padding. */
const NOTHING = Uint8Array.of(1);

export class Inbound {
	/**
	 * @param {{
	 *   spool: import('./spool.mjs').Spool,
	 *   me: () => {id: string, lid?: string} | undefined,
	 *   report: (seq: number, body: object) => void,
	 *   pollOf: (id: string) => Promise<object | undefined>,
	 *   onSpoolFailure: (error: Error) => void,
	 *   log: (text: string) => void,
	 *   backlog: import('./backlog.mjs').Backlog,
	 * }} link
	 */
	constructor(link) {
		this.link = link;
		this.reports = new Reports({
			report: link.report,
			pollOf: link.pollOf,
			ownAddresses: () => [link.me()?.id, link.me()?.lid].filter(Boolean).map(jid => jidNormalizedUser(jid)),
			log: link.log
		});
		/** @type {WeakMap<Uint8Array, object>} */
		this.stanzas = new WeakMap();
		/** Dedupe key of what waits in the spool. @type {Map<string, {seq: number, plaintext: Uint8Array}>} */
		this.waiting = new Map();
		/** @type {Map<number, string>} */
		this.keyOfSequence = new Map();
		/** @type {Set<string>} */
		this.recent = new Set();
		/** Messages of the offline queue that are not through yet. @type {Set<object>} */
		this.offline = new Set();
		this.onOfflineDone = null;
	}

	/** Report what an earlier link left. */
	async replay() {
		for (const { seq, entry } of await this.link.spool.load(this.link.log)) {
			if (entry.body) {
				this.waitNotice(seq, entry.key);
				this.reports.after(() => this.reports.report(seq, entry.body));
				continue;
			}
			this.waiting.set(entry.key, { seq, plaintext: entry.plaintext });
			this.keyOfSequence.set(seq, entry.key);
			this.reports.add(seq, entry.envelope, decodePlaintext(entry.plaintext));
		}
	}

	/** The first to see a message stanza. @param {object} node */
	note(node) {
		if (!isJidNewsletter(node.attrs.from)) {
			this.link.backlog.note(node.attrs);
		}
		if (!Array.isArray(node.content)) {
			return;
		}
		this.dropForeignPlaintext(node);
		const ciphertexts = node.content.filter(child => child.tag === 'enc' && child.content instanceof Uint8Array);
		const stanza = { node, left: ciphertexts.length };
		ciphertexts.forEach(child => this.stanzas.set(child.content, stanza));
		if (node.attrs.offline !== undefined && ciphertexts.some(child => child.attrs.type !== 'msmsg')) {
			this.offline.add(stanza);
		}
		keepInLine(node);
	}

	/**
	 * Anyone could put a `<plaintext>` into a message; only our own account's peer messages may carry one. What replaces
	 * it makes Baileys acknowledge the stanza and forget it (source: Socket/messages-recv.js handleMessage).
	 */
	dropForeignPlaintext(node) {
		if (!node.content.some(child => child.tag === 'plaintext')) {
			return;
		}
		const me = this.link.me();
		const own = areJidsSameUser(node.attrs.from, me?.id) || areJidsSameUser(node.attrs.from, me?.lid);
		if (own && node.attrs.category === 'peer') {
			return;
		}
		node.content = node.content.filter(child => child.tag !== 'plaintext');
		if (!node.content.some(child => child.tag === 'enc')) {
			node.content.push({ tag: 'unavailable', attrs: { type: 'bot_unavailable_fanout' } });
		}
	}

	/** @param {Uint8Array} ciphertext @param {object} keys Baileys' key store */
	async arrivalOf(ciphertext, keys) {
		const stanza = this.stanzas.get(ciphertext);
		const me = this.link.me();
		if (!stanza || !me) {
			return null;
		}
		try {
			const { fullMessage, author } = decodeMessageNode(stanza.node, me.id, me.lid ?? '');
			const envelope = await envelopeOf(fullMessage, author, stanza.node.attrs, me, keys);
			return { stanza, envelope, key: `${envelope.chat}|${envelope.sender}|${envelope.message_id}` };
		} catch {
			return null;
		}
	}

	/** Make the message durable. Runs inside the key transaction; a failure must undo it, and ends the link. */
	async keep(arrival, plaintext) {
		const message = this.waiting.has(arrival.key) ? null : this.reportable(arrival, plaintext);
		if (!message) {
			return null;
		}
		const seq = this.link.spool.nextSequence();
		try {
			await this.link.spool.write(seq, { key: arrival.key, envelope: arrival.envelope, plaintext });
		} catch (error) {
			this.link.onSpoolFailure(error);
			throw error;
		}
		reach('after_spool');
		return { seq, plaintext, message };
	}

	/** The decoded message if the gateway is to hear of it, else null. */
	reportable(arrival, plaintext) {
		const { chat } = arrival.envelope;
		if (isJidStatusBroadcast(chat) || isJidNewsletter(chat) || arrival.stanza.node.attrs.category === 'peer') {
			return null;
		}
		try {
			const message = decodePlaintext(plaintext);
			return classify(message) ? message : null;
		} catch {
			return null;
		}
	}

	/**
	 * Make durable what came in a stanza of its own, and tell it as it is, before all that comes after it. A failure ends the
	 * link; the stanza must not be acknowledged before this is done.
	 * @param {{message_id: string, chat: string, sender: string}[]} bodies of `inbound` frames
	 * @param {Promise<unknown>} complete when they are whole
	 */
	keepNotices(bodies, complete) {
		const notices = bodies
			.map(body => ({ key: `notice|${body.chat}|${body.sender}|${body.message_id}`, body }))
			.filter(({ key }) => !this.waiting.has(key) && !this.recent.has(key))
			.map(notice => ({ ...notice, seq: this.link.spool.nextSequence() }));
		const kept = this.spoolNotices(notices, complete);
		this.reports.inLine(async () => {
			if (await kept.then(() => true, () => false)) {
				notices.forEach(({ seq, body }) => this.reports.report(seq, body));
			}
		});
		return kept;
	}

	async spoolNotices(notices, complete) {
		await complete;
		for (const { key, body, seq } of notices) {
			try {
				await this.link.spool.write(seq, { key, body });
			} catch (error) {
				this.link.onSpoolFailure(error);
				throw error;
			}
			reach('after_spool');
			this.waitNotice(seq, key);
		}
	}

	waitNotice(seq, key) {
		this.waiting.set(key, { seq, plaintext: NOTHING });
		this.keyOfSequence.set(seq, key);
	}

	/** The key transaction failed: the message was not consumed and will come again. */
	async discard(kept) {
		if (kept) {
			await this.link.spool.remove(kept.seq).catch(() => {});
		}
	}

	/** The ratchet step is durable, and so is the message: tell the gateway. */
	committed(arrival, kept) {
		this.remember(arrival.key);
		if (kept) {
			this.waiting.set(arrival.key, { seq: kept.seq, plaintext: kept.plaintext });
			this.keyOfSequence.set(kept.seq, arrival.key);
			this.reports.add(kept.seq, arrival.envelope, kept.message, this.link.backlog.reporting(arrival.stanza.node.attrs));
		}
		this.passed(arrival.stanza);
	}

	/**
	 * The plaintext for a copy that no longer decrypts because the first one was consumed: Baileys then sends the ordinary
	 * receipt instead of asking the sender for another copy. Null if the message is not known.
	 */
	knownPlaintext(arrival) {
		this.passed(arrival.stanza);
		const waiting = this.waiting.get(arrival.key);
		return waiting ? waiting.plaintext : this.recent.has(arrival.key) ? NOTHING : null;
	}

	/** The gateway has stored it. @param {number} seq */
	async acknowledged(seq) {
		const key = this.keyOfSequence.get(seq);
		if (key !== undefined) {
			this.keyOfSequence.delete(seq);
			this.waiting.delete(key);
			this.remember(key);
			await this.link.spool.remove(seq);
		}
	}

	remember(key) {
		this.recent.add(key);
		if (this.recent.size > REMEMBERED) {
			this.recent.delete(this.recent.values().next().value);
		}
	}

	/** A stanza of the offline queue that is no message: through when `passed` is told. @param {{left: number}} stanza */
	expect(stanza) {
		this.offline.add(stanza);
	}

	passed(stanza) {
		stanza.left -= 1;
		if (stanza.left <= 0 && this.offline.delete(stanza) && this.offline.size === 0) {
			this.onOfflineDone?.();
		}
	}

	/**
	 * Calls `done` when all messages of the offline queue seen so far are through, at the latest after `patience` ms, and
	 * those of them that were read have been told.
	 */
	whenOfflineDone(patience, done) {
		const timer = setTimeout(() => this.onOfflineDone?.(), patience);
		this.onOfflineDone = () => {
			clearTimeout(timer);
			this.onOfflineDone = null;
			this.reports.after(done);
		};
		if (this.offline.size === 0) {
			this.onOfflineDone();
		}
	}

	close() {
		this.onOfflineDone = null;
		this.offline.clear();
		this.waiting.clear();
		this.keyOfSequence.clear();
		this.recent.clear();
	}
}

/**
 * Baileys handles the stanzas of the offline queue one after the other, but live ones as they come: the first message of
 * a new contact, which has more to do, would be overtaken by the next, and the offline queue by live messages. All of
 * them go through that one line (source: Socket/messages-recv.js processNode, Utils/offline-node-processor.js).
 */
function keepInLine(node) {
	node.attrs.offline ??= '0';
}

async function envelopeOf(message, author, attrs, me, keys) {
	const fromMe = Boolean(message.key.fromMe);
	const sender = jidNormalizedUser(fromMe && !isLidUser(author) ? me.id : author);
	const user = jidDecode(sender)?.user ?? '';
	const lid = isLidUser(sender) ? user : null;
	const phone = lid ? null : user;
	const alternate = jidDecode(
		(lid ? (attrs.participant_pn ?? attrs.sender_pn) : (attrs.participant_lid ?? attrs.sender_lid)) ?? ''
	)?.user;
	return {
		message_id: message.key.id,
		chat: jidNormalizedUser(message.key.remoteJid),
		sender,
		sender_phone: phone ?? (fromMe ? jidDecode(me.id)?.user : null) ?? alternate ?? (await mapped(keys, `${lid}_reverse`)),
		sender_lid: lid ?? (fromMe ? jidDecode(me.lid ?? '')?.user : null) ?? alternate ?? (await mapped(keys, phone)),
		from_me: fromMe,
		push_name: message.pushName ?? null,
		timestamp: Number(message.messageTimestamp) || 0
	};
}

/** What the account already knows about this identity; asks nobody. */
async function mapped(keys, id) {
	const found = await keys.get('lid-mapping', [id]);
	return typeof found[id] === 'string' ? found[id] : null;
}
