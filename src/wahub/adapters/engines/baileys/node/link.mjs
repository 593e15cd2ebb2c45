// One live connection of one instance. It never reconnects: it ends once, tells why, and is forgotten.
//
// A link ends by `finish`, whatever the cause: outstanding sends are settled, what is still to be written to the key store
// is waited for (a restart after pairing must find the credentials), then `closed` is reported as the last frame.

import {
	BufferJSON, getAllBinaryNodeChildren, getBinaryNodeChild, getBinaryNodeChildren, initAuthCreds, jidDecode, jidNormalizedUser,
	makeWASocket, S_WHATSAPP_NET
} from 'baileys';
import { buildMessage, stanzaNodes } from './content.mjs';
import { quietLogger, socketOptions } from './config.mjs';
import { Gate } from './gate.mjs';
import { Inbound } from './inbound.mjs';
import { KeyStore } from './keystore.mjs';
import { isOnWhatsApp, within } from './people.mjs';
import { Presence } from './presence.mjs';
import { orderedRepository } from './repository.mjs';
import { NotStarted, Sends } from './sends.mjs';
import { Spool } from './spool.mjs';

const CLOSE_PATIENCE_MS = 1000;
const LOGOUT_PATIENCE_MS = 4000;
const KEYS_PATIENCE_MS = 5000;
const OFFLINE_PATIENCE_MS = 5000;
const TYPING_PATIENCE_MS = 1500;
const EXISTS_PATIENCE_MS = 5000;
const TIMED_OUT = 408;

/** Baileys' events for bots that keep their chats in memory. Nobody listens here, and buffering them costs. */
const UNUSED_EVENTS = new Set([
	'messages.upsert', 'messages.update', 'messages.delete', 'messages.reaction', 'message-receipt.update', 'messaging-history.set',
	'messaging-history.status', 'chats.upsert', 'chats.update', 'chats.delete', 'contacts.upsert', 'contacts.update',
	'groups.upsert', 'groups.update', 'group-participants.update', 'presence.update'
]);

export class Link {
	/** @param {import('./host.mjs').Host} host @param {object} frame the `open` frame */
	constructor(host, frame) {
		this.host = host;
		this.id = frame.link;
		this.epoch = frame.epoch;
		this.instance = frame.instance;
		this.deadline = frame.until;
		this.ended = false;
		this.finished = null;
		this.forgotten = false;
		this.isOpen = false;
		/** How many were in the offline queue, from its end until it is told. @type {number | null} */
		this.caughtUp = null;
		/** Why we end it ourselves; null while only the other side may. @type {string | null} */
		this.cause = null;
		this.qr = { refs: 0, shown: 0, deadline: 0 };
		this.sends = new Sends(host.settings.ack_timeout_ms, result => this.tell('sent', result));
		this.spool = new Spool(host.settings.spool_dir, this.instance, host.settings.spool_key, host.settings.spool_flush);
		this.inbound = new Inbound({
			spool: this.spool,
			me: () => this.creds?.me,
			report: (seq, body) => this.tell('inbound', { seq: BigInt(seq), body }),
			pollOf: id => this.messageAgain(id),
			onSpoolFailure: () => this.abort('spool_failed'),
			log: text => host.log('warning', text)
		});
		this.keys = new KeyStore({
			read: names => this.ask('read', { names }),
			write: changes => this.ask('write', { changes }),
			onFailure: error => this.abort(error.message === 'fenced' ? 'term_expired' : 'keys_failed')
		});
		this.watchTerm();
	}

	/** Report to the gateway. */
	tell(type, fields) {
		if (this.forgotten) {
			return;
		}
		this.host.send({ t: type, link: this.id, epoch: this.epoch, ...fields });
	}

	/** Ask the gateway, and wait for its answer. */
	ask(type, fields) {
		const mayAsk = type === 'write' ? !this.forgotten : !this.ended;
		return !mayAsk ? Promise.reject(new Error('link closed')) : this.host.ask(this, type, fields);
	}

	// --- life -----------------------------------------------------------------------------------------------------------

