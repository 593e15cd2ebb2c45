// What messages say: from the gateway's words to WhatsApp's message, and from WhatsApp's message to a type and a text.

import { generateWAMessageContent, normalizeMessageContent, proto, unpadRandomMax16 } from 'baileys';

const ProtocolType = proto.Message.ProtocolMessage.Type;

/** The bearer of each type: field of the message, type as reported, where a text may be found. */
const BEARERS = [
	['conversation', 'text', content => content],
	['extendedTextMessage', 'text', content => content.text],
	['imageMessage', 'image', content => content.caption],
	['videoMessage', 'video', content => content.caption],
	['ptvMessage', 'video', content => content.caption],
	['audioMessage', 'audio', () => null],
	['documentMessage', 'document', content => content.caption ?? content.fileName],
	['stickerMessage', 'sticker', () => null],
	['locationMessage', 'location', content => content.name ?? content.address],
	['liveLocationMessage', 'location', content => content.caption],
	['contactMessage', 'contact', content => content.displayName],
	['contactsArrayMessage', 'contact', content => content.displayName],
	['reactionMessage', 'reaction', content => content.text],
	['pollCreationMessage', 'poll', content => content.name],
	['pollCreationMessageV2', 'poll', content => content.name],
	['pollCreationMessageV3', 'poll', content => content.name],
	['pollUpdateMessage', 'vote', () => null],
	['buttonsResponseMessage', 'text', content => content.selectedDisplayText],
	['templateButtonReplyMessage', 'text', content => content.selectedDisplayText],
	['listResponseMessage', 'text', content => content.title],
	['eventMessage', 'event', content => content.name],
	['groupInviteMessage', 'invite', content => content.caption]
];

/** Fields that carry no message of a person. */
const BOOKKEEPING = new Set(['senderKeyDistributionMessage', 'messageContextInfo', 'protocolMessage', 'fastRatchetKeySenderKeyDistributionMessage']);

/**
 * WhatsApp's message for what the gateway wants to send.
 * @param {{kind: string, text?: string, caption?: string, options?: string[], multiple?: boolean, secret?: Buffer}} content
 * @param {object} logger
 */
export async function buildMessage(content, logger) {
	return proto.Message.fromObject(await generateWAMessageContent(wordsOf(content), { logger }));
}

/** In Baileys' words. */
function wordsOf({ kind, text, caption, options, multiple, secret }) {
	switch (kind) {
		case 'text':
			// linkPreview null: a preview would fetch addresses out of the caller's text.
			return { text, linkPreview: null };
		case 'poll':
			// 0 is WhatsApp's "any number of options".
			return { poll: { name: caption, values: options, selectableCount: multiple ? 0 : 1, messageSecret: secret } };
		default:
			throw new Error(`content of kind ${kind} is unknown here`);
	}
}

/** What stands beside the encrypted parts of a message (source: Baileys Socket/messages-send.js sendMessage). */
export function stanzaNodes(content) {
	return content.kind === 'poll' ? [{ tag: 'meta', attrs: { polltype: 'creation' } }] : [];
}

/** @param {Uint8Array} plaintext as decrypted, padding included */
export function decodePlaintext(plaintext) {
	const message = proto.Message.decode(unpadRandomMax16(plaintext));
	return message.deviceSentMessage?.message ?? message;
}

/** Type and text of a message, or null when it says nothing to a person (key distribution, history, app state). */
export function classify(message) {
	const content = normalizeMessageContent(message);
	if (!content) {
		return null;
	}
	const protocol = content.protocolMessage;
	if (protocol?.type === ProtocolType.REVOKE && protocol.key?.id) {
		return { type: 'delete', text: null };
	}
	if (protocol?.type === ProtocolType.MESSAGE_EDIT) {
		return { type: 'edit', text: classify(protocol.editedMessage)?.text ?? null };
	}
	for (const [field, type, textOf] of BEARERS) {
		const bearer = content[field];
		if (bearer !== null && bearer !== undefined) {
			return { type, text: textOf(bearer) || null };
		}
	}
	const other = Object.keys(content).some(field => content[field] != null && !BOOKKEEPING.has(field));
	return other ? { type: 'other', text: null } : null;
}

/** The message as JSON text: numbers beyond 32 bits and bytes (base64) are strings; text is valid Unicode. */
export function rawJson(message) {
	const plain = proto.Message.toObject(message, { longs: String, enums: String, bytes: String });
	return JSON.stringify(plain, (_, value) => (typeof value === 'string' ? value.toWellFormed() : value));
}
