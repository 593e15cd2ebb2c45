// Who an address names. WhatsApp is moving from phone numbers to LIDs (hidden identities): a person may be met under either,
// and what belongs together is learned from stanzas and kept by Baileys among the keys (`lid-mapping`).

import { jidNormalizedUser } from 'baileys';
import { digitsOf, isPerson } from './stanzas.mjs';

/** Digits, null where not known. @typedef {{phone: string | null, lid: string | null}} Person */

/** As they were when they were asked for last, which is with each message. @type {WeakMap<object, {id: string, lid?: string, person: Person}>} */
const owners = new WeakMap();

/** @param {{id: string, lid?: string} | undefined} me @returns {Person} */
export function ownPerson(me) {
	if (!me) {
		return { phone: null, lid: null };
	}
	const { id, lid } = me;
	let owner = owners.get(me);
	if (owner?.id !== id || owner.lid !== lid) {
		owner = { id, lid, person: digitsOf(id, lid) };
		owners.set(me, owner);
	}
	return owner.person;
}

/** All addresses of a person, without devices. @param {Person} person */
export function addressesOf({ phone, lid }) {
	return [phone && `${phone}@s.whatsapp.net`, lid && `${lid}@lid`].filter(Boolean);
}

/**
 * What is known of people: what is said, and what the account has learned. Asks nobody on the network.
 * @param {object} keys the key store
 * @param {(string | null | undefined)[][]} people for each the addresses that a stanza gives
 * @returns {Promise<Person[]>}
 */
export async function known(keys, people) {
	const said = people.map(jids => digitsOf(...jids));
	const ids = said.map(({ phone, lid }) => (phone && !lid ? phone : lid && !phone ? `${lid}_reverse` : null));
	const wanted = [...new Set(ids.filter(Boolean))];
	if (wanted.length === 0) {
		return said;
	}
	// Without an answer the message itself must do: it must not be lost for this, nor wait.
	const found = await keys.get('lid-mapping', wanted).catch(() => ({}));
	return said.map((person, index) => {
		const other = typeof found[ids[index]] === 'string' ? found[ids[index]] : null;
		return { phone: person.phone ?? other, lid: person.lid ?? other };
	});
}

/**
 * Where a message came from, in the gateway's words.
 * @param {{key: object, pushName?: string | null, messageTimestamp?: unknown}} message as Baileys' decodeMessageNode gives it
 * @param {string} author JID
 * @param {object} attrs of the stanza
 * @param {{id: string, lid?: string}} me
 * @param {object} keys the key store
 */
export async function envelopeOf(message, author, attrs, me, keys) {
	const fromMe = Boolean(message.key.fromMe);
	const sender = jidNormalizedUser(fromMe && !digitsOf(author).lid ? me.id : author);
	const chat = jidNormalizedUser(message.key.remoteJid);
	const own = fromMe ? [me.id, me.lid] : [];
	const their = [attrs.participant_pn, attrs.participant_lid, attrs.sender_pn, attrs.sender_lid];
	const [writer] = await known(keys, [[sender, ...(fromMe ? own : their)]]);
	const partner = isPerson(chat) ? await partnerOf(chat, fromMe, writer, attrs, keys) : { phone: null, lid: null };
	return {
		message_id: message.key.id,
		chat,
		chat_phone: partner.phone,
		chat_lid: partner.lid,
		sender,
		sender_phone: writer.phone,
		sender_lid: writer.lid,
		from_me: fromMe,
		push_name: message.pushName || null,
		timestamp: Number(message.messageTimestamp) || 0,
		...(attrs.edit ? { edit: attrs.edit } : {})
	};
}

async function partnerOf(chat, fromMe, writer, attrs, keys) {
	const { phone, lid } = digitsOf(chat);
	if (!fromMe || (phone && phone === writer.phone) || (lid && lid === writer.lid)) {
		return writer;
	}
	const said = [attrs.peer_recipient_pn, attrs.peer_recipient_lid, attrs.recipient_pn, attrs.recipient_lid];
	return (await known(keys, [[chat, ...said]]))[0];
}
