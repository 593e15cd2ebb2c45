// What was received: which stanza a ciphertext came in, what of it is kept, and what the gateway is told.
//
// Baileys hands only the ciphertext to the decrypting code. A listener that runs before Baileys' own notes the stanza under
// it, so that the plaintext can be stored together with its envelope at the moment the ratchet moves (repository.mjs).

import { areJidsSameUser, decodeMessageNode, isJidNewsletter, isJidStatusBroadcast } from 'baileys';
import { envelopeOf, ownPerson } from './addresses.mjs';
import { reach } from './faults.mjs';
import { OfflineQueue } from './offline_queue.mjs';
import { decodePlaintext, read } from './reading.mjs';
import { Reports } from './reports.mjs';
import { resentIn } from './resent.mjs';
import { Unread } from './unread.mjs';

/** How many parts of messages are remembered, to answer a second copy that no longer decrypts. */
const REMEMBERED = 512;
/** A message with no field, as it would be decrypted: one byte of padding. */
const NOTHING = Uint8Array.of(1);

export class Inbound {
	/**
	 * @param {{
	 *   spool: import('./spool.mjs').Spool,
	 *   keys: object,
	 *   statuses: boolean,
	 *   me: () => {id: string, lid?: string} | undefined,
	 *   report: (seq: number, body: object) => void,
	 *   learn: (pairs: {lid: string, pn: string}[]) => void,
	 *   miss: (news: object) => void,
	 *   pollOf: (id: string) => Promise<import('./polls.mjs').PollKey | null>,
	 *   onSpoolFailure: (error: Error) => void,
	 *   onLookUpFailure: () => void,
	 *   stored: () => Promise<void>,
	 *   answered: () => Promise<void>,
	 *   log: (text: string) => void,
	 *   backlog: import('./backlog.mjs').Backlog,
	 * }} link `statuses`: whether posts on the status list are told; `stored` settles when the key changes made until now are
	 *   durable, `answered` when what was written to the socket has left; `learn`: told which number and LID are one person
	 */
	constructor(link) {
		this.link = link;
		this.unread = new Unread(link.miss);
		this.reports = new Reports({
			report: link.report,
			pollOf: link.pollOf,
			expects: id => this.unread.has(id) || link.backlog.has(id),
			me: link.me,
			keys: link.keys,
			log: link.log,
			onFailure: link.onLookUpFailure
		});
		/** @type {WeakMap<Uint8Array, object>} */
		this.stanzas = new WeakMap();
		/** Dedupe key of what waits in the spool. @type {Map<string, {seq: number, plaintext: Uint8Array}>} */
		this.waiting = new Map();
		/** @type {Map<number, string>} */
		this.keyOfSequence = new Map();
		/** @type {Set<string>} */
		this.recent = new Set();
		/** The id of the message that was read last. @type {string | null} */
		this.latest = null;
		this.offline = new OfflineQueue();
	}

	/** Report what an earlier link left. */
	async replay() {
		let strange = 0;
		for (const { seq, entry } of await this.link.spool.load(this.link.log)) {
			const { key, me, body, envelope, plaintext } = entry;
			if (this.isOfAnother(me)) {
				strange += 1;
				await this.setAside(seq, envelope, 'foreign', 'other_account');
			} else if (body) {
				this.wait(seq, key, NOTHING);
				this.reports.after(() => this.reports.report(seq, body));
			} else {
				this.wait(seq, key, plaintext);
				await this.tellAgain(seq, envelope, plaintext);
			}
		}
		if (strange) {
			this.link.log('the spool held messages of the account that was linked before: set aside as .foreign');
		}
	}

	/** One message that cannot be told must not keep the link from opening. */
	async tellAgain(seq, envelope, plaintext) {
		try {
			this.reports.add(seq, envelope, decodePlaintext(plaintext), undefined, true);
		} catch {
			this.link.log('a received message in the spool cannot be told: set aside');
			await this.setAside(seq, envelope, 'unreadable', 'undecryptable');
		}
	}

	wait(seq, key, plaintext) {
		this.waiting.set(key, { seq, plaintext });
		this.keyOfSequence.set(seq, key);
	}

	/** Whether an account was linked since that is not this one. Both numbers and LIDs of one account may change, not at once. */
	isOfAnother(then) {
		const now = ownPerson(this.link.me());
		return Boolean(then?.phone && now.phone && then.phone !== now.phone && !(then.lid && then.lid === now.lid));
	}

	/** @param {object | undefined} envelope of a message; a notice has none, and is not missed */
	async setAside(seq, envelope, ending, why) {
		await this.link.spool.setAside(seq, ending);
		if (envelope) {
			this.unread.tell(envelope, why);
		}
	}

