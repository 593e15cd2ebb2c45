// One live connection of one instance. It never reconnects: it ends once, tells why, and is forgotten.
//
// A link ends by `finish`, whatever the cause: outstanding sends are settled, what is still to be written to the key store
// is waited for (a restart after pairing must find the credentials), then `closed` is reported as the last frame.

import { getBinaryNodeChild, jidDecode, makeWASocket } from 'baileys';
import { clean } from './clean.mjs';
import { deviceOf, isSecure, quietLogger, socketOptions } from './config.mjs';
import { isPaired, readCredentials, UnreadableCredentials } from './credentials.mjs';
import { Ending } from './ending.mjs';
import { Gate } from './gate.mjs';
import { Inbound } from './inbound.mjs';
import { KeyStore } from './keystore.mjs';
import { hideKnownLids } from './known_lids.mjs';
import { Mappings } from './mappings.mjs';
import { Media } from './media.mjs';
import { Notices } from './notices.mjs';
import { Pairing } from './pairing.mjs';
import { closeSoon, letGo } from './parting.mjs';
import { within } from './people.mjs';
import { Presence } from './presence.mjs';
import { keepOnlySent, quietEvents } from './quiet.mjs';
import { receiptOf } from './receipts.mjs';
import { orderedRepository } from './repository.mjs';
import { Requests } from './requests.mjs';
import { Sends } from './sends.mjs';
import { Spool } from './spool.mjs';
import { Term } from './term.mjs';
import { Vitals } from './vitals.mjs';
import { Watching } from './watching.mjs';

const CLOSE_PATIENCE_MS = 1000;
const KEYS_PATIENCE_MS = 5000;
const OFFLINE_PATIENCE_MS = 5000;
const TIMED_OUT = 408;

export class Link {
	/** @param {import('./host.mjs').Host} host @param {object} frame the `open` frame */
	constructor(host, frame) {
		const { settings } = host;
		this.host = host;
		this.id = frame.link;
		this.epoch = frame.epoch;
		this.instance = frame.instance;
		this.term = new Term(frame.until, () => host.now(), () => this.abort('term_expired'));
		this.browser = deviceOf(frame.device_name);
		this.online = frame.mark_online ?? false;
		this.ended = false;
		this.closing = false;
		this.finished = null;
		this.forgotten = false;
		/** The server took the account; resolved then, and when the link ends without it. */
		this.loggedIn = false;
		this.login = Promise.withResolvers();
		this.isOpen = false;
		/** What was in the offline queue, from its end until it is told. @type {object | null} */
		this.caughtUp = null;
		this.aborting = new AbortController();
		this.ending = new Ending();
		this.pairing = new Pairing(this);
		this.requests = new Requests(this);
		this.vitals = new Vitals({
			now: () => host.now(),
			keepAlive: settings.keep_alive_ms,
			onLost: () => this.abort('timed_out', TIMED_OUT, 'keep_alive_lost')
		});
		this.sends = new Sends(settings.ack_timeout_ms, result => this.tell('sent', result));
		this.spool = new Spool(settings.spool_dir, this.instance, settings.spool_key, settings.spool_flush);
		this.mappings = new Mappings({ me: () => this.creds?.me, tell: person => this.tell('mapping', person) });
		this.inbound = new Inbound({
			spool: this.spool,
			keys: { get: (kind, ids) => this.keys.get(kind, ids) },
			statuses: settings.statuses ?? false,
			me: () => this.creds?.me,
			report: (seq, body) => this.report(seq, body),
			learn: pairs => this.mappings.note(pairs),
			miss: news => this.tell('missed', news),
			pollOf: id => this.ask('need_poll', { id }),
			onSpoolFailure: () => this.abort('spool_failed'),
			onLookUpFailure: () => this.abort('look_up_failed'),
			stored: () => this.keys.stored,
			answered: async () => this.gate?.passed(),
			log: text => host.log('warning', text),
			backlog: this.vitals.backlog
		});
		this.keys = new KeyStore({
			read: names => this.ask('read', { names }),
			write: changes => this.ask('write', { changes }),
			hold: until => this.gate?.hold(until) ?? false,
			onFailure: error => this.abort(error.message === 'fenced' ? 'term_expired' : 'keys_failed')
		});
		this.notices = new Notices({
			me: () => this.creds?.me,
			keys: this.keys,
			inbound: this.inbound,
			hold: until => this.gate?.hold(until),
			log: text => host.log('warning', text)
		});
		this.watching = new Watching({
			me: () => this.creds?.me,
			keys: this.keys,
			subscribe: jid => this.sock.presenceSubscribe(jid),
			tell: news => this.tell('presence', news)
		});
		this.media = new Media({
			isOpen: () => this.isOpen && !this.ended,
			query: (node, patience) => this.sock.query(node, patience),
			dispatcher: () => this.proxy?.dispatcher,
			tell: (type, fields) => this.tell(type, fields),
			now: () => host.now()
		});
		this.term.watch();
	}

