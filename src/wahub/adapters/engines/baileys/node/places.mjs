// A number of places: whoever finds none waits for one, in the order of coming.

export class Places {
	/** @param {number} count */
	constructor(count) {
		this.free = count;
		/** @type {(() => void)[]} */
		this.waiting = [];
	}

	/** @returns {Promise<() => void>} gives the place back; call it once */
	async take() {
		if (this.free > 0) {
			this.free -= 1;
		} else {
			await new Promise(resolve => this.waiting.push(resolve));
		}
		return () => this.giveBack();
	}

	giveBack() {
		const next = this.waiting.shift();
		if (next) {
			next();
		} else {
			this.free += 1;
		}
	}
}
