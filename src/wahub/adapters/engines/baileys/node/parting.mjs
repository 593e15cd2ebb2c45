// How Baileys' socket is closed and let go: left alone, it would wait for what no longer comes.

/** The library waits half a minute for the other side's farewell, which a dead network never brings. */
export function closeSoon(ws, patience) {
	const close = ws.close.bind(ws);
	ws.close = () => {
		const { socket } = ws;
		setTimeout(() => socket?.terminate(), patience).unref();
		return close();
	};
}

/** Let go of what Baileys would keep for a minute: the queries that still wait for an answer, with their timers. */
export function letGo(sock) {
	sock.ws.on('error', () => {});
	sock.ws.emit('error', new Error('link closed'));
	sock.ws.removeAllListeners();
	sock.ws.on('error', () => {});
	sock.ev.removeAllListeners('creds.update');
}
