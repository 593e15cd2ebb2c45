// Messages that businesses send by template: a text with buttons, a list, a card. What a person reads of them is a text, and
// perhaps a picture, a file or a place above it.

const HEADERS = ['imageMessage', 'videoMessage', 'documentMessage', 'locationMessage'];

/** By field: the part with the header, the text. */
const TEMPLATES = {
	buttonsMessage: content => [content, content.contentText || content.text],
	templateMessage: content => {
		const inner = content.hydratedTemplate ?? content.hydratedFourRowTemplate;
		const card = content.interactiveMessageTemplate;
		return inner ? [inner, inner.hydratedContentText || inner.hydratedTitleText] : card ? cardOf(card) : [content, null];
	},
	highlyStructuredMessage: content => TEMPLATES.templateMessage(content.hydratedHsm ?? {}),
	interactiveMessage: content => cardOf(content),
	listMessage: content => [content, content.description || content.title],
	productMessage: content => [content, content.body || content.product?.title],
	orderMessage: content => [content, content.message || content.orderTitle]
};

/**
 * @param {object} content a message out of its wrappers
 * @returns {{text: string | null, field?: string, bearer?: object, contextInfo?: object} | null} `field`: of what stands
 *   above the text; null when this is none of these messages, or says nothing
 */
export function fromBusiness(content) {
	const name = Object.keys(TEMPLATES).find(field => content[field]);
	if (!name) {
		return null;
	}
	const [part, text] = TEMPLATES[name](content[name]);
	const field = HEADERS.find(header => part?.[header]);
	return text || field ? { text: text || null, field, bearer: part?.[field], contextInfo: content[name].contextInfo } : null;
}

function cardOf(card) {
	return [card.header, card.body?.text || card.header?.title];
}
