// Reading votes as they come. The poll's secret is the gateway's matter, for it must outlive this process; a poll that came a
// moment ago may not be stored yet, so those of this link are at hand. A vote may even overtake its poll: it then waits until
// the poll was told. What waits here lies in the spool as well, so nothing is lost with this process.

import { addressesOf, ownPerson } from './addresses.mjs';
import { pollKeyOf, readVote } from './polls.mjs';

/** How many polls are at hand: more than the gateway leaves unstored. */
const AT_HAND = 256;
const PATIENCE_MS = 15_000;

export class Votes {
	/**
	 * @param {{
	 *   pollOf: (id: string) => Promise<import('./polls.mjs').PollKey | null>,
	 *   me: () => {id: string, lid?: string} | undefined,
	 *   expects: (id: string) => boolean,
	 *   patience?: number,
	 * }} link `pollOf`: no creators: the poll is ours. `expects`: whether a message of that id came and is not told yet
	 * @param {(vote: object) => void} tellAgain what waited may be told now
	 */
	constructor(link, tellAgain) {
		this.link = link;
		this.tellAgain = tellAgain;
		/** @type {Map<string, import('./polls.mjs').PollKey>} */
		this.atHand = new Map();
		/** By the id of the poll. @type {Map<string, {votes: object[], timer: NodeJS.Timeout}>} */
		this.waiting = new Map();
	}

	/** A message was told: votes on it can be read now. */
	told(message, envelope) {
		const poll = pollKeyOf(message, []);
		if (poll) {
			const creators = envelope.from_me ? [] : [envelope.sender, ...addressesOf(senderOf(envelope))];
			this.atHand.set(envelope.message_id, { ...poll, creators: [...new Set(creators)] });
			if (this.atHand.size > AT_HAND) {
				this.atHand.delete(this.atHand.keys().next().value);
			}
			this.release(envelope.message_id);
		}
	}

	/** @returns {Promise<string[] | null>} the options chosen; null: they cannot be read */
	async read(update, envelope) {
		const id = update.pollCreationMessageKey?.id;
		if (!id) {
			return null;
		}
		const voters = [...new Set([envelope.sender, ...addressesOf(senderOf(envelope))])];
		const near = this.atHand.get(id);
		const options = near ? readVote(update, this.ours(near), voters) : null;
		if (options) {
			return options;
		}
		const stored = await this.link.pollOf(id);
		return stored ? readVote(update, this.ours(stored), voters) : null;
	}

	ours(key) {
		return key.creators.length ? key : { ...key, creators: addressesOf(ownPerson(this.link.me())) };
	}

	/**
	 * Keeps a vote until its poll was told, if that is to be expected: what an earlier link knew is not known any more.
	 * @param {boolean} again whether an earlier link may have waited with it
	 * @returns {boolean} whether it waits
	 */
	postpone(id, vote, again = false) {
		const others = this.waiting.get(id);
		if (!id || (!others && !again && !this.link.expects(id))) {
			return false;
		}
		if (others) {
			others.votes.push(vote);
		} else {
			const timer = setTimeout(() => this.release(id), this.link.patience ?? PATIENCE_MS);
			this.waiting.set(id, { votes: [vote], timer });
		}
		return true;
	}

	release(id) {
		const { votes = [], timer } = this.waiting.get(id) ?? {};
		clearTimeout(timer);
		this.waiting.delete(id);
		votes.forEach(vote => this.tellAgain(vote));
	}

	close() {
		this.waiting.forEach(({ timer }) => clearTimeout(timer));
		this.waiting.clear();
		this.atHand.clear();
	}
}

function senderOf({ sender_phone: phone, sender_lid: lid }) {
	return { phone, lid };
}