	/** Report to the gateway. */
	tell(type, fields) {
		if (this.forgotten) {
			return;
		}
		// What is received was cleaned when it was read.
		this.host.send({ t: type, link: this.id, epoch: this.epoch, ...(type === 'inbound' ? fields : clean(fields)) });
	}

	report(seq, body) {
		this.tell('inbound', { seq: BigInt(seq), body });
		this.watching.met(body.chat);
	}

	/** Ask the gateway, and wait for its answer. */
	ask(type, fields) {
		const mayAsk = type === 'write' ? !this.forgotten : !this.ended;
		return !mayAsk ? Promise.reject(new Error('link closed')) : this.host.ask(this, type, fields);
	}

	// --- life -----------------------------------------------------------------------------------------------------------

	/** @param {Buffer | null} storedCreds @param {string | null} address of the proxy */
	async open(storedCreds, address) {
		try {
			this.creds = readCredentials(storedCreds);
			this.wasLinked = isPaired(this.creds);
			const proxy = address ? await this.findProxy(address) : null;
			await this.inbound.replay();
			if (!this.ended) {
				this.connect(proxy);
			}
		} catch (error) {
			if (error instanceof UnreadableCredentials) {
				this.ending.decide('credentials_unreadable');
			} else {
				this.host.logError('link could not open', error);
				this.ending.decide('open_failed');
			}
			await this.finish(null);
		}
	}

	async findProxy(address) {
		const { throughProxy } = await import('./proxy.mjs');
		try {
			return throughProxy(address, isSecure(this.host.settings.wa_url), this.aborting.signal);
		} catch (error) {
			this.ending.decide('proxy_unusable');
			throw error;
		}
	}

	/** @param {object | null} proxy */
	connect(proxy) {
		const { settings } = this.host;
		this.proxy = proxy;
		this.logger = quietLogger(
			text => this.host.log('debug', `Baileys: ${text}`),
			{ read: (details, text) => [this.vitals.backlog, this.notices].forEach(reader => reader.read(details, text)) },
			() => (this.gate.next = { onWritten: () => {}, fault: 'after_receipt' })
		);
		this.sock = makeWASocket(
			socketOptions({
				settings,
				creds: this.creds,
				keys: this.keys,
				repository: orderedRepository(this.inbound),
				getMessage: key => this.requests.messageAgain(key.id),
				logger: this.logger,
				browser: this.browser,
				online: this.online,
				proxy,
				isLastCode: number => this.pairing.isLast(number)
			})
		);
		keepOnlySent(this.sock, id => id === this.inbound.latest);
		hideKnownLids(this.sock.ws, this.keys);
		this.presence = new Presence(this.sock, () => this.creds.me, this.online);
		this.gate = new Gate(this.sock.ws.socket, () => this.mayWrite());
		this.gate.onHandshake = () => this.handshaken();
		this.handshakeTimer = setTimeout(() => this.abort('timed_out', TIMED_OUT, 'handshake_timeout'), settings.handshake_ms);
		quietEvents(this.sock.ev, this);
		this.listen();
	}

	handshaken() {
		clearTimeout(this.handshakeTimer);
		this.vitals.start();
	}

	/** How far it got (contract 0.12). */
	get stage() {
		return this.loggedIn || this.isOpen ? 'open' : this.gate?.handshaken ? 'reached' : 'unreached';
	}

	mayWrite() {
		if (!this.ended && this.term.isOver) {
			this.abort('term_expired');
		}
		return !this.ended;
	}

	/** End at once: the socket is destroyed, and nothing leaves any more. See Ending.decide. */
	abort(cause, code, detail) {
		if (this.ended) {
			return;
		}
		this.ending.decide(cause, code, detail);
		this.ended = true;
		this.sock?.ws.socket?.terminate();
		this.shut();
	}

	/** End in order: receipts that wait for their keys leave first, or WhatsApp would bring those messages again. */
	close(cause = 'closed_by_us') {
		if (this.ended || this.closing) {
			return;
		}
		this.closing = true;
		this.ending.decide(cause);
		const end = () => {
			if (!this.ended) {
				this.ended = true;
				this.shut();
			}
		};
		if (this.gate?.waits) {
			within(CLOSE_PATIENCE_MS, this.gate.passed()).then(end, end);
		} else {
			end();
		}
	}

	shut() {
		if (this.sock) {
			Promise.resolve(this.sock.end(undefined)).catch(() => {}).then(() => this.finish(null));
		} else {
			setImmediate(() => this.finish(null));
		}
	}

