// Signs of life of one link: when the server was last heard, whether it answers pings, and whether what it delivers gets
// through to the gateway. Times are milliseconds of this process's clock.
//
// The pings are ours and not Baileys': nobody outside can see when it sends one and whether it was answered. The rule for
// giving up is Baileys' own (source: Socket/socket.js startKeepAliveRequest): nothing heard for a ping's interval and 5 s.
// Unlike Baileys we do not blame the server for our own sleep: a machine that stalled for ten seconds would give up every
// sixth link, and a few such losses pause an account.

import { S_WHATSAPP_NET } from 'baileys';
import { Backlog } from './backlog.mjs';

const GRACE_MS = 5000;
/** From this share of the grace on, a beat is not merely a little late. */
const LATE = 0.2;
/** How many unanswered pings are told apart. */
const KEPT_PINGS = 16;

export class Vitals {
	/** @param {{now: () => number, keepAlive: number, onLost: () => void}} link `keepAlive`: ms between pings */
	constructor(link) {
		this.link = link;
		/** @type {number | null} */
		this.heard = null;
		/** @type {number | null} */
		this.unanswered = null;
		/** @type {Map<string, {since: number, resolve: (answered: boolean) => void}>} */
		this.pings = new Map();
		this.backlog = new Backlog(link.now);
		this.timer = null;
		this.told = [null, null, null];
	}

	/** @param {object} sock Baileys' socket */
	listen(sock) {
		this.sock = sock;
		sock.ws.on('message', () => (this.heard = this.link.now()));
		sock.ws.prependListener('CB:iq', node => this.onAnswer(node.attrs.id));
	}

	/** Begin with the pings; before the end of the handshake there is nobody to answer them. */
	start() {
		this.heard ??= this.link.now();
		this.beatIn(this.link.keepAlive);
	}

	/** @param {number} wait ms */
	beatIn(wait) {
		const due = this.link.now() + wait;
		this.timer = setTimeout(() => this.beat(this.link.now() - due), wait);
	}

	close() {
		clearTimeout(this.timer);
		this.pings.forEach(({ resolve }) => resolve(false));
		this.pings.clear();
		this.backlog.clear();
	}

	/** @param {number} late ms: so long this process did not run, and what the server said meanwhile may not be read yet */
	beat(late) {
		const { keepAlive } = this.link;
		const grace = Math.min(GRACE_MS, keepAlive);
		const isSilent = this.link.now() - this.heard > keepAlive + grace;
		if (isSilent && late < grace * LATE) {
			this.link.onLost();
			return;
		}
		this.beatIn(isSilent ? grace : keepAlive);
		this.ping().catch(() => {});
	}

	/** True when the server answered; rejects when nothing can be written. Waits until the link ends. */
	async ping() {
		const id = this.sock.generateMessageTag();
		const since = this.link.now();
		const answered = new Promise(resolve => this.pings.set(id, { since, resolve }));
		this.unanswered ??= since;
		if (this.pings.size > KEPT_PINGS) {
			this.pings.delete(this.pings.keys().next().value);
		}
		await this.sock.sendNode({
			tag: 'iq',
			attrs: { id, to: S_WHATSAPP_NET, type: 'get', xmlns: 'w:p' },
			content: [{ tag: 'ping', attrs: {} }]
		});
		return answered;
	}

	/** An answer to one ping is proof for those before it. */
	onAnswer(id) {
		if (!this.pings.has(id)) {
			return;
		}
		for (const [key, ping] of this.pings) {
			this.pings.delete(key);
			ping.resolve(true);
			if (key === id) {
				break;
			}
		}
		this.unanswered = this.pings.values().next().value?.since ?? null;
	}

	/**
	 * When the server was heard, since when a ping waits for its answer, since when a message waits to be handed over.
	 * @returns {(number | null)[] | null} null when that is what was told last
	 */
	news() {
		const now = [this.heard, this.unanswered, this.backlog.since];
		if (now.every((time, index) => time === this.told[index])) {
			return null;
		}
		this.told = now;
		return now;
	}
}