	/** @param {Buffer | null} storedCreds */
	async open(storedCreds) {
		try {
			this.creds = storedCreds ? JSON.parse(storedCreds.toString('utf8'), BufferJSON.reviver) : initAuthCreds();
			this.wasLinked = Boolean(this.creds.me);
			await this.inbound.replay();
			if (!this.ended) {
				this.connect();
			}
		} catch (error) {
			this.host.logError('link could not open', error);
			this.cause ??= 'open_failed';
			await this.finish(null);
		}
	}

	connect() {
		const logger = quietLogger(
			text => this.host.log('debug', `Baileys: ${text}`),
			() => (this.gate.next = { onWritten: () => {}, fault: 'after_receipt' })
		);
		this.logger = logger;
		this.sock = makeWASocket(
			socketOptions({
				settings: this.host.settings,
				creds: this.creds,
				keys: this.keys,
				repository: orderedRepository(this.inbound),
				getMessage: key => this.messageAgain(key.id),
				logger
			})
		);
		this.presence = new Presence(this.sock, () => this.creds.me);
		this.gate = new Gate(this.sock.ws.socket, () => this.mayWrite());
		this.quietEvents();
		this.listen();
	}

	mayWrite() {
		if (!this.ended && this.host.now() >= this.deadline) {
			this.abort('term_expired');
		}
		return !this.ended;
	}

	/** @param {number} until ms of this process's clock */
	extend(until) {
		this.deadline = Math.max(this.deadline, until);
	}

	watchTerm() {
		const left = this.deadline - this.host.now();
		if (left <= 0) {
			this.abort('term_expired');
		} else {
			this.termTimer = setTimeout(() => this.watchTerm(), Math.ceil(left));
		}
	}

	/** End at once: the socket is destroyed, and nothing leaves any more. @param {string} cause */
	abort(cause) {
		if (this.ended) {
			return;
		}
		this.cause ??= cause;
		this.ended = true;
		this.sock?.ws.socket?.terminate();
		this.shut();
	}

	/** End in order. */
	close(cause = 'closed_by_us') {
		if (this.ended) {
			return;
		}
		this.cause ??= cause;
		this.ended = true;
		setTimeout(() => this.sock?.ws.socket?.terminate(), CLOSE_PATIENCE_MS).unref();
		this.shut();
	}

	shut() {
		if (this.sock) {
			Promise.resolve(this.sock.end(undefined)).catch(() => {}).then(() => this.finish(null));
		} else {
			setImmediate(() => this.finish(null));
		}
	}

	async logout() {
		const me = this.creds?.me?.id;
		if (me && this.isOpen && !this.ended) {
			const request = {
				tag: 'iq',
				attrs: { to: S_WHATSAPP_NET, type: 'set', xmlns: 'md' },
				content: [{ tag: 'remove-companion-device', attrs: { jid: me, reason: 'user_initiated' } }]
			};
			const done = await this.sock.query(request, LOGOUT_PATIENCE_MS).then(Boolean, () => false);
			this.close(done ? 'logged_out_by_us' : 'closed_by_us');
		} else {
			this.close();
		}
	}

	/** @param {Error | null} error what Baileys gave as the cause */
	finish(error) {
		this.finished ??= this.finishOnce(error);
		return this.finished;
	}

	async finishOnce(error) {
		this.ended = true;
		clearTimeout(this.termTimer);
		this.presence?.close();
		this.sends.close();
		await Promise.race([this.keys.idle(), new Promise(resolve => setTimeout(resolve, KEYS_PATIENCE_MS).unref())]);
		this.inbound.close();
		const code = error?.output?.statusCode ?? null;
		this.tell('closed', {
			cause: this.cause ?? (this.qrUsedUp(code) ? 'qr_expired' : null),
			code,
			detail: this.cause ?? error?.message ?? ''
		});
		this.forgotten = true;
		this.host.forget(this);
		this.dismantle();
	}

	/** Let go of what Baileys would keep for a minute: the queries that still wait for an answer, with their timers. */
	dismantle() {
		const sock = this.sock;
		this.sock = null;
		this.gate = null;
		if (sock) {
			sock.ws.on('error', () => {});
			sock.ws.emit('error', new Error('link closed'));
			sock.ws.removeAllListeners();
			sock.ws.on('error', () => {});
			sock.ev.removeAllListeners('creds.update');
		}
	}

