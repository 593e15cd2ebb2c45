// Linking to a phone: by QR code or by a code typed into the phone, whichever comes first.
//
// A code lives as long as this connection. Its own life is not known (source: whatsmeow pair-code.go PairPhone: "the exact
// expiry of pairing codes is unknown", but the server closes the connection when its QR codes have run out, 160 s after the
// first: whatsmeow qrchan.go, Baileys Socket/socket.js genPairQR show 60 s + 5 × 20 s). So it is good until the last QR code of
// this round ends.
//
// Baileys writes the asked number into the credentials as if they were linked. Nothing is stored before a phone has
// confirmed (link.mjs saveCreds), so an attempt that is broken off leaves no trace.

import { createHmac } from 'node:crypto';
import { getBinaryNodeChild, getBinaryNodeChildren, proto } from 'baileys';
import { forgetPairing, isPaired } from './credentials.mjs';
import { within } from './people.mjs';

const ANSWER_PATIENCE_MS = 10_000;
const TIMED_OUT = 408;
/** A code is not offered for the last moments of a round. */
const LEAST_LIFE_MS = 1000;
const LINK_CODE = 'link_code_companion_reg';
/** Stands before the details of a hosted account when they are signed. */
const HOSTED_PREFIX = Buffer.of(6, 5);
/** WhatsApp takes only well-known systems here (source: whatsmeow pair-code.go PairPhone); a name of ours would be refused. */
const KNOWN_SYSTEM = 'Linux';

class Refused extends Error {}

export class Pairing {
	/** @param {import('./link.mjs').Link} link */
	constructor(link) {
		this.link = link;
		this.refs = 0;
		this.shown = 0;
		/** When the code that is shown ends. */
		this.deadline = 0;
		/** The code that a phone may type. @type {{phone: string, code: string} | null} */
		this.asked = null;
		/** What the QR codes of this round are made with; a typed code replaces it in the credentials. */
		this.qrSecret = null;
		/** A phone has confirmed: from now on only the server ends the connection, or somebody's patience. */
		this.confirmed = false;
		this.timer = null;
		this.line = Promise.resolve();
	}

	close() {
		clearTimeout(this.timer);
	}

	/** @param {object} ws Baileys' socket client */
	listen(ws) {
		ws.prependListener('CB:iq,type:set,pair-device', node => this.noteRefs(node));
		ws.prependListener(`CB:notification,,${LINK_CODE}`, () => (this.asked = null));
		ws.prependListener('CB:iq,,pair-success', node => this.chooseSecret(node));
	}

	// --- by QR code -----------------------------------------------------------------------------------------------------

	noteRefs(node) {
		this.qrSecret = this.link.creds.advSecretKey;
		this.refs += getBinaryNodeChildren(getBinaryNodeChild(node, 'pair-device'), 'ref').length;
	}

	showQr(text) {
		const { settings } = this.link.host;
		const ttl = this.shown === 0 ? settings.qr_first_ms : settings.qr_next_ms;
		this.shown += 1;
		this.deadline = this.link.host.now() + ttl;
		this.link.tell('qr', { text, ttl_ms: ttl });
		if (this.isLast(this.shown)) {
			this.timer = setTimeout(() => this.roundOver(), ttl);
		}
	}

	/** Whether no code of this round comes after that one. @param {number} number from 1 */
	isLast(number) {
		return this.refs > 0 && number >= this.refs;
	}

	/**
	 * As Baileys would end it, but not between a phone's confirmation and ours: the credentials are stored by then, and the
	 * server would refuse them for ever.
	 */
	roundOver() {
		if (!this.confirmed && !this.link.ended) {
			const error = Object.assign(new Error('QR refs attempts ended'), { output: { statusCode: TIMED_OUT } });
			Promise.resolve(this.link.sock?.end(error)).catch(() => {});
		}
	}

	/** A connection that dies has the same code; all codes shown and the last one's time over tells them apart. */
	usedUp(code) {
		return code === TIMED_OUT && this.shown > 0 && this.shown >= this.refs && this.link.host.now() >= this.deadline - 50;
	}

	/** A phone that scanned signs with the QR code's secret, one that typed a code with the secret made from it. */
	chooseSecret(node) {
		this.confirmed = true;
		const { creds } = this.link;
		const sealed = getBinaryNodeChild(getBinaryNodeChild(node, 'pair-success'), 'device-identity')?.content;
		const secret = [creds.advSecretKey, this.qrSecret].find(candidate => candidate && fits(sealed, candidate));
		if (secret) {
			creds.advSecretKey = secret;
		}
	}

	// --- by typed code --------------------------------------------------------------------------------------------------

	/** @param {{n: number, phone: string}} frame */
	async answer({ n, phone }) {
		const asked = this.line.then(() => this.codeFor(phone));
		this.line = asked.catch(() => {});
		try {
			const code = await asked;
			this.link.tell('pairing', { n, code, ttl_ms: this.left, reason: null });
		} catch (error) {
			const reason = error instanceof Refused ? error.message : 'link_lost';
			this.link.tell('pairing', { n, code: null, ttl_ms: 0, reason });
		}
	}

	/** What is left of this round, in ms. */
	get left() {
		const later = Math.max(0, this.refs - this.shown) * this.link.host.settings.qr_next_ms;
		return Math.max(0, this.deadline - this.link.host.now()) + later;
	}

	get waits() {
		const { ended, sock, creds } = this.link;
		return !ended && Boolean(sock?.ws.isOpen) && !isPaired(creds) && this.shown > 0 && this.left > LEAST_LIFE_MS;
	}

	async codeFor(phone) {
		if (!this.waits) {
			throw new Refused('not_waiting');
		}
		if (this.asked?.phone !== phone) {
			this.asked = null;
			this.asked = { phone, code: await this.newCode(phone) };
		}
		return this.asked.code;
	}

	async newCode(phone) {
		const { sock, creds, browser } = this.link;
		const [device] = browser;
		const answered = this.answerToNextQuery(sock);
		let answer;
		try {
			// Baileys reads the name of the system while it builds the question.
			browser[0] = KNOWN_SYSTEM;
			const code = await sock.requestPairingCode(phone);
			answer = await within(ANSWER_PATIENCE_MS, answered.node);
			if (answer?.attrs.type === 'result') {
				return code;
			}
		} finally {
			browser[0] = device;
			answered.forget();
			if (answer?.attrs.type !== 'result' && !isPaired(creds)) {
				forgetPairing(creds);
			}
		}
		const error = Number(getBinaryNodeChild(answer, 'error')?.attrs.code) || 0;
		throw new Refused(answer ? `refused_${error}` : 'no_answer');
	}

	/** Baileys sends the question without waiting for an answer; its id is the next of a row. */
	answerToNextQuery({ ws, generateMessageTag }) {
		const id = generateMessageTag().replace(/\d+$/, number => String(Number(number) + 1));
		let listener;
		const node = new Promise(resolve => ws.once(`TAG:${id}`, (listener = resolve)));
		return { node, forget: () => ws.off(`TAG:${id}`, listener) };
	}
}

function fits(sealed, secret) {
	try {
		const { details, hmac } = proto.ADVSignedDeviceIdentityHMAC.decode(sealed);
		const sign = bytes => createHmac('sha256', Buffer.from(secret, 'base64')).update(bytes).digest();
		return [details, Buffer.concat([HOSTED_PREFIX, details])].some(bytes => sign(bytes).equals(Buffer.from(hmac)));
	} catch {
		return false;
	}
}
