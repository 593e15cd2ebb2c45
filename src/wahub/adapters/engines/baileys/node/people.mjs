// Who is on WhatsApp.

import { jidDecode, USyncQuery, USyncUser } from 'baileys';

/**
 * @param {object} sock Baileys' socket
 * @param {string} chat JID
 * @param {number} patience ms
 * @returns {Promise<boolean | null>} null: no phone number, or no answer in time, or none about it. Rejects when refused.
 */
export async function isOnWhatsApp(sock, chat, patience) {
	const { user, server } = jidDecode(chat) ?? {};
	if (server !== 's.whatsapp.net') {
		return null;
	}
	const query = new USyncQuery().withContactProtocol().withUser(new USyncUser().withPhone(`+${user}`));
	const answer = await within(patience, sock.executeUSyncQuery(query));
	const known = (answer?.list ?? []).map(person => person.contact).filter(contact => typeof contact === 'boolean');
	return known.length ? known.some(Boolean) : null;
}

/** The promise's value, or undefined when it takes longer. @param {number} patience ms */
export async function within(patience, promise) {
	let timer;
	const late = new Promise(resolve => (timer = setTimeout(resolve, patience)));
	try {
		return await Promise.race([promise, late]);
	} finally {
		clearTimeout(timer);
	}
}
