// What several readers of stanzas need: people by their addresses (a number, a LID, or both), and numbers.

import {
	areJidsSameUser, isHostedLidUser, isHostedPnUser, isLidUser, isPnUser, jidDecode, jidNormalizedUser
} from 'baileys';

// Accounts of businesses that are hosted have addresses of their own kind beside the ordinary ones.
const hasPhone = jid => isPnUser(jid) || isHostedPnUser(jid);
const hasLid = jid => isLidUser(jid) || isHostedLidUser(jid);

const DIGITS = /^\d{1,32}$/;

/**
 * The digits of a person, in both address spaces. Whoever names people in a message may write anything for an address.
 * @param {(string | undefined)[]} jids addresses of one person; those of other kinds do not count
 * @returns {{phone: string | null, lid: string | null}}
 */
export function digitsOf(...jids) {
	const userOf = is => jidDecode(jids.find(jid => jid && is(jidNormalizedUser(jid))))?.user.match(DIGITS)?.[0] ?? null;
	return { phone: userOf(hasPhone), lid: userOf(hasLid) };
}

/** Whether it is the address of a person. @param {string | undefined} jid */
export function isPerson(jid) {
	return Boolean(jid && (hasPhone(jidNormalizedUser(jid)) || hasLid(jidNormalizedUser(jid))));
}

/** @param {string | undefined} jid @param {{id: string, lid?: string} | undefined} me */
export function isMe(jid, me) {
	return Boolean(jid && me && (areJidsSameUser(jid, me.id) || areJidsSameUser(jid, me.lid)));
}

/** A number as the server writes it; null when it is none, or none that JSON carries. @param {string | undefined} text */
export function wholeNumber(text) {
	const number = Number(text);
	return /^\d+$/.test(text ?? '') && Number.isSafeInteger(number) ? number : null;
}
