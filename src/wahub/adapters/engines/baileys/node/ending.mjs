// Why a link ended: what we decided, else what the server said, else what happened to the connection.
//
// Baileys gives each end one number, whoever it came from: a proxy that answers 403 to the WebSocket's request and a
// certificate that does not verify (500) look like a ban and a broken session (source: Utils/generics.js
// getCodeFromWSError). Here a number stands only for what the server said inside the encrypted stream; everything else has
// a cause of its own. `detail` is a short constant text, never taken from a stanza.

import { constants } from 'node:os';
import { getAllBinaryNodeChildren } from 'baileys';

const RESTART_REQUIRED = /restart required/i;
const LOST_CODES = new Set([408, 428]);
const LOST_WORDS = { 408: 'timed_out', 428: 'connection_closed' };
/** What proxy.mjs says of a proxy that made no connection. */
const PROXY_WORDS = new Set(['proxy_auth_failed', 'proxy_refused']);
const SYSTEM_ERROR = /^[A-Z][A-Z_]{2,40}$/;

export class Ending {
	constructor() {
		/** Why we end it ourselves; null while only the other side may. @type {string | null} */
		this.cause = null;
		this.code = null;
		this.detail = null;
		/** How the server said it. @type {string | null} */
		this.said = null;
		this.text = '';
	}

	/** @param {object} ws Baileys' socket client */
	listen(ws) {
		ws.prependListener('CB:stream:error', node => this.onStreamError(node));
		ws.prependListener('CB:failure', () => (this.said ??= 'login_refused'));
		ws.prependListener('CB:ib,,downgrade_webclient', () => (this.said ??= 'downgraded'));
	}

	/** We end it. The first reason counts. @param {string} cause @param {number | null} code @param {string} detail */
	decide(cause, code = null, detail = cause) {
		if (this.cause === null) {
			Object.assign(this, { cause, code, detail });
		}
	}

	/** Baileys reports every conflict as 440, also the one that means "removed by the user". */
	onStreamError(node) {
		this.said ??= 'stream_error';
		const children = getAllBinaryNodeChildren(node);
		const type = children.find(child => child.tag === 'conflict')?.attrs.type;
		if (type === 'device_removed' || type === 'replaced') {
			this.decide(type);
		}
		this.text = children.map(textOf).join(' ');
	}

	/**
	 * @param {object | null} error what Baileys gave as the cause
	 * @param {boolean} qrUsedUp whether all pairing codes were shown and the time of the last is over
	 * @returns {{cause: string | null, code: number | null, detail: string}}
	 */
	verdict(error, qrUsedUp) {
		const code = error?.output?.statusCode ?? null;
		if (this.cause !== null) {
			return { cause: this.cause, code: this.code ?? code, detail: this.detail };
		}
		if (this.said) {
			const restart = RESTART_REQUIRED.test(`${error?.message ?? ''} ${this.text}`);
			return { cause: restart ? 'restart_required' : null, code, detail: this.said };
		}
		if (qrUsedUp) {
			return { cause: 'qr_expired', code, detail: 'qr_expired' };
		}
		if (PROXY_WORDS.has(error?.data?.code)) {
			return { cause: 'proxy_refused', code: null, detail: error.data.code };
		}
		if (LOST_CODES.has(code)) {
			return { cause: null, code, detail: systemError(error) ?? LOST_WORDS[code] };
		}
		if (!error?.message?.startsWith('WebSocket Error')) {
			return { cause: 'link_failed', code, detail: 'link_failed' };
		}
		const name = systemError(error);
		return { cause: name in constants.errno ? 'timed_out' : 'socket_failed', code, detail: name ?? 'socket_failed' };
	}
}

/** The operating system's or TLS's name of what failed, as `ECONNREFUSED`. A proxy's library has it in the text only. */
function systemError(error) {
	const name = error?.data?.code;
	if (typeof name === 'string' && SYSTEM_ERROR.test(name)) {
		return name;
	}
	return String(error?.data?.message ?? '').match(/\bE[A-Z0-9]+\b/g)?.find(word => word in constants.errno) ?? null;
}

function textOf(node) {
	return typeof node.content === 'string' || node.content instanceof Uint8Array ? Buffer.from(node.content).toString('utf8') : '';
}
