// The options of a Baileys socket. Nothing here looks anything up on the internet, and no option is `undefined`: Baileys
// would take that for a value.

import { DEFAULT_CONNECTION_CONFIG, isJidNewsletter } from 'baileys';
import { isArmed } from './faults.mjs';
import { mask } from './silence.mjs';

/** What people see in their phone's list of linked devices. */
const DEVICE = ['wahub', 'Chrome', '1.0.0'];
const RECEIPT_LOG = 'sending receipt for messages';

/**
 * @param {{settings: object, creds: object, keys: object, repository: Function, getMessage: Function, logger: object}} link
 */
export function socketOptions({ settings, creds, keys, repository, getMessage, logger }) {
	const options = {
		version: DEFAULT_CONNECTION_CONFIG.version,
		browser: DEVICE,
		auth: { creds, keys },
		logger,
		markOnlineOnConnect: false,
		emitOwnEvents: false,
		syncFullHistory: false,
		shouldSyncHistoryMessage: () => false,
		shouldIgnoreJid: jid => Boolean(isJidNewsletter(jid)),
		generateHighQualityLinkPreview: false,
		// The gateway repeats writes that are safe to repeat; here a failed one ends the link.
		transactionOpts: { maxCommitRetries: 1, delayBetweenTriesMs: 0 },
		makeSignalRepository: repository,
		getMessage,
		qrTimeout: qrTimes(settings.qr_first_ms, settings.qr_next_ms)
	};
	if (settings.wa_url) {
		options.waWebSocketUrl = settings.wa_url;
	}
	return options;
}

/**
 * How long each pairing code is shown. Baileys takes one number for all; it hands it to setTimeout once per code, which
 * turns it into a number by valueOf.
 */
function qrTimes(first, next) {
	let shown = 0;
	return { valueOf: () => (shown++ === 0 ? first : next) };
}

/**
 * Baileys' logger: passes on the constant texts of errors, masked, and nothing else.
 * @param {(text: string) => void} report
 * @param {() => void} beforeReceipt told before a receipt is written, for the fault point of that name only
 */
export function quietLogger(report, beforeReceipt) {
	const nothing = () => {};
	const logger = {
		level: 'silent',
		trace: nothing,
		debug: nothing,
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
			if (text === RECEIPT_LOG && details.attrs.type !== 'read') {
				beforeReceipt();
			}
		};
	}
	return logger;
}
