// Messages that our own phone sends again because this device could not read them (Baileys asks for them by itself, some
// seconds after it asked their sender). They come as a whole inside a message between the account's devices (source: Baileys
// Utils/process-message.js, PEER_DATA_OPERATION_REQUEST_RESPONSE_MESSAGE).

import { proto } from 'baileys';
import { envelopeOf } from './addresses.mjs';
import { opened } from './reading.mjs';

const RESPONSE = proto.Message.ProtocolMessage.Type.PEER_DATA_OPERATION_REQUEST_RESPONSE_MESSAGE;
/** What stands for the padding of a decrypted message. */
const ONE_BYTE_OF_PADDING = Buffer.of(1);

/**
 * @param {object} message a message between the account's own devices
 * @param {{id: string, lid?: string}} me
 * @param {object} keys the key store
 * @param {import('./unread.mjs').Unread} unread
 * @returns {Promise<{key: string, envelope: object, plaintext: Uint8Array, message: object}[]>} as if each had come by itself
 */
export async function resentIn(message, me, keys, unread) {
	const protocol = opened(message).content.protocolMessage;
	const response = protocol?.type === RESPONSE ? protocol.peerDataOperationRequestResponseMessage : null;
	const found = [];
	for (const result of response?.peerDataOperationResult ?? []) {
		const bytes = result.placeholderMessageResendResponse?.webMessageInfoBytes;
		const info = bytes?.length ? decoded(bytes) : null;
		if (info?.key?.id && info.key.remoteJid && info.message) {
			const envelope = await cameFrom(info, me, keys, unread.envelopeOf(info.key.id));
			const plaintext = Buffer.concat([proto.Message.encode(info.message).finish(), ONE_BYTE_OF_PADDING]);
			const key = `${envelope.chat}|${envelope.sender}|${envelope.message_id}`;
			found.push({ key, envelope, plaintext, message: info.message.deviceSentMessage?.message ?? info.message });
		}
	}
	return found;
}

function decoded(bytes) {
	try {
		return proto.WebMessageInfo.decode(bytes);
	} catch {
		return null;
	}
}

/** The stanza that could not be read knows best: the phone may name people otherwise, and the message must stay the same. */
async function cameFrom(info, me, keys, seen) {
	const timestamp = Number(info.messageTimestamp) || seen?.timestamp || 0;
	if (seen) {
		return { ...seen, timestamp };
	}
	const { key } = info;
	const author = key.fromMe ? me.id : key.participant || info.participant || key.remoteJid;
	return envelopeOf({ key, pushName: info.pushName, messageTimestamp: timestamp }, author, {}, me, keys);
}