	/** The first to see a message stanza. @param {object} node */
	note(node) {
		if (!isJidNewsletter(node.attrs.from)) {
			this.link.backlog.note(node.attrs);
		}
		if (node.attrs.offline !== undefined) {
			this.offline.received += 1;
		}
		if (!Array.isArray(node.content)) {
			return;
		}
		this.dropForeignPlaintext(node);
		if (isWithoutText(node)) {
			void this.noteAbsent(node);
		}
		const ciphertexts = node.content.filter(child => child.tag === 'enc' && child.content instanceof Uint8Array);
		const stanza = { node, left: ciphertexts.length, parts: ciphertexts.length, failure: null };
		ciphertexts.forEach((child, part) => this.stanzas.set(child.content, { stanza, part }));
		if (node.attrs.offline !== undefined && ciphertexts.some(child => child.attrs.type !== 'msmsg')) {
			this.offline.expect(stanza);
		}
		keepInLine(node);
	}

	/** A message whose text WhatsApp has not for this device: Baileys asks the phone for it. */
	async noteAbsent(node) {
		const me = this.link.me();
		try {
			const { fullMessage, author } = decodeMessageNode(node, me.id, me.lid ?? '');
			const envelope = await envelopeOf(fullMessage, author, node.attrs, me, this.link.keys);
			this.missed({ node, failure: { envelope, error: null } });
		} catch {
			// No message, or the link has ended.
		}
	}

	/**
	 * Anyone could put a `<plaintext>` into a message; only our own account's peer messages may carry one. What replaces
	 * it makes Baileys acknowledge the stanza and forget it (source: Socket/messages-recv.js handleMessage).
	 */
	dropForeignPlaintext(node) {
		if (!node.content.some(child => child.tag === 'plaintext') || (this.isOwn(node.attrs.from) && isPeer(node))) {
			return;
		}
		node.content = node.content.filter(child => child.tag !== 'plaintext');
		if (!node.content.some(child => child.tag === 'enc')) {
			node.content.push({ tag: 'unavailable', attrs: { type: 'bot_unavailable_fanout' } });
		}
	}

	isOwn(jid) {
		const me = this.link.me();
		return areJidsSameUser(jid, me?.id) || areJidsSameUser(jid, me?.lid);
	}

	/** @param {Uint8Array} ciphertext @param {object} keys Baileys' key store */
	async arrivalOf(ciphertext, keys) {
		const { stanza, part } = this.stanzas.get(ciphertext) ?? {};
		const me = this.link.me();
		if (!stanza || !me) {
			return null;
		}
		try {
			const { fullMessage, author } = decodeMessageNode(stanza.node, me.id, me.lid ?? '');
			const envelope = await envelopeOf(fullMessage, author, stanza.node.attrs, me, keys);
			return { stanza, part, author, envelope, key: keyOf(envelope) };
		} catch {
			return null;
		}
	}

	/**
	 * Make durable what the gateway is to hear of. Runs inside the key transaction; a failure must undo it, and ends the link:
	 * what was written until then is reported by the next link, and the server's second copy is the same message.
	 * @param {Uint8Array} plaintext
	 * @param {object | null} message what it says; null: it cannot be read
	 * @returns {Promise<object[]>} what was kept
	 */
	async keep(arrival, plaintext, message) {
		const kept = [];
		for (const found of message ? await this.reportable(arrival, plaintext, message) : []) {
			const { key, envelope } = found;
			const seq = this.link.spool.nextSequence();
			await this.write(seq, { key, envelope, plaintext: found.plaintext });
			kept.push({ seq, ...found });
		}
		return kept;
	}

	/** The messages in it that the gateway is to hear of: one at most, or those that our phone was asked to send again. */
	async reportable({ envelope, key, stanza }, plaintext, message) {
		const me = this.link.me();
		try {
			const found = !isPeer(stanza.node)
				? [{ key, envelope, plaintext, message }]
				: envelope.from_me
					? await resentIn(message, me, this.link.keys, this.unread)
					: [];
			return found.map(item => ({ ...item, said: read(item.message) })).filter(item => this.isNews(item));
		} catch {
			this.unread.tell(envelope, 'unreadable');
			return [];
		}
	}

	isNews({ key, envelope: { chat }, said }) {
		const known = this.waiting.has(key) || this.recent.has(key);
		const wanted = isJidStatusBroadcast(chat) ? this.link.statuses : !isJidNewsletter(chat);
		return !known && wanted && said !== null;
	}

	/** The key transaction failed: the message was not consumed and will come again. */
	async discard(kept) {
		for (const { seq } of kept) {
			await this.link.spool.remove(seq).catch(() => {});
		}
	}

