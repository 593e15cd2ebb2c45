// The lease's term as a link sees it: nothing leaves after its end, and the link ends with it. The gateway extends it.

export class Term {
	/** @param {number} until ms of this process's clock @param {() => number} now @param {() => void} onOver */
	constructor(until, now, onOver) {
		this.until = until;
		this.now = now;
		this.onOver = onOver;
	}

	get isOver() {
		return this.now() >= this.until;
	}

	/** @param {number} until ms of this process's clock; an earlier time than before changes nothing */
	extend(until) {
		this.until = Math.max(this.until, until);
	}

	watch() {
		if (this.isOver) {
			this.onOver();
		} else {
			this.timer = setTimeout(() => this.watch(), Math.ceil(this.until - this.now()));
		}
	}

	close() {
		clearTimeout(this.timer);
	}
}
