// Votes on polls of ours. A vote names its options by hash and is encrypted with the poll's secret, for one creator and one
// voter: their addresses go into the key (source: Baileys Utils/process-message.js decryptPollVote, whatsmeow msgsecret.go).
// WhatsApp is moving from phone numbers to LIDs, and the two ends may have seen each other under different ones, so each
// combination is tried; the encryption proves which one it was.

import { createHash } from 'node:crypto';
import { decryptPollVote, normalizeMessageContent } from 'baileys';

/** The vote in a message, or null. */
export function pollUpdateOf(message) {
	return normalizeMessageContent(message)?.pollUpdateMessage ?? null;
}

/**
 * The names voted for, in the order of the poll; empty when the vote was withdrawn.
 * @param {object} update `pollUpdateMessage` as received
 * @param {object | null | undefined} poll our message that made the poll
 * @param {string[]} creators addresses under which we may have made it
 * @param {string[]} voters addresses of who sent the vote
 * @returns {string[] | null} null when this is no vote on that poll
 */
export function readVote(update, poll, creators, voters) {
	const options = (poll?.pollCreationMessage ?? poll?.pollCreationMessageV2 ?? poll?.pollCreationMessageV3)?.options;
	const secret = poll?.messageContextInfo?.messageSecret;
	if (!options || !secret?.length || !update.vote) {
		return null;
	}
	for (const pollCreatorJid of creators) {
		for (const voterJid of voters) {
			const of = { pollCreatorJid, voterJid, pollMsgId: update.pollCreationMessageKey.id, pollEncKey: secret };
			const chosen = decrypted(update.vote, of);
			if (chosen) {
				const hashes = new Set(chosen.map(hash => Buffer.from(hash).toString('hex')));
				return options.map(option => option.optionName).filter(name => hashes.has(hashOf(name)));
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
