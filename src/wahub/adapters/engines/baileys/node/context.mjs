// What stands around a message: which one it answers, whom it names, whether it was forwarded or will disappear. People are
// named there by number or by LID, as the sender's phone happened to know them.

import { read } from './reading.mjs';

/** The JIDs of the people it names. @param {object | null} context WhatsApp's ContextInfo @returns {string[]} */
export function peopleIn(context) {
	const answered = context?.stanzaId ? context.participant : null;
	return [...new Set([answered, ...(context?.mentionedJid ?? [])].filter(Boolean))];
}

/**
 * @param {object | null} context WhatsApp's ContextInfo
 * @param {(jid: string) => import('./addresses.mjs').Person} who
 * @returns {object} only what there is
 */
export function around(context, who) {
	const found = {};
	if (context?.stanzaId) {
		const said = context.quotedMessage ? read(context.quotedMessage) : null;
		const { phone, lid } = who(context.participant);
		found.quoted = {
			messageId: context.stanzaId,
			from: phone,
			fromLid: lid,
			type: said?.type ?? null,
			text: said?.text ?? null
		};
	}
	const mentioned = (context?.mentionedJid ?? []).map(who).map(({ phone, lid }) => phone ?? lid);
	const mentions = [...new Set(mentioned.filter(Boolean))];
	if (mentions.length) {
		found.mentions = mentions;
	}
	if (context?.isForwarded || context?.forwardingScore) {
		found.forwarded = true;
	}
	if (context?.expiration) {
		found.ephemeralSeconds = context.expiration;
	}
	return found;
}
