// What Baileys does of its own accord for bots that keep everything in memory, and what costs too much here.

import { AsyncResource } from 'node:async_hooks';

/** Baileys' events for bots that keep their chats in memory. Nobody listens here, and buffering them costs. */
const UNUSED_EVENTS = new Set([
	'messages.upsert', 'messages.update', 'messages.delete', 'messages.reaction', 'message-receipt.update', 'messaging-history.set',
	'messaging-history.status', 'chats.upsert', 'chats.update', 'chats.delete', 'contacts.upsert', 'contacts.update',
	'groups.upsert', 'groups.update', 'group-participants.update', 'presence.update'
]);

/**
 * Drops events without a reader, and keeps Baileys from sending an empty presence on every change of the credentials:
 * it takes a change without `me` for a lost push name, and the first `me` for a new one, which it announces before the
 * account is logged in (source: Socket/socket.js `creds.update`).
 * @param {object} ev Baileys' events @param {{creds: object, wasLinked: boolean}} link
 */
export function quietEvents(ev, link) {
	const { emit } = ev;
	ev.emit = (event, data) => {
		if (UNUSED_EVENTS.has(event)) {
			return true;
		}
		if (event === 'creds.update' && data.account && !link.wasLinked) {
			link.creds.me = data.me;
		}
		if (event === 'creds.update' && link.creds.me && !data.me) {
			return emit(event, { ...data, me: link.creds.me });
		}
		return emit(event, data);
	};
}

/**
 * Baileys keeps what it sent for five minutes, with a timer for each. A timer keeps the context it began in: here the key
 * transaction of the send, with all the sessions it read, some 25 KB for each message. Begun in ours they keep nothing.
 *
 * It keeps what was received, too, and would send it on as ours to whoever asks for it again (source:
 * Socket/messages-recv.js sendMessagesAgain): that is not kept.
 * @param {object} sock Baileys' socket @param {(id: string) => boolean} wasReceived
 */
export function keepOnlySent(sock, wasReceived) {
	const recent = sock.messageRetryManager;
	const keep = AsyncResource.bind(recent.addRecentMessage.bind(recent));
	recent.addRecentMessage = (to, id, message) => {
		if (!wasReceived(id)) {
			keep(to, id, message);
		}
	};
}
