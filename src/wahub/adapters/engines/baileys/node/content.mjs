// What is sent: from the gateway's words to WhatsApp's message. What is received is read in reading.mjs.

import { generateWAMessageContent, proto } from 'baileys';

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
