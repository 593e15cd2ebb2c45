// What a received message says: its type, its text, which message it is about, and the details of its type. The words are
// those that callers see (docs/events.md). What a sender wrote is taken as it is, but every number is a whole one that
// JavaScript holds exactly, and places are texts: webhooks carry no fractions.

import { proto, unpadRandomMax16 } from 'baileys';
import { fromBusiness } from './business.mjs';
import { cardsOf, eventOf, mediaOf, placeOf, pollOf } from './details.mjs';

const ProtocolType = proto.Message.ProtocolMessage.Type;
const { FutureProofMessage } = proto.Message;

/** As deep as Baileys looks (source: Utils/messages.js normalizeMessageContent). */
const MOST_WRAPPERS = 5;
const VIEW_ONCE = new Set(['viewOnceMessage', 'viewOnceMessageV2', 'viewOnceMessageV2Extension']);

/** Fields that say nothing to a person: keys, history, and the frame around pictures that come as messages of their own. */
const BOOKKEEPING = new Set([
	'senderKeyDistributionMessage', 'fastRatchetKeySenderKeyDistributionMessage', 'messageContextInfo', 'protocolMessage',
	'stickerSyncRmrMessage', 'messageHistoryBundle', 'messageHistoryNotice', 'albumMessage'
]);

const media = kind => (content, viewOnce) => ({
	type: kind,
	text: content.caption,
	details: { media: mediaOf(kind, content, viewOnce) }
});
const poll = content => ({ type: 'poll', text: content.name, details: { poll: pollOf(content) } });
const reply = (type, id, text) => ({ type, text, details: { reply: { id: id || null, text: text || null } } });

/** What each field that bears a message says. The first one found counts. */
const BEARERS = {
	conversation: content => ({ type: 'text', text: content }),
	extendedTextMessage: content => ({ type: 'text', text: content.text }),
	imageMessage: media('image'),
	videoMessage: media('video'),
	ptvMessage: media('video'),
	audioMessage: media('audio'),
	documentMessage: media('document'),
	stickerMessage: media('sticker'),
	locationMessage: content => ({
		type: 'location',
		text: content.name || content.address,
		details: { location: { ...placeOf(content), live: Boolean(content.isLive) } }
	}),
	liveLocationMessage: content => ({
		type: 'location',
		text: content.caption,
		details: { location: { ...placeOf(content), live: true } }
	}),
	contactMessage: content => ({ type: 'contact', text: content.displayName, details: { contacts: cardsOf([content]) } }),
	contactsArrayMessage: content => ({
		type: 'contact',
		text: content.displayName,
		details: { contacts: cardsOf(content.contacts) }
	}),
	reactionMessage: content => ({ type: 'reaction', text: content.text || '', target: content.key?.id }),
	pollCreationMessage: poll,
	pollCreationMessageV2: poll,
	pollCreationMessageV3: poll,
	pollCreationMessageV5: poll,
	pollUpdateMessage: content => ({ type: 'vote', text: null, target: content.pollCreationMessageKey?.id }),
	buttonsResponseMessage: content => reply('button_reply', content.selectedButtonId, content.selectedDisplayText),
	templateButtonReplyMessage: content => reply('button_reply', content.selectedId, content.selectedDisplayText),
	interactiveResponseMessage: content =>
		reply('button_reply', flowId(content.nativeFlowResponseMessage), content.body?.text),
	listResponseMessage: content => reply('list_reply', content.singleSelectReply?.selectedRowId, content.title),
	eventMessage: content => ({ type: 'event', text: content.name, details: { event: eventOf(content) } }),
	groupInviteMessage: content => ({
		type: 'invite',
		text: content.caption,
		details: { invite: { groupId: content.groupJid || null, groupName: content.groupName || null } }
	})
};

const FIELDS = Object.keys(BEARERS);

/** @param {Uint8Array} plaintext as decrypted, padding included */
export function decodePlaintext(plaintext) {
	const message = proto.Message.decode(unpadRandomMax16(plaintext));
	const inner = message.deviceSentMessage?.message;
	if (inner && message.messageContextInfo && !inner.messageContextInfo) {
		inner.messageContextInfo = message.messageContextInfo;
	}
	return inner ?? message;
}

/** The message inside its wrappers (disappearing, view once, edited, …), and whether one of them was "view once". */
export function opened(message) {
	let content = message;
	let viewOnce = false;
	for (let depth = 0; depth < MOST_WRAPPERS; depth += 1) {
		const name = Object.keys(content).find(
			field => content[field] instanceof FutureProofMessage || field === 'commentMessage'
		);
		const inner = name && content[name]?.message;
		if (!inner) {
			break;
		}
		viewOnce ||= VIEW_ONCE.has(name);
		content = inner;
	}
	return { content, viewOnce };
}

/**
 * What a message says, or null when it says nothing to a person (key distribution, history, app state).
 * @returns {{type: string, text: string | null, target: string | null, details: object, context: object | null} | null}
 *   `context`: WhatsApp's ContextInfo, see context.mjs
 */
export function read(message) {
	const { content, viewOnce } = opened(message);
	const protocol = content.protocolMessage;
	if (protocol) {
		return about(protocol);
	}
	const field = FIELDS.find(name => content[name] !== null && content[name] !== undefined);
	if (field) {
		return whole(BEARERS[field](content[field], viewOnce), content[field].contextInfo);
	}
	const business = fromBusiness(content);
	if (business) {
		const bearer = business.field && BEARERS[business.field](business.bearer, viewOnce);
		return whole({ type: 'text', ...bearer, text: business.text }, business.contextInfo);
	}
	const other = Object.keys(content).some(name => content[name] != null && !BOOKKEEPING.has(name));
	return other ? whole({ type: 'other', text: null }) : null;
}

/** A deletion or an edit; all else of its kind is between devices. */
function about(protocol) {
	const target = protocol.key?.id;
	if (protocol.type === ProtocolType.REVOKE && target) {
		return whole({ type: 'delete', text: null, target });
	}
	if (protocol.type === ProtocolType.MESSAGE_EDIT && target) {
		const edited = protocol.editedMessage ? read(protocol.editedMessage) : null;
		// An edit of a caption repeats little of the file: what it leaves out must not look like a file without it.
		return whole({ type: 'edit', text: edited?.text, target }, edited?.context);
	}
	return null;
}

function whole({ type, text, target = null, details = {} }, context = null) {
	const said = type === 'reaction' ? text : text || null;
	return { type, text: said, target: target || null, details, context: context ?? null };
}

/** Which of a business' buttons was pressed stands in a JSON text. */
function flowId(flow) {
	try {
		const { id } = JSON.parse(flow?.paramsJson || '{}');
		return typeof id === 'string' ? id : (flow?.name ?? null);
	} catch {
		return flow?.name ?? null;
	}
}

const LONE = /\\ud[89a-f]/;
const wellFormed = (_, value) => (typeof value === 'string' ? value.toWellFormed() : value);

/**
 * The message as JSON text: numbers beyond 32 bits and bytes (base64) are strings; text is valid Unicode. Null for one that
 * is nested so deeply that it cannot be written down; a stranger may have quotes in quotes without end.
 */
export function rawJson(message) {
	try {
		const plain = proto.Message.toObject(message, { longs: String, enums: String, bytes: String });
		const text = JSON.stringify(plain);
		// Only half a surrogate pair is escaped like this; or somebody wrote the escape, which the slower way leaves as it is.
		return LONE.test(text) ? JSON.stringify(plain, wellFormed) : text;
	} catch {
		return null;
	}
}
