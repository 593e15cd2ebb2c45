// Holds the links of this process and moves frames between them and the gateway. Frames about a link that is not here, or
// under another epoch, are ignored: they come from or go to a term that is over.

import { arm } from './faults.mjs';
import { Link } from './link.mjs';
import { describe } from './silence.mjs';
import { PROTOCOL_VERSION } from './wire.mjs';
import { WA_CERT_DETAILS } from 'baileys';

const LOG_LINES_PER_MINUTE = 60;

export class Host {
	/** @param {(frame: object) => void} send */
	constructor(send) {
		this.send = send;
		this.settings = null;
		/** @type {Map<number, Link>} */
		this.links = new Map();
		this.questions = new Map();
		this.nextQuestion = 1;
		this.logBudget = LOG_LINES_PER_MINUTE;
		setInterval(() => (this.logBudget = LOG_LINES_PER_MINUTE), 60_000).unref();
	}

	/** Milliseconds of a clock that only goes forward. */
	now() {
		return performance.now();
	}

	log(level, text) {
		if (this.logBudget-- > 0) {
			this.send({ t: 'log', level, text });
		}
	}

	logError(text, error) {
		this.log('error', `${text}: ${describe(error)}`);
	}

	receive(frame) {
		switch (frame.t) {
			case 'hello':
				return this.configure(frame);
			case 'ping':
				return this.pong(frame.n);
			case 'open':
				return this.open(frame);
			case 'answer':
				return this.answer(frame);
		}
		const link = this.links.get(frame.link);
		if (!link || link.epoch !== frame.epoch) {
			return undefined;
		}
		try {
			return this.forLink(link, frame);
		} catch (error) {
			// One link's trouble must not end the process, and with it all others.
			this.logError('a frame failed its link', error);
			return link.abort('link_failed');
		}
	}

	/** @param {Link} link */
	forLink(link, frame) {
		switch (frame.t) {
			case 'send':
				return void link.requests.send(frame);
			case 'typing':
				return void link.requests.showTyping(frame);
			case 'exists':
				return void link.requests.exists(frame);
			case 'probe':
				return void link.requests.probe(frame);
			case 'pair':
				return void link.pairing.answer(frame);
			case 'extend':
				return link.term.extend(frame.until);
			case 'inbound_ack':
				return void link.inbound.acknowledged(frame.seqs).catch(error => this.logError('spool file stays', error));
			case 'watch':
				return link.watching.set(frame.presence);
			case 'fetch':
				return void link.media.fetch(frame);
			case 'logout':
				return void link.requests.logout();
			case 'close':
				return link.close();
			default:
				return undefined;
		}
	}

	pong(n) {
		const { rss, heapUsed: heap } = process.memoryUsage();
		const handles = process.getActiveResourcesInfo().length;
		const clock = this.now();
		this.send({ t: 'pong', n, rss, heap, handles, links: this.links.size, clock, vitals: this.newVitals() });
	}

	/** The links whose signs of life changed since the last time. @returns {[number, ...(number | null)[]][]} */
	newVitals() {
		const changed = [];
		for (const link of this.links.values()) {
			const news = link.vitals.news();
			if (news) {
				changed.push([link.id, ...news]);
			}
		}
		return changed;
	}

	configure(hello) {
		if (hello.v !== PROTOCOL_VERSION) {
			this.send({ t: 'hello_ok', v: PROTOCOL_VERSION, clock: this.now() });
			return;
		}
		this.settings = hello;
		arm(hello.fault);
		if (hello.trust_root) {
			WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(hello.trust_root, 'hex');
		}
		this.send({ t: 'hello_ok', v: PROTOCOL_VERSION, clock: this.now() });
	}

	open(frame) {
		if (this.settings && !this.links.has(frame.link)) {
			const link = new Link(this, frame);
			this.links.set(frame.link, link);
			void link.open(frame.creds, frame.proxy).catch(error => this.logError('link could not open', error));
		}
	}

	forget(link) {
		this.links.delete(link.id);
		for (const [number, question] of this.questions) {
			if (question.link === link) {
				this.questions.delete(number);
				question.reject(new Error('link closed'));
			}
		}
	}

	/** Ask the gateway something for a link. Rejects with `fenced` when the link's term is over there. */
	ask(link, type, fields) {
		if (!this.links.has(link.id)) {
			return Promise.reject(new Error('link closed'));
		}
		return new Promise((resolve, reject) => {
			const number = this.nextQuestion++;
			this.questions.set(number, { link, resolve, reject });
			link.tell(type, { q: number, ...fields });
		});
	}

	answer({ q, error, value }) {
		const question = this.questions.get(q);
		if (question) {
			this.questions.delete(q);
			if (error) {
				question.reject(new Error(error));
			} else {
				question.resolve(value);
			}
		}
	}
}
