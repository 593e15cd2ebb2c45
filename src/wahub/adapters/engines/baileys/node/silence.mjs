// Keeps the libraries quiet: libsignal prints whole session objects, private keys included ("Closing session: …").
// Imported before anything else, because a library may keep a reference to a console method when it is loaded.

for (const method of ['log', 'info', 'warn', 'error', 'debug', 'trace', 'dir', 'table', 'group', 'groupEnd', 'assert']) {
	console[method] = () => {};
}

// Baileys makes an error with its stack for every timer that it sets and cancels, several per message; one line is enough
// to say where a real one came from.
Error.stackTraceLimit = 1;

/** Shows an error as a log may carry it: its class and the first place in the stack, never its text. */
export function describe(error) {
	const name = error?.constructor?.name ?? typeof error;
	const place = String(error?.stack ?? '')
		.split('\n')
		.find(line => line.includes('.mjs') || line.includes('.js'));
	return place ? `${name} ${place.trim().replace(/\(?(file:\/\/)?\/.*\/(node_modules\/)?/, '')}` : name;
}

/** Takes out of a text whatever may be a phone number, a key or a code. */
export function mask(text) {
	return String(text)
		.slice(0, 200)
		.toWellFormed()
		.replace(/[A-Za-z0-9+/=_-]{24,}/g, '***')
		.replace(/\d{5,}/g, '***');
}
