// The keys by which members of a group encrypt, as they hand them out. Taken with the step that decrypted them
// (repository.mjs); when Baileys comes to it, it is done.

export class GroupKeys {
	/** @param {object} repository Baileys' */
	constructor(repository) {
		this.repository = repository;
		/** @type {Set<string>} */
		this.taken = new Set();
	}

	/** @param {object | null} message a message that may hold a key @param {string} author JID with its device */
	async take(message, author) {
		const item = message?.senderKeyDistributionMessage;
		if (!item?.groupId || !item.axolotlSenderKeyDistributionMessage?.length) {
			return;
		}
		try {
			await this.repository.processSenderKeyDistributionMessage({ authorJid: author, item });
			this.taken.add(nameOf(author, item));
		} catch {
			// No key at all: the message itself must not fail for it. Baileys tries again and says what is wrong.
		}
	}

	/** @param {{authorJid: string, item: object}} options */
	async process(options) {
		if (!this.taken.delete(nameOf(options.authorJid, options.item))) {
			await this.repository.processSenderKeyDistributionMessage(options);
		}
	}
}

function nameOf(author, { groupId, axolotlSenderKeyDistributionMessage: key }) {
	return `${author}|${groupId}|${Buffer.from(key ?? '').toString('base64')}`;
}
