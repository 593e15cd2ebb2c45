// The details of received messages: files, places, contact cards, polls, events. Each has all its keys; what is not known is
// null.

/** A whole number that JavaScript holds exactly, else null. @param {unknown} value a number or protobuf's Long */
function count(value) {
	const number = value === null || value === undefined ? NaN : Number(value);
	return Number.isSafeInteger(number) && number >= 0 ? number : null;
}

/** @param {string} kind image, video, audio, document or sticker */
export function mediaOf(kind, content, viewOnce) {
	return {
		kind,
		mime: content.mimetype || null,
		size: count(content.fileLength),
		sha256: content.fileSha256?.length ? Buffer.from(content.fileSha256).toString('hex') : null,
		fileName: content.fileName || null,
		seconds: count(content.seconds),
		width: count(content.width),
		height: count(content.height),
		voice: Boolean(content.ptt),
		animated: Boolean(content.gifPlayback || content.isAnimated || content.isLottie),
		viewOnce: viewOnce || Boolean(content.viewOnce)
	};
}

/** Degrees as texts without an exponent, at most seven decimals (a centimetre). */
export function placeOf(content) {
	return {
		latitude: degrees(content.degreesLatitude),
		longitude: degrees(content.degreesLongitude),
		name: content.name || null,
		address: content.address || null
	};
}

function degrees(value) {
	const rounded = Number.isFinite(value) && Math.abs(value) <= 360 ? value.toFixed(7).replace(/\.?0+$/, '') : null;
	return rounded === '-0' ? '0' : rounded;
}

/** @param {{displayName?: string, vcard?: string}[]} cards */
export function cardsOf(cards) {
	return cards.map(card => ({
		name: card.displayName || null,
		phones: phonesOf(card.vcard ?? ''),
		vcard: card.vcard || null
	}));
}

/** The digits of the numbers on a card. WhatsApp writes its own name of a number beside it (`waid`). */
function phonesOf(vcard) {
	const lines = vcard.replace(/\r?\n[ \t]/g, '').split(/\r?\n/);
	const found = lines.map(line => {
		const [, parameters, value] = /^(?:[\w-]+\.)?TEL([^:]*):(.*)$/i.exec(line) ?? [];
		return value === undefined ? '' : (/waid=(\d+)/i.exec(parameters)?.[1] ?? value.replace(/\D/g, ''));
	});
	return [...new Set(found.filter(Boolean))];
}

/** `selectable`: how many options one may choose, 0 for any number. */
export function pollOf(content) {
	return {
		name: content.name || null,
		options: content.options.map(option => option.optionName ?? ''),
		selectable: count(content.selectableOptionsCount) ?? 0
	};
}

/** `startTime`: Unix seconds. */
export function eventOf(content) {
	return {
		name: content.name || null,
		description: content.description || null,
		startTime: count(content.startTime),
		location: content.location ? placeOf(content.location) : null
	};
}
