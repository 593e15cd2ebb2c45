// What was received is told to the gateway in the order it came, also when something has to be looked up first: the people a
// message names, or the poll that a vote is on. The spool holds messages as they were received, so they are read anew at each
// replay. If the poll of a vote cannot be looked up now, the link ends and nothing behind that vote is told: the next link tells
// both in their order.

import { known, ownPerson } from './addresses.mjs';
import { clean } from './clean.mjs';
import { around, peopleIn } from './context.mjs';
import { pollUpdateOf } from './polls.mjs';
import { rawJson, read } from './reading.mjs';
import { digitsOf } from './stanzas.mjs';
import { Votes } from './votes.mjs';

/** How many people of one message are looked up: a stranger may name any number of them. */
const LOOKED_UP = 64;
/**
 * Characters of a message as JSON beyond which only where it came from is told: some escaped ones take six times their place,
 * and a frame that is too long ends this process. What apps write is far below.
 */
const MOST_JSON = 4 * 1024 * 1024;
/** Kept by another version, which knew more, or beyond measure: it is told all the same. */
const NOT_UNDERSTOOD = { type: 'other', text: null, target: null, details: {}, context: null };

/** How the stanza of a delete says that an admin of the group did it (source: whatsmeow types/message.go EditAttribute). */
const BY_ADMIN = '8';

export class Reports {
	/**
	 * @param {{
	 *   report: (seq: number, body: object) => void,
	 *   pollOf: (id: string) => Promise<import('./polls.mjs').PollKey | null>,
	 *   expects: (id: string) => boolean,
	 *   me: () => {id: string, lid?: string} | undefined,
	 *   keys: object,
	 *   log: (text: string) => void,
	 *   onFailure: () => void,
	 * }} link `onFailure` ends it
	 */
	constructor(link) {
		this.link = link;
		this.waiting = 0;
		/** Nothing more is told: something before it was not. */
		this.failed = false;
		this.line = Promise.resolve();
		this.votes = new Votes(link, ({ seq, envelope, message }) => this.tellVote(seq, envelope, message, true));
	}

	/**
	 * @param {() => void} done told when it was reported, or waits for the next link
	 * @param {boolean} again whether an earlier link may have waited with it
	 * @param {object | null} said what `read` says of the message
	 */
	add(seq, envelope, message, done = () => {}, again = false, said = read(message)) {
		if (said?.type === 'vote') {
			this.tellVote(seq, envelope, message, false, done, again);
			return;
		}
		const strangers = said ? this.strangersIn(said.context, envelope) : [];
		const tell = people => {
			this.report(seq, this.bodyOf(envelope, message, said ?? NOT_UNDERSTOOD, people));
			this.votes.told(message, envelope);
		};
		if (strangers.length === 0 && this.waiting === 0) {
			tell(new Map());
			done();
		} else {
			this.inLine(async () => tell(await this.lookUp(strangers)), done);
		}
	}

	/** @param {boolean} last whether it must not wait for its poll (again) */
	tellVote(seq, envelope, message, last, done, again = false) {
		const update = pollUpdateOf(message);
		const id = update.pollCreationMessageKey?.id ?? null;
		this.inLine(async () => {
			const options = await this.votes.read(update, envelope);
			if (options || last || !this.votes.postpone(id, { seq, envelope, message }, again)) {
				const body = this.bodyOf(envelope, message, read(message), new Map());
				this.report(seq, { ...body, poll_id: id, options });
			}
		}, done);
	}

	bodyOf(envelope, message, said, people) {
		const written = rawJson(message);
		const raw = written !== null && written.length <= MOST_JSON ? written : null;
		const { type, text, target, details, context } = raw === null ? NOT_UNDERSTOOD : said;
		const who = jid => people.get(jid) ?? this.near(jid, envelope) ?? digitsOf(jid);
		const admin = type === 'delete' && envelope.edit === BY_ADMIN ? { byAdmin: true } : {};
		return { ...whereOf(envelope), type, text, target, details: { ...details, ...admin, ...around(context, who) }, raw };
	}

	/** Those whom a message names and who are not in the chat as far as one can see. */
	strangersIn(context, envelope) {
		return peopleIn(context).filter(jid => !this.near(jid, envelope)).slice(0, LOOKED_UP);
	}

	/** Whoever is known without asking: the account itself, the sender, the partner of a direct chat. */
	near(jid, envelope) {
		const { phone, lid } = digitsOf(jid);
		const people = [
			ownPerson(this.link.me()),
			{ phone: envelope.sender_phone, lid: envelope.sender_lid },
			{ phone: envelope.chat_phone, lid: envelope.chat_lid }
		];
		return people.find(person => (phone && person.phone === phone) || (lid && person.lid === lid)) ?? null;
	}

	async lookUp(jids) {
		if (jids.length === 0) {
			return new Map();
		}
		const people = await known(this.link.keys, jids.map(jid => [jid]));
		return new Map(jids.map((jid, index) => [jid, people[index]]));
	}

	report(seq, body) {
		if (!this.failed) {
			this.link.report(seq, clean(body));
		}
	}

	/** Calls `done` when everything added so far has been told. */
	after(done) {
		if (this.waiting === 0) {
			done();
		} else {
			this.inLine(done);
		}
	}

	inLine(step, done = () => {}) {
		this.waiting += 1;
		this.line = this.line
			.then(step)
			.catch(error => {
				this.failed = true;
				if (error.message !== 'link closed') {
					this.link.log('what a received vote is on could not be looked up: the next link tells it');
					this.link.onFailure();
				}
			})
			.finally(() => {
				this.waiting -= 1;
				done();
			});
	}

	close() {
		this.votes.close();
	}
}

/** To take something out of an object makes a slow one; most have nothing to be taken out. */
function whereOf(envelope) {
	if (envelope.edit === undefined) {
		return envelope;
	}
	const { edit: _, ...where } = envelope;
	return where;
}