	/** @param {Error | null} error what Baileys gave as the cause */
	finish(error) {
		this.finished ??= this.finishOnce(error);
		return this.finished;
	}

	async finishOnce(error) {
		const { stage } = this;
		const verdict = this.ending.verdict(error, this.pairing.usedUp(error?.output?.statusCode));
		this.ended = true;
		this.login.resolve();
		this.term.close();
		clearTimeout(this.handshakeTimer);
		[this.pairing, this.vitals].forEach(part => part.close());
		this.presence?.close();
		this.watching.close();
		this.notices.close();
		this.sends.close();
		this.media.close();
		await Promise.race([this.keys.idle(), new Promise(resolve => setTimeout(resolve, KEYS_PATIENCE_MS).unref())]);
		this.inbound.close();
		this.spool.close();
		this.tell('closed', { ...verdict, stage });
		this.forgotten = true;
		this.host.forget(this);
		this.dismantle();
	}

	dismantle() {
		const { sock } = this;
		this.sock = null;
		this.gate = null;
		if (sock) {
			letGo(sock);
		}
		this.aborting.abort();
	}

	// --- what Baileys reports -------------------------------------------------------------------------------------------

	listen() {
		const { ev, ws } = this.sock;
		const { offline } = this.inbound;
		closeSoon(ws, CLOSE_PATIENCE_MS);
		this.ending.listen(ws);
		this.vitals.listen(this.sock);
		this.pairing.listen(ws);
		this.notices.listen(ws);
		this.watching.listen(ws);
		ws.prependListener('CB:message', node => this.inbound.note(node));
		ws.prependListener('CB:ack,class:message', node => this.onAck(node.attrs));
		ws.prependListener('CB:receipt', node => {
			const receipt = receiptOf(node);
			if (receipt) {
				this.tell('receipt', receipt);
			}
		});
		ws.prependListener('CB:success', () => this.onLogin());
		ws.on('CB:ib,,offline_preview', node => offline.announce(getBinaryNodeChild(node, 'offline_preview')?.attrs ?? {}));
		ws.on('CB:ib,,offline', node => this.onOffline(node));
		// Baileys listens for it and then does nothing: the connection would hang.
		ws.on('unexpected-response', () => this.abort('upgrade_refused'));
		ev.on('creds.update', () => this.saveCreds());
		ev.on('connection.update', update => this.onConnection(update));
	}

	/** Nothing is stored before a phone has linked it: an attempt that is broken off leaves no trace. */
	saveCreds() {
		if (!isPaired(this.creds)) {
			return;
		}
		if (!this.wasLinked) {
			delete this.creds.pairingCode;
		}
		const saved = this.keys.saveCreds(this.creds);
		saved.catch(() => {});
		if (!this.wasLinked) {
			// Paired this moment: the confirmation may leave only when the credentials it confirms are stored.
			this.wasLinked = true;
			this.gate.hold(saved);
		}
	}

	onConnection(update) {
		if (update.qr) {
			this.pairing.showQr(update.qr);
		}
		if (update.isNewLogin) {
			this.keys.idle().then(() => this.tell('paired', { me: this.identity() }));
		}
		if (update.connection === 'open') {
			this.opened(false);
		}
		if (update.connection === 'close') {
			this.finish(update.lastDisconnect?.error ?? null);
		}
	}

	onLogin() {
		this.loggedIn = true;
		this.login.resolve();
	}

	/** Usable from now on. @param {boolean} polled whether a probe found out, and not Baileys */
	opened(polled) {
		if (!this.isOpen && !this.ended) {
			this.isOpen = true;
			this.tell('opened', { me: this.identity(), polled });
			this.presence.start();
			this.watching.start();
			this.tellCaughtUp();
		}
	}

	identity() {
		const { me } = this.creds;
		return { phone: jidDecode(me.id)?.user ?? '', lid: jidDecode(me.lid ?? '')?.user ?? null, name: me.name || null };
	}

	onOffline(node) {
		const count = Number(getBinaryNodeChild(node, 'offline')?.attrs.count ?? 0) || 0;
		this.inbound.whenOfflineDone(OFFLINE_PATIENCE_MS, () => {
			const { announced, received } = this.inbound.offline;
			this.caughtUp = { offline_count: count, announced, received };
			this.tellCaughtUp();
		});
	}

	/** The offline queue may be through before the login is; the gateway hears of it after the login. */
	tellCaughtUp() {
		if (this.isOpen && !this.ended && this.caughtUp !== null) {
			this.tell('caught_up', this.caughtUp);
			this.caughtUp = null;
		}
	}

	onAck({ id, error }) {
		const code = error === undefined ? null : Number(error) || 0;
		if (id && !this.sends.answered(id, code)) {
			this.tell('acked', { id, error: code });
		}
	}
}
