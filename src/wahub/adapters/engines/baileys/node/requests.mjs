// What the gateway asks of a link. Each is answered by a frame, whatever happens, unless the link ends first.

import { jidDecode, jidNormalizedUser, S_WHATSAPP_NET } from 'baileys';
import { buildMessage, stanzaNodes } from './content.mjs';
import { isOnWhatsApp, within } from './people.mjs';
import { NotStarted } from './sends.mjs';

/** A second less than the gateway waits. */
const LOGOUT_PATIENCE_MS = 4000;
const LEAST_UNLINK_MS = 500;
const TYPING_PATIENCE_MS = 1500;
const EXISTS_PATIENCE_MS = 5000;
const GROUP_PATIENCE_MS = 5000;
const PROBE_PATIENCE_MS = 10_000;

/** What the server answers to who asks for a group (source: whatsmeow group.go, ErrNotInGroup and ErrGroupNotFound). */
const REFUSED_GROUPS = new Map([[403, 'not_in_group'], [404, 'group_not_found']]);

export class Requests {
	/** @param {import('./link.mjs').Link} link */
	constructor(link) {
		this.link = link;
	}

	/** @param {{id: string, chat: string, content: object}} frame */
	async send({ id, chat, content }) {
		const { link } = this;
		const entry = link.sends.begin(id);
		if (!entry) {
			link.tell('sent', {
				id, outcome: 'not_started', code: null, reason: 'already_sending', permanent: false, link_lost: false
			});
			return;
		}
		try {
			if (!link.isOpen || link.ended || link.closing) {
				throw new Error('link closed');
			}
			await this.assertReachable(chat);
			const message = await buildMessage(content, link.logger);
			link.sends.remember(id, message);
			link.watching.met(chat);
			const additionalNodes = entry.lastStep(link.gate, stanzaNodes(content));
			await link.sock.relayMessage(chat, message, { messageId: id, additionalNodes });
			// Reached the end without the write being seen: it may have left.
			entry.onWritten();
		} catch (error) {
			const cause = entry.written ? error : await this.causeOf(error, chat);
			entry.failed(cause, link.ended || !link.sock?.ws.isOpen);
		}
	}

	/**
	 * Baileys asks who is in a group before it writes there, and later for keys. Its error does not say which of these was
	 * refused; the question by itself does.
	 * @param {Error} error @param {string} chat
	 * @returns {Promise<Error>} for a group that refuses this account for certain: one that says so
	 */
	async causeOf(error, chat) {
		if (jidDecode(chat)?.server !== 'g.us' || !REFUSED_GROUPS.has(error?.data)) {
			return error;
		}
		const asked = this.whileOpen(() => this.link.sock.groupMetadata(chat).then(() => null, refused => refused?.data));
		const reason = REFUSED_GROUPS.get(await within(GROUP_PATIENCE_MS, asked));
		return reason ? new NotStarted(reason, true) : error;
	}

	/** Learn the recipient's devices, and say for certain when there is nobody. Baileys would send to nobody. */
	async assertReachable(chat) {
		const { sock, creds } = this.link;
		const to = jidDecode(chat);
		if (!to || to.server === 'g.us') {
			return;
		}
		const { me } = creds;
		const own = to.server === 'lid' && me.lid ? me.lid : me.id;
		const devices = await sock.getUSyncDevices([jidNormalizedUser(own), chat], true, false);
		if (devices.some(device => device.user === to.user) || areSame(to, me)) {
			return;
		}
		const absent = (await isOnWhatsApp(sock, chat, EXISTS_PATIENCE_MS)) === false;
		throw new NotStarted(absent ? 'not_on_whatsapp' : 'devices_unknown', absent);
	}

	/** @param {{n: number, chat: string, typing: boolean}} frame */
	async showTyping({ n, chat, typing }) {
		const shown = () => within(TYPING_PATIENCE_MS, this.link.presence.show(chat, typing).then(() => true));
		this.link.tell('told', { n, value: (await this.whileOpen(shown)) ?? false });
	}

	/** @param {{n: number, chat: string}} frame */
	async exists({ n, chat }) {
		const asked = () => isOnWhatsApp(this.link.sock, chat, EXISTS_PATIENCE_MS);
		this.link.tell('told', { n, value: await this.whileOpen(asked) });
	}

	/** What `ask` gives; null when the link is not open or it fails. */
	async whileOpen(ask) {
		try {
			return this.link.isOpen && !this.link.ended ? await ask() : null;
		} catch {
			return null;
		}
	}

	/**
	 * Ask the server for a sign of life. Baileys opens only when some queries of its login are answered or, each after a
	 * minute, given up: a link that is logged in and gets answers is as good as open.
	 * @param {{n: number}} frame
	 */
	async probe({ n }) {
		const { link } = this;
		const pinged = link.gate?.handshaken && !link.ended ? link.vitals.ping() : Promise.resolve(false);
		const answered = (await within(PROBE_PATIENCE_MS, pinged.catch(() => false))) ?? false;
		if (answered && link.loggedIn && !link.isOpen && !link.ended) {
			link.opened(true);
			this.askForMail();
		}
		link.tell('probed', { n, logged_in: link.loggedIn && !link.ended, answered });
	}

	/** The server holds back messages until it is told; Baileys does that after the queries it still waits for. */
	askForMail() {
		const { sock } = this.link;
		const attrs = { id: sock.generateMessageTag(), to: S_WHATSAPP_NET, type: 'set', xmlns: 'passive' };
		sock.sendNode({ tag: 'iq', attrs, content: [{ tag: 'active', attrs: {} }] }).catch(() => {});
	}

	/** Unlink at the server, waiting for the login if need be, and close. */
	async logout() {
		const { link } = this;
		const until = link.host.now() + LOGOUT_PATIENCE_MS;
		if (link.wasLinked && !link.loggedIn && !link.ended) {
			await within(LOGOUT_PATIENCE_MS - LEAST_UNLINK_MS, link.login.promise);
		}
		if (!link.wasLinked || !link.loggedIn || link.ended) {
			link.close();
			return;
		}
		const request = {
			tag: 'iq',
			attrs: { to: S_WHATSAPP_NET, type: 'set', xmlns: 'md' },
			content: [{ tag: 'remove-companion-device', attrs: { jid: link.creds.me.id, reason: 'user_initiated' } }]
		};
		const patience = Math.max(LEAST_UNLINK_MS, until - link.host.now());
		const done = await link.sock.query(request, patience).then(Boolean, () => false);
		link.close(done ? 'logged_out_by_us' : 'closed_by_us');
	}

	/** The message of ours with this id: for a device that asks to have it again, or for a vote on it. */
	async messageAgain(id) {
		const kept = this.link.sends.sent.get(id);
		if (kept) {
			return kept;
		}
		const content = await this.link.ask('need_message', { id });
		return content ? buildMessage(content, this.link.logger) : undefined;
	}
}

function areSame(to, me) {
	return to.user === jidDecode(me.id)?.user || to.user === jidDecode(me.lid ?? '')?.user;
}