	// --- what Baileys reports -------------------------------------------------------------------------------------------

	/**
	 * Drops events without a reader, and keeps Baileys from sending an empty presence on every change of the credentials:
	 * it takes a change without `me` for a lost push name (source: Socket/socket.js `creds.update`).
	 */
	quietEvents() {
		const { ev } = this.sock;
		const emit = ev.emit;
		ev.emit = (event, data) => {
			if (UNUSED_EVENTS.has(event)) {
				return true;
			}
			if (event === 'creds.update' && this.creds.me && !data.me) {
				return emit(event, { ...data, me: this.creds.me });
			}
			return emit(event, data);
		};
	}

	listen() {
		const { ev, ws } = this.sock;
		ws.prependListener('CB:message', node => this.inbound.note(node));
		ws.prependListener('CB:iq,type:set,pair-device', node => this.noteRefs(node));
		ws.prependListener('CB:stream:error', node => this.noteConflict(node));
		ws.prependListener('CB:ack,class:message', node => this.onAck(node.attrs));
		ws.prependListener('CB:receipt', node => this.onReceipt(node));
		ws.on('CB:ib,,offline', node => this.onOffline(node));
		ev.on('creds.update', () => this.saveCreds());
		ev.on('connection.update', update => this.onConnection(update));
	}

	saveCreds() {
		const saved = this.keys.saveCreds(this.creds);
		saved.catch(() => {});
		if (this.creds.me && !this.wasLinked) {
			// Paired this moment: the confirmation may leave only when the credentials it confirms are stored.
			this.wasLinked = true;
			this.gate.hold(saved);
		}
		return saved;
	}

	onConnection(update) {
		if (update.qr) {
			this.showQr(update.qr);
		}
		if (update.isNewLogin) {
			this.keys.idle().then(() => this.tell('paired', { me: this.identity() }));
		}
		if (update.connection === 'open') {
			this.isOpen = true;
			this.tell('opened', { me: this.identity() });
			this.tellCaughtUp();
		}
		if (update.connection === 'close') {
			this.finish(update.lastDisconnect?.error ?? null);
		}
	}

	identity() {
		const { me } = this.creds;
		return { phone: jidDecode(me.id)?.user ?? '', lid: jidDecode(me.lid ?? '')?.user ?? null, name: me.name || null };
	}

	noteRefs(node) {
		this.qr.refs += getBinaryNodeChildren(getBinaryNodeChild(node, 'pair-device'), 'ref').length;
	}

	showQr(text) {
		const { qr_first_ms: first, qr_next_ms: next } = this.host.settings;
		const ttl = this.qr.shown === 0 ? first : next;
		this.qr.shown += 1;
		this.qr.deadline = this.host.now() + ttl;
		this.tell('qr', { text, ttl_ms: ttl });
	}

	/** Baileys ends with the same code when the connection dies; all codes shown and the last one's time over tells them apart. */
	qrUsedUp(code) {
		const { refs, shown, deadline } = this.qr;
		return code === TIMED_OUT && shown > 0 && shown >= refs && this.host.now() >= deadline - 50;
	}

	/** Baileys reports every conflict as 440, also the one that means "removed by the user". */
	noteConflict(node) {
		const conflict = getAllBinaryNodeChildren(node).find(child => child.tag === 'conflict');
		if (conflict?.attrs.type === 'device_removed') {
			this.cause ??= 'device_removed';
		}
	}

	onOffline(node) {
		const count = Number(getBinaryNodeChild(node, 'offline')?.attrs.count ?? 0) || 0;
		this.inbound.whenOfflineDone(OFFLINE_PATIENCE_MS, () => {
			this.caughtUp = count;
			this.tellCaughtUp();
		});
	}

	/** The offline queue may be through before the login is; the gateway hears of it after the login. */
	tellCaughtUp() {
		if (this.isOpen && !this.ended && this.caughtUp !== null) {
			this.tell('caught_up', { offline_count: this.caughtUp });
			this.caughtUp = null;
		}
	}

