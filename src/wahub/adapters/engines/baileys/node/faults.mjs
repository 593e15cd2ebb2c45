// Fault points (contract 0.11): the process that reaches the armed one kills itself, as a crash would. Only in test mode.

let point = null;
let remaining = 0;

/** @param {string | null} text `after_spool` or `after_spool:2` (the second time) */
export function arm(text) {
	const [name, nth] = (text ?? '').split(':');
	point = name || null;
	remaining = Number(nth ?? 1) || 1;
}

/** @param {string} name */
export function isArmed(name) {
	return point === name;
}

/** @param {string} name */
export function reach(name) {
	if (point === name && --remaining === 0) {
		process.kill(process.pid, 'SIGKILL');
	}
}
