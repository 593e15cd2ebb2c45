// What strangers wrote may hold half a surrogate pair, which is no UTF-8: the other end could not read the frame. Nor can
// every database hold the character NUL. Ids and addresses inside of messages are written by strangers, too.

/** The same without them; bytes, and what needs no change, stay as they are. @template T @param {T} value @returns {T} */
export function clean(value) {
	if (typeof value === 'string') {
		return value.isWellFormed() && !value.includes('\0') ? value : value.toWellFormed().replaceAll('\0', '\ufffd');
	}
	if (!value || typeof value !== 'object' || ArrayBuffer.isView(value)) {
		return value;
	}
	let cleaned = value;
	for (const name of Object.keys(value)) {
		const item = clean(value[name]);
		if (item !== value[name]) {
			cleaned = cleaned === value ? copyOf(value) : cleaned;
			cleaned[name] = item;
		}
	}
	return cleaned;
}

const copyOf = value => (Array.isArray(value) ? [...value] : { ...value });