	onAck({ id, error }) {
		const code = error === undefined ? null : Number(error) || 0;
		if (id && !this.sends.answered(id, code)) {
			this.tell('acked', { id, error: code });
		}
	}

	onReceipt(node) {
		const { attrs } = node;
		const kind = attrs.type ?? 'delivered';
		// A receipt with a recipient is our own devices' news about messages of others, except when it is about ours.
		const ours = !attrs.recipient || kind === 'sender' || kind === 'retry';
		if (!ours || kind === 'hist_sync' || kind === 'peer_msg' || kind.endsWith('-self')) {
			return;
		}
		const list = Array.isArray(node.content) ? node.content.find(child => child.tag === 'list') : undefined;
		const more = list ? getBinaryNodeChildren(list, 'item').map(item => item.attrs.id) : [];
		this.tell('receipt', {
			ids: [attrs.id, ...more],
			kind,
			chat: jidNormalizedUser(attrs.recipient ?? attrs.from),
			at: Number(attrs.t) || Math.floor(Date.now() / 1000)
		});
	}

	// --- what the gateway asks for --------------------------------------------------------------------------------------

	/** @param {{id: string, chat: string, content: object}} frame */
	async send({ id, chat, content }) {
		const entry = this.sends.begin(id);
		if (!entry) {
			this.tell('sent', {
				id, outcome: 'not_started', code: null, reason: 'already_sending', permanent: false, link_lost: false
			});
			return;
		}
		try {
			if (!this.isOpen || this.ended) {
				throw new Error('link closed');
			}
			await this.assertReachable(chat);
			const message = await buildMessage(content, this.logger);
			this.sends.remember(id, message);
			await this.sock.relayMessage(chat, message, { messageId: id, additionalNodes: entry.lastStep(this.gate, stanzaNodes(content)) });
			// Reached the end without the write being seen: it may have left.
			entry.onWritten();
		} catch (error) {
			entry.failed(error, this.ended || !this.sock?.ws.isOpen);
		}
	}

	/** Learn the recipient's devices, and say for certain when there is nobody. Baileys would send to nobody. */
	async assertReachable(chat) {
		const to = jidDecode(chat);
		if (!to || to.server === 'g.us') {
			return;
		}
		const { me } = this.creds;
		const own = to.server === 'lid' && me.lid ? me.lid : me.id;
		const devices = await this.sock.getUSyncDevices([jidNormalizedUser(own), chat], true, false);
		if (devices.some(device => device.user === to.user) || areSame(to, me)) {
			return;
		}
		const absent = (await isOnWhatsApp(this.sock, chat, EXISTS_PATIENCE_MS)) === false;
		throw new NotStarted(absent ? 'not_on_whatsapp' : 'devices_unknown', absent);
	}

	/** @param {{n: number, chat: string, typing: boolean}} frame */
	async showTyping({ n, chat, typing }) {
		const shown = () => within(TYPING_PATIENCE_MS, this.presence.show(chat, typing).then(() => true));
		this.tell('told', { n, value: (await this.whileOpen(shown)) ?? false });
	}

	/** @param {{n: number, chat: string}} frame */
	async exists({ n, chat }) {
		this.tell('told', { n, value: await this.whileOpen(() => isOnWhatsApp(this.sock, chat, EXISTS_PATIENCE_MS)) });
	}

	/** What `ask` gives; null when the link is not open or it fails. */
	async whileOpen(ask) {
		try {
			return this.isOpen && !this.ended ? await ask() : null;
		} catch {
			return null;
		}
	}

	/** The message of ours with this id: for a device that asks to have it again, or for a vote on it. */
	async messageAgain(id) {
		const kept = this.sends.sent.get(id);
		if (kept) {
			return kept;
		}
		const content = await this.ask('need_message', { id });
		return content ? buildMessage(content, this.logger) : undefined;
	}
}

function areSame(to, me) {
	return to.user === jidDecode(me.id)?.user || to.user === jidDecode(me.lid ?? '')?.user;
}
