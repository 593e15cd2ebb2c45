// Receipts: what devices say about messages of ours.

import { getBinaryNodeChildren, jidNormalizedUser } from 'baileys';

/** The body of a `receipt` frame; null when it is not about a message of ours. @param {object} node */
export function receiptOf(node) {
	const { attrs } = node;
	const kind = attrs.type ?? 'delivered';
	// A receipt with a recipient is our own devices' news about messages of others, except when it is about ours.
	const ours = !attrs.recipient || kind === 'sender' || kind === 'retry';
	if (!ours || kind === 'hist_sync' || kind === 'peer_msg' || kind.endsWith('-self')) {
		return null;
	}
	const list = Array.isArray(node.content) ? node.content.find(child => child.tag === 'list') : undefined;
	const more = list ? getBinaryNodeChildren(list, 'item').map(item => item.attrs.id) : [];
	return {
		ids: [attrs.id, ...more],
		kind,
		chat: jidNormalizedUser(attrs.recipient ?? attrs.from),
		at: Number(attrs.t) || Math.floor(Date.now() / 1000)
	};
}
