// The credentials of an instance, as the gateway stores them.
//
// Only a finished pairing has an `account` (source: Baileys Utils/validate-connection.js configureSuccessfulPairing). Keys
// that no phone has linked are worth nothing, and a pairing by code that was broken off leaves a `me` without a device: such
// credentials are made anew. What is otherwise incomplete is damaged, and a link must not go on with fresh keys in its
// place: that would throw the account away.

import { BufferJSON, initAuthCreds } from 'baileys';

const KEY_BYTES = 32;

export class UnreadableCredentials extends Error {}

/** @param {Buffer | null} stored @returns {object} fresh ones when nothing of worth is stored */
export function readCredentials(stored) {
	if (stored === null || stored === undefined) {
		return initAuthCreds();
	}
	const creds = parsed(stored);
	if (!isComplete(creds)) {
		throw new UnreadableCredentials();
	}
	return isPaired(creds) ? creds : initAuthCreds();
}

/** Whether a phone has linked it. @param {object} creds */
export function isPaired(creds) {
	return Boolean(creds?.account && creds.me?.id);
}

/** Take back what a pairing by code wrote into them. @param {object} creds */
export function forgetPairing(creds) {
	delete creds.me;
	delete creds.pairingCode;
	creds.registered = false;
}

function parsed(stored) {
	try {
		return JSON.parse(stored.toString('utf8'), BufferJSON.reviver);
	} catch {
		throw new UnreadableCredentials();
	}
}

function isComplete(creds) {
	const pairs = [creds?.noiseKey, creds?.signedIdentityKey, creds?.signedPreKey?.keyPair];
	const whole = pairs.every(pair => isKey(pair?.private) && isKey(pair?.public)) && typeof creds.advSecretKey === 'string';
	return whole && (isPaired(creds) || !creds.me?.id?.includes(':'));
}

function isKey(value) {
	return value instanceof Uint8Array && value.length === KEY_BYTES;
}
