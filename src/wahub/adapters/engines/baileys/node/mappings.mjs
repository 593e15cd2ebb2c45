// Which number and which LID are one person, told to the gateway as it is learned; once for each link, for Baileys notes it
// with every message.

import { digitsOf, isMe } from './stanzas.mjs';

const REMEMBERED = 2000;

export class Mappings {
	/** @param {{me: () => {id: string} | undefined, tell: (person: {phone: string, lid: string}) => void}} link */
	constructor(link) {
		this.link = link;
		/** LID by number. @type {Map<string, string>} */
		this.told = new Map();
	}

	/** @param {{lid: string, pn: string}[]} pairs JIDs, as Baileys has them: at times the other way round */
	note(pairs) {
		for (const { lid: one, pn: other } of pairs) {
			const { phone, lid } = digitsOf(one, other);
			if (phone && lid && !isMe(`${phone}@s.whatsapp.net`, this.link.me()) && this.told.get(phone) !== lid) {
				this.told.delete(phone);
				this.told.set(phone, lid);
				if (this.told.size > REMEMBERED) {
					this.told.delete(this.told.keys().next().value);
				}
				this.link.tell({ phone, lid });
			}
		}
	}
}
