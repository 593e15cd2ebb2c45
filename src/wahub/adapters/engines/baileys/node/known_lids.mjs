// Keeps Signal sessions that stand.
//
// WhatsApp's answer to a question for devices names each person's LID, too. Baileys begins a new session with every LID in
// such an answer (source: Socket/messages-send.js getUSyncDevices, "newly mapped LIDs"), known or not, and it asks after
// each reconnect and every five minutes. Each time a one-time pre-key of the other side is used up and a session that works
// is closed; up to forty closed ones are kept per person, and written again with every message. So a LID that is stored
// already is taken out of the answer before Baileys reads it: where a session is missing it begins one all the same.

import { jidDecode } from 'baileys';

const ANSWER = 'TAG:';

/**
 * @param {import('node:events').EventEmitter} ws Baileys' own socket, before its first frame
 * @param {import('./keystore.mjs').KeyStore} keys
 */
export function hideKnownLids(ws, keys) {
	const { emit } = ws;
	ws.emit = function (event, ...details) {
		const people = typeof event === 'string' && event.startsWith(ANSWER) ? peopleWithDevices(details[0]) : [];
		if (!people.length) {
			return emit.call(this, event, ...details);
		}
		// A store that does not answer ends the link; the answer is then nobody's any more.
		hide(people, keys).catch(() => {}).then(() => emit.call(this, event, ...details));
		return true;
	};
}

/** Those of an answer whose devices and LID it tells. Baileys asks for a LID alone when it does not know it. */
function peopleWithDevices(node) {
	const list = node?.tag === 'iq' ? childOf(childOf(node, 'usync'), 'list') : undefined;
	const people = Array.isArray(list?.content) ? list.content.filter(({ tag }) => tag === 'user') : [];
	return people.filter(person => childOf(person, 'devices') && lidOf(person));
}

async function hide(people, keys) {
	const numbers = people.map(person => jidDecode(person.attrs.jid)?.user).filter(Boolean);
	const known = await keys.get('lid-mapping', [...new Set(numbers)]);
	for (const person of people) {
		const { user, server } = jidDecode(person.attrs.jid) ?? {};
		if (server === 'lid' || (user && known[user] === jidDecode(lidOf(person))?.user)) {
			person.content = person.content.filter(({ tag }) => tag !== 'lid');
		}
	}
}

function lidOf(person) {
	return childOf(person, 'lid')?.attrs.val;
}

/** Baileys' own look-up remembers the children of a node, which change here. */
function childOf(node, tag) {
	return Array.isArray(node?.content) ? node.content.find(child => child.tag === tag) : undefined;
}
