// What strangers wrote may hold half a surrogate pair, which is no UTF-8: the other end could not read the frame. Nor can
// every database hold the character NUL. Ids and addresses inside of messages are written by strangers, too.

/** The same without them; bytes stay as they are. @template T @param {T} value @returns {T} */
export function clean(value) {
	if (typeof value === 'string') {
		return value.toWellFormed().replaceAll('\0', '\ufffd');
	}
	if (Array.isArray(value)) {
		return value.map(clean);
	}
	return value && typeof value === 'object' && !ArrayBuffer.isView(value)
		? Object.fromEntries(Object.entries(value).map(([name, item]) => [name, clean(item)]))
		: value;
}
