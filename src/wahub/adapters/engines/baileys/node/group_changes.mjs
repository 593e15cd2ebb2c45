// What a group notification says, in the words that callers see (docs/events.md).
// Source: Baileys Socket/messages-recv.js handleGroupNotification, Socket/groups.js extractGroupMetadata; whatsmeow group.go
// parseGroupNotification, parseGroupChange (one stanza may hold several changes).

import { areJidsSameUser, getBinaryNodeChild, getBinaryNodeChildren, isJidGroup, jidNormalizedUser } from 'baileys';
import { digitsOf, isMe, wholeNumber } from './stanzas.mjs';

/** How each change is told, by the name that the server gives it; all others are `other`. */
const CHANGES = {
	create: created,
	add: (node, attrs) => ({ ...ofPeople(node), reason: attrs.reason ?? null }),
	remove: ofPeople,
	leave: ofPeople,
	promote: ofPeople,
	demote: ofPeople,
	subject: (_, attrs) => ({ subject: attrs.subject ?? null }),
	description: node => ({ description: getBinaryNodeChild(node, 'delete') ? null : textOf(getBinaryNodeChild(node, 'body')) }),
	announcement: () => ({ enabled: true }),
	not_announcement: () => ({ action: 'announcement', enabled: false }),
	locked: () => ({ enabled: true }),
	unlocked: () => ({ action: 'locked', enabled: false }),
	ephemeral: (_, attrs) => ({ seconds: wholeNumber(attrs.expiration) }),
	not_ephemeral: () => ({ action: 'ephemeral', seconds: 0 }),
	invite: (_, attrs) => ({ inviteCode: attrs.code ?? null })
};

/**
 * The bodies of `inbound` frames that a `w:gp2` notification makes; none when it is about no group.
 * @param {object} node @param {{id: string, lid?: string} | undefined} me
 */
export function readGroupChanges(node, me) {
	const { attrs } = node;
	const changes = Array.isArray(node.content) ? node.content : [];
	if (!attrs.id || !isJidGroup(attrs.from)) {
		return [];
	}
	const author = attrs.participant ?? attrs.participant_pn;
	const names = [attrs.participant, attrs.participant_pn, attrs.participant_lid];
	const { phone, lid } = digitsOf(...names);
	return changes.map((change, index) => ({
		message_id: index ? `${attrs.id}.${index + 1}` : attrs.id,
		chat: attrs.from,
		chat_phone: null,
		chat_lid: null,
		sender: jidNormalizedUser(author) || attrs.from,
		sender_phone: phone,
		sender_lid: lid,
		from_me: isMe(author, me),
		push_name: attrs.notify ?? null,
		timestamp: wholeNumber(attrs.t) ?? 0,
		type: 'group_update',
		text: null,
		target: null,
		details: { group: describe(change, names) },
		raw: null
	}));
}

function describe(change, author) {
	const read = Object.hasOwn(CHANGES, change.tag) ? CHANGES[change.tag] : null;
	const said = read ? read(change, change.attrs ?? {}) : { ...ofPeople(change), action: 'other', change: change.tag };
	const told = { action: change.tag, participants: [], subject: null, ...said };
	if (told.action === 'remove' && removedThemselves(change, author)) {
		told.action = 'leave';
	}
	return told;
}

function created(node, attrs) {
	const group = getBinaryNodeChild(node, 'group');
	return {
		...ofPeople(group),
		subject: group?.attrs.subject ?? null,
		// Without it the account came to a group that was there before.
		isNew: attrs.type === 'new',
		reason: attrs.reason ?? null
	};
}

function ofPeople(node) {
	const named = getBinaryNodeChildren(node, 'participant').map(({ attrs }) => attrs);
	const people = named.map(({ jid, phone_number: number, lid }) => digitsOf(jid, number, lid));
	return { participants: people.filter(({ phone, lid }) => phone || lid) };
}

/** Who leaves is named as removed by themselves. */
function removedThemselves(change, author) {
	const removed = getBinaryNodeChildren(change, 'participant').map(({ attrs }) => attrs);
	const names = removed.length === 1 ? [removed[0].jid, removed[0].phone_number, removed[0].lid] : [];
	return author.some(one => one && names.some(name => name && areJidsSameUser(one, name)));
}

function textOf(node) {
	const { content } = node ?? {};
	return content instanceof Uint8Array ? Buffer.from(content).toString('utf8') : typeof content === 'string' ? content : null;
}
