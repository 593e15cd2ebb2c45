// The options of a Baileys socket. Nothing here looks anything up on the internet, and no option is `undefined`: Baileys
// would take that for a value.

import { DEFAULT_CONNECTION_CONFIG, isJidNewsletter } from 'baileys';
import { RECEIPT_LOG } from './backlog.mjs';
import { isArmed } from './faults.mjs';
import { mask } from './silence.mjs';

/** Longer than a timer can wait: the pings are ours (vitals.mjs). */
const NEVER_MS = 2 ** 31 - 1;

/** What people see in their phone's list of linked devices. @param {string | null} name */
export function deviceOf(name) {
	return [name || 'wahub', 'Chrome', '1.0.0'];
}

/** Whether the socket speaks TLS. @param {string | null} url @returns {boolean} */
export function isSecure(url) {
	return !url?.startsWith('ws:');
}

/**
 * @param {{
 *   settings: object, creds: object, keys: object, repository: Function, getMessage: Function, logger: object,
 *   browser: string[], online: boolean, proxy: object | null, isLastCode: (number: number) => boolean,
 * }} link
 */
export function socketOptions(link) {
	const { settings, creds, keys, repository, getMessage, logger, browser, online, proxy, isLastCode } = link;
	const options = {
		version: DEFAULT_CONNECTION_CONFIG.version,
		browser,
		auth: { creds, keys },
		logger,
		markOnlineOnConnect: online,
		keepAliveIntervalMs: NEVER_MS,
		// None: Baileys would make a timer and two errors for each frame it writes. The handshake's time is ours (link.mjs), and
		// what cannot leave any more ends with the link, which gets no answer either (vitals.mjs).
		connectTimeoutMs: 0,
		emitOwnEvents: false,
		syncFullHistory: false,
		shouldSyncHistoryMessage: () => false,
		shouldIgnoreJid: jid => Boolean(isJidNewsletter(jid)),
		generateHighQualityLinkPreview: false,
		// The gateway repeats writes that are safe to repeat; here a failed one ends the link.
		transactionOpts: { maxCommitRetries: 1, delayBetweenTriesMs: 0 },
		makeSignalRepository: repository,
		getMessage,
		qrTimeout: qrTimes(settings.qr_first_ms, settings.qr_next_ms, isLastCode)
	};
	if (settings.wa_url) {
		options.waWebSocketUrl = settings.wa_url;
	}
	if (proxy) {
		Object.assign(options, { agent: proxy.agent, fetchAgent: proxy.fetchAgent, options: { dispatcher: proxy.dispatcher } });
	}
	return options;
}

/**
 * How long each pairing code is shown. Baileys takes one number for all; it hands it to setTimeout once per code, which
 * turns it into a number by valueOf. After the last one it would end the link, whatever goes on: that is ours (pairing.mjs).
 */
function qrTimes(first, next, isLast) {
	let shown = 0;
	return {
		valueOf: () => {
			shown += 1;
			return isLast(shown) ? NEVER_MS : shown === 1 ? first : next;
		}
	};
}

/**
 * Baileys' logger: passes on the constant texts of errors, masked, and nothing else.
 * @param {(text: string) => void} report
 * @param {{read: (details: unknown, text: unknown) => void}} backlog reads when Baileys is through with a stanza
 * @param {() => void} beforeReceipt told before a receipt is written, for the fault point of that name only
 */
export function quietLogger(report, backlog, beforeReceipt) {
	const nothing = () => {};
	const logger = {
		level: 'silent',
		trace: nothing,
		debug: (details, text) => backlog.read(details, text),
		info: nothing,
		warn: nothing,
		error: (first, second) => {
			const text = typeof second === 'string' ? second : typeof first === 'string' ? first : null;
			if (text) {
				report(mask(text));
			}
		},
		child: () => logger
	};
	if (isArmed('after_receipt')) {
		logger.debug = (details, text) => {
			backlog.read(details, text);
			if (text === RECEIPT_LOG && details.attrs.type !== 'read') {
				beforeReceipt();
			}
		};
	}
	return logger;
}
