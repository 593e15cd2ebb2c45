// Votes on polls. A vote names its options by hash and is encrypted with the poll's secret, for one creator and one voter:
// their addresses go into the key (source: Baileys Utils/process-message.js decryptPollVote, whatsmeow msgsecret.go).
// WhatsApp is moving from phone numbers to LIDs, and the two ends may have seen each other under different ones, so each
// combination is tried; the encryption proves which one it was.

import { createHash } from 'node:crypto';
import { decryptPollVote } from 'baileys';
import { opened } from './reading.mjs';

const POLLS = ['pollCreationMessage', 'pollCreationMessageV2', 'pollCreationMessageV3', 'pollCreationMessageV5'];

/** What reads the votes on a poll. @typedef {{options: string[], secret: Uint8Array, creators: string[]}} PollKey */

/** The vote in a message, or null. */
export function pollUpdateOf(message) {
	return opened(message).content.pollUpdateMessage ?? null;
}

/** @param {object} message @param {string[]} creators addresses of who sent it @returns {PollKey | null} null: no poll */
export function pollKeyOf(message, creators) {
	const { content } = opened(message);
	const field = POLLS.find(name => content[name]);
	const secret = message.messageContextInfo?.messageSecret ?? content.messageContextInfo?.messageSecret;
	if (!field || !secret?.length) {
		return null;
	}
	return { options: content[field].options.map(option => option.optionName ?? ''), secret, creators };
}

/**
 * The names voted for, in the order of the poll; empty when the vote was withdrawn.
 * @param {object} update `pollUpdateMessage` as received
 * @param {PollKey} poll
 * @param {string[]} voters addresses of who sent the vote
 * @returns {string[] | null} null when this is no vote on that poll
 */
export function readVote(update, poll, voters) {
	if (!update.vote || !poll.secret?.length) {
		return null;
	}
	for (const pollCreatorJid of poll.creators) {
		for (const voterJid of voters) {
			const of = { pollCreatorJid, voterJid, pollMsgId: update.pollCreationMessageKey.id, pollEncKey: poll.secret };
			const chosen = decrypted(update.vote, of);
			if (chosen) {
				const hashes = new Set(chosen.map(hash => Buffer.from(hash).toString('hex')));
				return poll.options.filter(name => hashes.has(hashOf(name)));
			}
		}
	}
	return null;
}

function decrypted(vote, of) {
	try {
		return decryptPollVote(vote, of).selectedOptions;
	} catch {
		return null;
	}
}

function hashOf(name) {
	return createHash('sha256').update(name).digest('hex');
}
