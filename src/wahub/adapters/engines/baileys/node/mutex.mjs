// One at a time per key, in order of arrival; a key costs nothing while nobody uses it.

export class KeyedMutex {
	constructor() {
		this.tails = new Map();
	}

	/**
	 * @template T
	 * @param {string} key
	 * @param {() => Promise<T>} task
	 * @returns {Promise<T>}
	 */
	async run(key, task) {
		const before = this.tails.get(key);
		let release;
		const tail = new Promise(resolve => (release = resolve));
		this.tails.set(key, tail);
		if (before) {
			await before;
		}
		try {
			return await task();
		} finally {
			if (this.tails.get(key) === tail) {
				this.tails.delete(key);
			}
			release();
		}
	}
}