	/** The ratchet step is durable, and so is the message: tell the gateway. */
	committed({ envelope, key, part, stanza }, kept) {
		this.latest = envelope.message_id;
		this.remember(partOf(key, part));
		kept.forEach((item, index) => {
			this.wait(item.seq, item.key, item.plaintext);
			this.unread.came(item.envelope.message_id);
			const last = index === kept.length - 1;
			const done = last ? this.link.backlog.reporting(stanza.node.attrs) : undefined;
			this.reports.add(item.seq, item.envelope, item.message, done, false, item.said);
		});
		this.passed(stanza);
	}

	/**
	 * The plaintext for a copy that no longer decrypts because the first one was consumed: Baileys then sends the ordinary
	 * receipt instead of asking the sender for another copy. Null if the message is not known.
	 */
	knownPlaintext({ envelope, key, part, stanza }, error) {
		this.latest = envelope.message_id;
		const waiting = this.waiting.get(key)?.plaintext;
		const known = waiting ?? (this.recent.has(key) || this.recent.has(partOf(key, part)) ? NOTHING : null);
		const last = part === stanza.parts - 1;
		stanza.failure = last && !known ? { envelope, error } : null;
		this.passed(stanza);
		// The keys of a group come before the message, and were taken with the step that read them. The message itself shows
		// whether they are there.
		return known ?? (!last && this.unread.isUsed(error) ? NOTHING : null);
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
			await this.write(seq, { key, body });
			this.wait(seq, key, NOTHING);
		}
	}

	async write(seq, entry) {
		try {
			await this.link.spool.write(seq, { me: ownPerson(this.link.me()), ...entry });
		} catch (error) {
			this.link.onSpoolFailure(error);
			throw error;
		}
		reach('after_spool');
	}

	/**
	 * The gateway has stored them. Until their receipts have left, which wait for the keys, the server brings them again to the
	 * next link, and that answers from the spool.
	 * @param {number[]} seqs
	 */
	async acknowledged(seqs) {
		const stored = seqs.map(seq => ({ seq, key: this.keyOfSequence.get(seq) })).filter(({ key }) => key !== undefined);
		if (stored.length === 0) {
			return;
		}
		stored.forEach(({ seq }) => this.keyOfSequence.delete(seq));
		try {
			await this.link.answered();
		} catch {
			return; // the link has ended; the next one tells them again
		}
		for (const { key } of stored) {
			this.waiting.delete(key);
			this.remember(key);
		}
		await Promise.all(stored.map(({ seq }) => this.link.spool.remove(seq)));
	}

	remember(key) {
		this.recent.add(key);
		if (this.recent.size > REMEMBERED) {
			this.recent.delete(this.recent.values().next().value);
		}
	}

	/** A part of it is through. @param {{left: number}} stanza of a message or a notice */
	passed(stanza) {
		stanza.left -= 1;
		if (stanza.left > 0) {
			return;
		}
		if (stanza.failure) {
			this.missed(stanza);
		}
		this.offline.passed(stanza);
	}

	missed({ node, failure: { envelope, error } }) {
		const { chat } = envelope;
		const told = isJidStatusBroadcast(chat) ? this.link.statuses : !isJidNewsletter(chat);
		if (told && !isPeer(node)) {
			this.unread.failed(envelope, error);
		}
	}

	/** Calls `done` when the offline queue is through, at the latest after `patience` ms, and what was read of it has been told. */
	whenOfflineDone(patience, done) {
		this.offline.whenDone(patience, () => this.reports.after(done));
	}

	close() {
		this.reports.close();
		this.offline.close();
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
export function keepInLine(node) {
	node.attrs.offline ??= '0';
}

/** What is meant for other devices only, or to be seen once, is not missing here (source: Socket/messages-recv.js handleMessage). */
const NOT_FOR_US = new Set([
	'view_once', 'view_once_unavailable_fanout', 'bot_unavailable_fanout', 'hosted_unavailable_fanout'
]);

function isWithoutText({ content }) {
	const unavailable = content.find(child => child.tag === 'unavailable');
	const text = content.some(child => child.tag === 'enc' || child.tag === 'plaintext');
	return !text && Boolean(unavailable) && !NOT_FOR_US.has(unavailable.attrs.type);
}

function isPeer(node) {
	return node.attrs.category === 'peer';
}

function keyOf({ chat, sender, message_id: id }) {
	return `${chat}|${sender}|${id}`;
}

/** A message in a group may have two parts: the sender's key, and what was written. */
function partOf(key, part) {
	return `${key}|${part}`;
}
