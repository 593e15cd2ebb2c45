// Typing, as the people in a chat see it. WhatsApp shows it only of an account that is available, and an account that stays
// available gets no notifications on its phone: so it is available from the first chat that types to the last that stops,
// and at the latest until typing would no longer be shown.

/** Phones take typing for over after about 25 s. */
const FORGOTTEN_MS = 30_000;

export class Presence {
	/**
	 * @param {object} sock Baileys' socket
	 * @param {() => {id: string, name?: string}} me
	 * @param {boolean} stays whether the account is available all the time
	 */
	constructor(sock, me, stays = false) {
		this.sock = sock;
		this.me = me;
		this.stays = stays;
		this.available = false;
		this.typing = new Set();
		this.timer = null;
	}

	/** The link is open. Baileys, too, says that the account is online, but only of one with a push name. */
	start() {
		if (this.stays) {
			this.announce(true).catch(() => {});
		}
	}

	/** @param {string} chat JID @param {boolean} typing Rejects when the socket is closed. */
	async show(chat, typing) {
		if (typing) {
			this.typing.add(chat);
			clearTimeout(this.timer);
			this.timer = setTimeout(() => this.leave().catch(() => {}), FORGOTTEN_MS);
			this.timer.unref();
			await this.announce(true);
			await this.sock.sendPresenceUpdate('composing', chat);
		} else {
			this.typing.delete(chat);
			await this.sock.sendPresenceUpdate('paused', chat);
			if (this.typing.size === 0) {
				await this.leave();
			}
		}
	}

	close() {
		clearTimeout(this.timer);
	}

	leave() {
		this.typing.clear();
		clearTimeout(this.timer);
		return this.announce(this.stays);
	}

	/**
	 * Not by Baileys' own function: that sends nothing while no push name is known, and takes an available account for one
	 * whose owner reads along (source: Socket/chats.js sendPresenceUpdate). Without a name the number stands for it.
	 */
	async announce(available) {
		if (this.available === available) {
			return;
		}
		this.available = available;
		const { id, name } = this.me();
		const shown = (name || id.split(/[:@]/)[0]).replaceAll('@', '');
		await this.sock.sendNode({ tag: 'presence', attrs: { name: shown, type: available ? 'available' : 'unavailable' } });
	}
}
