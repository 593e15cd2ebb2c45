// What a call's stanza says, in the words that callers see (docs/events.md). Told is what becomes of a call: that it rings, is
// answered, refused, or over; what the two apps tell each other meanwhile is not.
// Source: Baileys Socket/messages-recv.js handleCall, Utils/generics.js getCallStatusFromNode; whatsmeow call.go.

import { areJidsSameUser, getBinaryNodeChild, isJidGroup, jidNormalizedUser } from 'baileys';
import { digitsOf, isMe, isPerson, wholeNumber } from './stanzas.mjs';

const STATUSES = new Map([
	['offer', 'offer'], ['offer_notice', 'offer'], ['accept', 'accept'], ['reject', 'reject'], ['terminate', 'terminate']
]);
const REMEMBERED = 64;

/** Only the offer says what kind of call it is, and both names of the caller: kept for what follows, as long as the link. */
export class RememberedCalls {
	constructor() {
		/** @type {Map<string, {video: boolean, group: boolean, chat: string | null, caller: string[]}>} */
		this.kinds = new Map();
	}

	/** @param {string} id */
	get(id) {
		return this.kinds.get(id) ?? { video: null, group: null, chat: null, caller: [] };
	}

	set(id, kind) {
		this.kinds.delete(id);
		this.kinds.set(id, kind);
		if (this.kinds.size > REMEMBERED) {
			this.kinds.delete(this.kinds.keys().next().value);
		}
	}

	clear() {
		this.kinds.clear();
	}
}

/**
 * The bodies of `inbound` frames that a `call` makes: one, or none.
 * @param {object} node @param {{id: string, lid?: string} | undefined} me @param {RememberedCalls} calls
 */
export function readCall(node, me, calls) {
	const { attrs } = node;
	const signal = Array.isArray(node.content) ? node.content.find(({ tag }) => STATUSES.has(tag)) : undefined;
	const callId = signal?.attrs['call-id'];
	if (!attrs.id || !callId) {
		return [];
	}
	const creator = signal.attrs['call-creator'] ?? signal.attrs.from;
	const sender = [attrs.from, creator].find(isPerson);
	const partner = [attrs.from, creator].find(jid => isPerson(jid) && !isMe(jid, me)) ?? sender;
	if (!partner) {
		return [];
	}
	const caller = [creator, signal.attrs.caller_pn, signal.attrs.caller_lid].filter(Boolean);
	if (STATUSES.get(signal.tag) === 'offer') {
		calls.set(callId, { ...kindOf(signal), caller });
	}
	const kind = calls.get(callId);
	const names = [...caller, ...kind.caller];
	const named = jid => digitsOf(jid, ...(names.some(name => areJidsSameUser(jid, name)) ? names : []));
	const direct = kind.chat ? { phone: null, lid: null } : named(partner);
	const who = named(sender);
	return [{
		message_id: attrs.id,
		chat: kind.chat ?? jidNormalizedUser(partner),
		chat_phone: direct.phone,
		chat_lid: direct.lid,
		sender: jidNormalizedUser(sender),
		sender_phone: who.phone,
		sender_lid: who.lid,
		from_me: isMe(sender, me),
		push_name: attrs.notify ?? null,
		timestamp: wholeNumber(attrs.t) ?? 0,
		type: 'call',
		text: null,
		target: null,
		details: {
			call: { callId, status: statusOf(signal), video: kind.video, group: kind.group, reason: signal.attrs.reason ?? null }
		},
		raw: null
	}];
}

function kindOf({ tag, attrs, content }) {
	const group = attrs['group-jid'];
	const video = tag === 'offer_notice' ? attrs.media === 'video' : Boolean(getBinaryNodeChild({ tag, attrs, content }, 'video'));
	return { video, group: Boolean(group) || attrs.type === 'group', chat: isJidGroup(group) ? group : null };
}

function statusOf({ tag, attrs }) {
	return tag === 'terminate' && attrs.reason === 'timeout' ? 'timeout' : STATUSES.get(tag);
}
