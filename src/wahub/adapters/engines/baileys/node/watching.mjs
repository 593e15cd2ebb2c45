// Who is there and who types, told as it happens: not kept, not acknowledged, and only while the gateway asks for it.
//
// WhatsApp tells of a person's coming and going to those who subscribed to that person, and of typing only to accounts that
// are available (source: Baileys Socket/chats.js presenceSubscribe, handlePresenceUpdate; whatsmeow presence.go). Nothing here
// makes the account available: that is its owner's choice (`mark_online`).

import { isJidGroup, jidDecode, jidNormalizedUser } from 'baileys';
import { digitsOf, isMe, isPerson, wholeNumber } from './stanzas.mjs';

/** To how many people one link subscribes. */
const MOST_PEOPLE = 1000;
/** Pause between two subscriptions: an offline queue may bring hundreds of people at once. */
const SPACING_MS = 100;
/** News that wait for a look-up; presence that comes faster is not worth keeping. */
const MOST_WAITING = 100;

export class Watching {
	/**
	 * @param {{
	 *   me: () => {id: string, lid?: string} | undefined,
	 *   keys: {get: (kind: string, ids: string[]) => Promise<Record<string, unknown>>},
	 *   subscribe: (jid: string) => Promise<void>,
	 *   tell: (news: object) => void,
	 * }} link
	 */
	constructor(link) {
		this.link = link;
		this.wanted = false;
		this.open = false;
		/** Everybody met while it was wanted, and those of them who are still to be subscribed to. */
		this.people = new Set();
		this.queue = [];
		this.timer = null;
		this.waiting = 0;
		this.line = Promise.resolve();
	}

	/** @param {object} ws Baileys' socket client */
	listen(ws) {
		ws.prependListener('CB:presence', node => this.note(node));
		ws.prependListener('CB:chatstate', node => this.note(node));
	}

	/** @param {boolean} wanted */
	set(wanted) {
		this.wanted = wanted;
		if (!wanted) {
			this.people.clear();
			this.queue = [];
		}
		this.goOn();
	}

	/** The link is open. */
	start() {
		this.open = true;
		this.goOn();
	}

	close() {
		this.open = false;
		clearTimeout(this.timer);
		this.set(false);
	}

	/** Somebody wrote to the account, or is written to. @param {string} chat JID */
	met(chat) {
		if (!this.wanted || this.people.size >= MOST_PEOPLE) {
			return;
		}
		const jid = jidNormalizedUser(chat);
		if (!this.people.has(jid) && isPerson(jid) && !isMe(jid, this.link.me())) {
			this.people.add(jid);
			this.queue.push(jid);
			this.goOn();
		}
	}

	goOn() {
		if (this.timer === null && this.wanted && this.open && this.queue.length) {
			this.link.subscribe(this.queue.shift()).catch(() => {});
			this.timer = setTimeout(() => {
				this.timer = null;
				this.goOn();
			}, SPACING_MS);
			this.timer.unref();
		}
	}

	note(node) {
		const news = this.wanted ? this.read(node) : null;
		if (news && this.waiting < MOST_WAITING) {
			this.waiting += 1;
			this.line = this.line.then(() => this.pass(news)).catch(() => {}).finally(() => (this.waiting -= 1));
		}
	}

	/** What a stanza says, or null when it says nothing of another person. */
	read({ tag, attrs, content }) {
		const group = isJidGroup(attrs.from);
		const sender = group ? attrs.participant : attrs.from;
		const state = tag === 'presence' ? (group ? null : presenceOf(attrs)) : typingOf(content);
		if (!state || !isPerson(sender) || isMe(sender, this.link.me())) {
			return null;
		}
		const names = [sender, attrs.participant_pn, attrs.participant_lid, attrs.sender_pn, attrs.sender_lid];
		const { phone, lid } = digitsOf(...names);
		return {
			chat: jidNormalizedUser(attrs.from),
			sender: jidNormalizedUser(sender),
			sender_phone: phone,
			sender_lid: lid,
			state,
			last_seen: tag === 'presence' ? wholeNumber(attrs.last) : null
		};
	}

	async pass(news) {
		const { user } = jidDecode(news.sender);
		const name = news.sender_phone ? user : `${user}_reverse`;
		if (!news.sender_phone || !news.sender_lid) {
			const found = (await this.link.keys.get('lid-mapping', [name]))[name];
			news[news.sender_phone ? 'sender_lid' : 'sender_phone'] = typeof found === 'string' ? found : null;
		}
		if (this.wanted) {
			this.link.tell(news);
		}
	}
}

function presenceOf({ type }) {
	return type === 'unavailable' ? 'unavailable' : type === undefined || type === 'available' ? 'available' : null;
}

function typingOf(content) {
	const child = Array.isArray(content) ? content[0] : undefined;
	if (child?.tag === 'composing') {
		return child.attrs?.media === 'audio' ? 'recording' : 'composing';
	}
	return child?.tag === 'paused' || child?.tag === 'recording' ? child.tag : null;
}
